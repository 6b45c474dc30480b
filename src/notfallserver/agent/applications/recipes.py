"""How ready-made applications are held. Pure: what was found -> commands.

- PostgreSQL recovers by its own log from any snapshot of all its files taken at one instant
  (manual, "File System Level Backup"), and the filesystems freeze together. So it never stops: a
  checkpoint before keeps the recovery on the stand-in short, and a message in the log, written
  through, takes what was committed asynchronously with it.
- MariaDB: ``BACKUP STAGE BLOCK_COMMIT``, made for snapshots; MySQL: ``FLUSH TABLES WITH READ
  LOCK``. Both locks live in the client's session and end with it, also when the client is killed.
- Redis: see ``redis``. MongoDB: ``fsyncLock`` and ``fsyncUnlock``.

Any local user can run a program of these names. So clients run as the user of the server they talk
to; the one that must be root reads no settings (and thus no password) unless a person named the
recipe in the agent's settings, and never sends a file.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Callable, Dict, List, Mapping, Sequence, Tuple

from notfallserver.agent.applications.application import Application
from notfallserver.agent.applications.find import Found
from notfallserver.agent.applications.settings import Own

Which = Callable[[Sequence[str], str], str]
"""From names of clients and a directory to look in first: the client's path; empty: none."""
Start = Callable[[str, Sequence[str]], List[str]]
"""The command line that runs one of our own modules."""

_LOG_THROUGH = (
    "SELECT CASE WHEN pg_is_in_recovery() THEN NULL"
    " ELSE pg_logical_emit_message(true, 'notfall-agent', '') END"
)
_CLIENTS: Dict[str, Tuple[str, ...]] = {
    "postgresql": ("psql",),
    "mariadb": ("mariadb", "mysql"),
    "mysql": ("mysql", "mariadb"),
    "redis": ("redis-cli", "valkey-cli"),
    "mongodb": ("mongosh", "mongo"),
}


def by_recipe(found: Found, wish: Own, limit: float, which: Which, start: Start) -> Application:
    """How to hold what was found; with an obstacle where that is not possible.

    ``wish`` is what the settings say of the recipe; its ``recipe`` is empty when they say nothing.
    """
    name = f"{found.recipe} {found.directory}"
    application = Application(
        name,
        user=found.user,
        environment=wish.environment,
        prepare_seconds=wish.prepare_seconds,
        freeze_seconds=wish.freeze_seconds,
        thaw_seconds=wish.thaw_seconds,
        required=wish.required,
    )
    if found.contained:
        return replace(
            application,
            obstacle="It runs in a container: give commands of your own that hold it.",
        )
    as_root = found.recipe in ("mariadb", "mysql")
    client = which(_CLIENTS[found.recipe], "" if as_root else str(Path(found.program).parent))
    if not client:
        missing = " or ".join(_CLIENTS[found.recipe])
        return replace(application, obstacle=f"Its client is not installed ({missing}).")
    if not _reached(found):
        return replace(application, obstacle="It listens nowhere, so nothing can be told to it.")
    if as_root:
        return _mysql(application, found, client, bool(wish.recipe))
    if found.recipe == "redis":
        return _redis(application, found, client, limit, start)
    return _RECIPES[found.recipe](application, found, client)


def _reached(found: Found) -> bool:
    if found.recipe in ("mariadb", "mysql"):
        return bool(_mysql_socket(found))
    return bool(found.sockets or found.ports)


def _postgresql(application: Application, found: Found, client: str) -> Application:
    if found.sockets:  # <directory>/.s.PGSQL.<port>
        host, _, name = found.sockets[0].rpartition("/")
        port = name.rpartition(".")[2]
    else:
        host, port = found.ports[0][0], str(found.ports[0][1])
    quiet = ("-X", "-w", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1")
    line = (client, *quiet, "-d", "postgres", "-h", host, "-p", port)
    through = ("-c", "SET synchronous_commit = local", "-c", _LOG_THROUGH)
    return replace(application, prepare=(*line, "-c", "CHECKPOINT"), freeze=(*line, *through))


def _mysql_socket(found: Found) -> str:
    """Its socket for clients, not the one of MySQL's X protocol."""
    usual = [one for one in found.sockets if "mysqlx" not in Path(one).name]
    return usual[0] if usual else ""


def _mysql(application: Application, found: Found, client: str, trusted: bool) -> Application:
    wait = max(1, int(application.freeze_seconds / 2))  # so that a long query doesn't stop others
    lock = (
        "BACKUP STAGE START; BACKUP STAGE BLOCK_COMMIT;"
        if found.recipe == "mariadb"
        else "FLUSH TABLES WITH READ LOCK;"
    )
    first = () if trusted else ("--no-defaults",)
    line = (client, *first, "--batch", "--skip-column-names", "--unbuffered", "--local-infile=0")
    return replace(
        application,
        user="",  # root of the system is root of the database
        hold=(*line, f"--socket={_mysql_socket(found)}"),
        say=f"SET SESSION lock_wait_timeout = {wait}; {lock} SELECT 'held';\n",
    )


def _redis(
    application: Application, found: Found, client: str, limit: float, start: Start
) -> Application:
    if found.sockets:
        where = ["-s", found.sockets[0]]
    else:
        where = ["-h", found.ports[0][0], "-p", str(found.ports[0][1])]
    line = [found.user, f"{limit + 5:g}", client, *where]
    return replace(
        application,
        user="",  # our own module, which runs the client as this user
        prepare=tuple(start("applications.redis", ["prepare", *line])),
        hold=tuple(start("applications.redis", ["hold", *line])),
    )


def _mongodb(application: Application, found: Found, client: str) -> Application:
    usual = [one for one in found.ports if one[0] in ("127.0.0.1", "::1")] or list(found.ports)
    where = ("--host", usual[0][0], "--port", str(usual[0][1])) if usual else ()
    line = (client, "--quiet", "--norc", *where, "--eval")
    return replace(
        application,
        freeze=(*line, "if (!db.fsyncLock().ok) quit(1)"),
        thaw=(*line, "if (db.currentOp().fsyncLock && !db.fsyncUnlock().ok) quit(1)"),
    )


_RECIPES: Mapping[str, Callable[[Application, Found, str], Application]] = {
    "postgresql": _postgresql,
    "mongodb": _mongodb,
}
