"""The SQLite file: engine, transactions, migrations.

WAL with full fsync: what a call has written survives a power cut. A writer takes the write lock
when it begins (``BEGIN IMMEDIATE``), so that a transaction which read before it wrote never fails
half way; readers never wait for writers. Transactions are short: no command, no network inside.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from shutil import disk_usage
from typing import Any

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL
from sqlalchemy.exc import DatabaseError
from sqlalchemy.pool import QueuePool

from notfallserver.server.records.events import EventBus
from notfallserver.wire.errors import NotfallError

MIGRATIONS = Path(__file__).parent / "migrations"
WAIT_S = 20
DISK_FULL = "disk-full"
_NO_SPACE = 256 << 10


def now() -> datetime:
    return datetime.now(UTC)


class Database:
    """One SQLite file; safe from threads and beside another process."""

    def __init__(self, path: Path) -> None:
        self.events = EventBus()
        self._writer = threading.Lock()
        self._path = path
        self._engine = _engine(path)
        try:
            with self._disk_may_be_full():
                _migrate(self._engine)
        except NotfallError:
            self._engine.dispose()
            raise
        except DatabaseError as error:
            self._engine.dispose()
            raise NotfallError(
                "broken-catalogue",
                f"The catalogue {path} cannot be opened: {error.orig}.",
                "Move the file away and start again: primaries are found again in the pool.",
                status=500,
            ) from None
        path.chmod(0o600)

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        with self._engine.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def writing(self, lasting: bool = True) -> Iterator[Connection]:
        """One transaction: all of the block, or nothing of it.

        ``lasting``: on the disk when it ends. What is said anew every few seconds may be lost in a
        power cut (never torn): else polls wait for a disk that is busy with images.
        """
        with (
            self._writer,
            self._disk_may_be_full(),
            self._engine.connect() as connection,
        ):
            connection.execution_options(writing=True, lasting=lasting)
            with connection.begin():
                yield connection

    @contextmanager
    def _disk_may_be_full(self) -> Iterator[None]:
        """Tell in words that there is no space left: the catalogue is whole, and as it was."""
        try:
            yield
        except DatabaseError as error:
            if not self._is_full(error):
                raise
            raise NotfallError(
                DISK_FULL,
                f"The disk that holds {self._path.parent} is full, so nothing can be noted.",
                "Make room on it, or give it more space; then it goes on.",
                retry=True,
                status=507,
            ) from None

    def _is_full(self, error: DatabaseError) -> bool:
        """SQLite says so of its files, but of what it keeps beside them only that it can't."""
        code = getattr(error.orig, "sqlite_errorcode", 0)
        if code == sqlite3.SQLITE_FULL:
            return True
        failed = code & 0xFF in (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN)
        return failed and disk_usage(self._path.parent).free < _NO_SPACE

    def close(self) -> None:
        self._engine.dispose()


def _engine(path: Path) -> Engine:
    engine = create_engine(
        URL.create("sqlite", database=str(path)),
        connect_args={"timeout": WAIT_S, "check_same_thread": False, "isolation_level": None},
        poolclass=QueuePool,
        pool_size=8,
        max_overflow=64,
    )

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _record: Any) -> None:
        for line in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {line}").close()

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        options = connection.get_execution_options()
        writing = options.get("writing", False)
        if writing:
            kept = "FULL" if options.get("lasting", True) else "NORMAL"
            connection.exec_driver_sql(f"PRAGMA synchronous={kept}")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")

    return engine


def _migrate(engine: Engine) -> None:
    """Bring the schema to this program's version, all steps in one transaction."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    with engine.connect() as connection:
        connection.execution_options(writing=True)
        with connection.begin():
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
