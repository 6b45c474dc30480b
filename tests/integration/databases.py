"""Real databases in private directories, run as an unprivileged user, and someone who writes.

Nothing of the machine's own services is touched: own data, own sockets, no network. Each database
can be started again on a copy of its data, as a stand-in would.
"""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO

from agent_receiver import command, loop_device, mounted, partition
from source_machine import GPT, MIB, NEW_EXT4

from notfall_lab.patience import PATIENCE_S, until_soon

NOBODY = pwd.getpwnam("nobody")
READY_SECONDS = 60.0


def newest(pattern: str) -> Path:
    return max(Path("/").glob(pattern), default=Path("/nowhere"))


POSTGRES = newest("usr/lib/postgresql/*/bin")


def own(place: Path) -> Path:
    place.mkdir(exist_ok=True)
    os.chown(place, NOBODY.pw_uid, NOBODY.pw_gid)
    return place


def as_nobody(
    *arguments: object, stdin: int = subprocess.DEVNULL, out: IO[str] | int, cwd: object = "/"
) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [str(one) for one in arguments],
        user=NOBODY.pw_uid,
        group=NOBODY.pw_gid,
        extra_groups=[],
        stdin=stdin,
        stdout=out,
        stderr=subprocess.DEVNULL if isinstance(out, int) else out,
        text=True,
        cwd=str(cwd),
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/nonexistent", "LC_ALL": "C"},
    )


class Session:
    """A client that is told lines and answers each with the number in it."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        assert process.stdin is not None
        assert process.stdout is not None
        self._to: IO[str] = process.stdin
        self._from: IO[str] = process.stdout

    def ask(self, line: str) -> str:
        self._to.write(line + "\n")
        self._to.flush()
        return self._from.readline().strip()

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        for one in (self._to, self._from):
            with suppress(OSError):  # it ended by itself
                one.close()
        self._process.wait(PATIENCE_S)


class Database:
    """``place`` is its data, ``sockets`` a directory of its own beside the disks."""

    name = ""
    ping = ("SELECT 1;", "1")

    def __init__(self, place: Path, sockets: Path) -> None:
        self.place = place
        self.sockets = own(sockets)
        self.process: subprocess.Popen[str] | None = None

    def create(self) -> None:
        """Make an empty database."""

    def _line(self) -> list[object]:
        raise NotImplementedError

    def session(self) -> Session:
        raise NotImplementedError

    def table(self) -> None:
        """Make what :meth:`write` writes to."""

    def write(self, session: Session, number: int) -> str:
        """One transaction in two places; the answer is the number once it is acknowledged."""
        raise NotImplementedError

    def numbers(self) -> list[list[int]]:
        """What is in each of the places."""
        raise NotImplementedError

    def start(self) -> None:
        log = (self.sockets / "log").open("a")
        with log:
            self.process = as_nobody(*self._line(), out=log, cwd=self.place)
        end = time.monotonic() + READY_SECONDS
        while not self.answers():
            told = (self.sockets / "log").read_text()
            assert self.process.poll() is None, told
            assert time.monotonic() < end, told
            time.sleep(0.05)

    def answers(self) -> bool:
        try:
            with self.session() as session:
                return session.ask(self.ping[0]) == self.ping[1]
        except OSError:
            return False

    def stop(self) -> None:
        """At once, as it is."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


class Postgres(Database):
    name = "postgresql"

    def create(self) -> None:
        made = as_nobody(
            POSTGRES / "initdb", "-D", self.place, "-A", "trust", "-N", "--no-locale",
            "--wal-segsize=1", out=subprocess.DEVNULL,
        )  # fmt: skip
        assert made.wait(PATIENCE_S) == 0

    def _line(self) -> list[object]:
        given = ["listen_addresses=", f"unix_socket_directories={self.sockets}"]
        given += ["shared_buffers=8MB", "max_wal_size=32MB"]
        return [POSTGRES / "postgres", "-D", self.place, *(x for one in given for x in ("-c", one))]

    def session(self) -> Session:
        line = [POSTGRES / "psql", "-X", "-q", "-A", "-t", "-d", "postgres", "-h", self.sockets]
        return Session(as_nobody(*line, stdin=subprocess.PIPE, out=subprocess.PIPE))

    def table(self) -> None:
        with self.session() as session:
            session.ask("CREATE TABLE a (n int PRIMARY KEY); CREATE TABLE b (n int); SELECT 1;")

    def write(self, session: Session, number: int) -> str:
        insert = f"INSERT INTO a VALUES ({number}); INSERT INTO b VALUES ({number});"
        return session.ask(f"BEGIN; {insert} COMMIT; SELECT {number};")

    def numbers(self) -> list[list[int]]:
        numbers = "SELECT string_agg(n::text, ' ' ORDER BY n) FROM {};"
        with self.session() as session:
            found = [session.ask(numbers.format(name)).split() for name in "ab"]
        return [[int(one) for one in numbers] for numbers in found]

    def stop(self) -> None:
        if self.process is not None:
            self.process.send_signal(3)  # its children go, too
            self.process.wait(PATIENCE_S)
            self.process = None


class Mariadb(Database):
    """Two transactional tables, and one of an engine that does not survive a crash as such."""

    name = "mariadb"

    def create(self) -> None:
        made = as_nobody(
            "mariadb-install-db", "--no-defaults", f"--datadir={self.place}", "--skip-test-db",
            "--auth-root-authentication-method=normal", "--innodb-log-file-size=8M",
            "--innodb-flush-log-at-trx-commit=0", out=subprocess.DEVNULL,
        )  # fmt: skip
        assert made.wait(PATIENCE_S) == 0

    def _line(self) -> list[object]:
        return [
            "mariadbd", "--no-defaults", f"--datadir={self.place}", "--skip-networking",
            f"--socket={self.sockets}/my.sock", f"--pid-file={self.sockets}/pid",
            "--innodb-log-file-size=8M", "--innodb-buffer-pool-size=16M",
        ]  # fmt: skip

    def session(self) -> Session:
        line = ["mariadb", "--no-defaults", "--batch", "--skip-column-names", "--unbuffered"]
        line += ["--user=root", f"--socket={self.sockets}/my.sock"]
        return Session(as_nobody(*line, stdin=subprocess.PIPE, out=subprocess.PIPE))

    def table(self) -> None:
        make = "CREATE TABLE d.{} (n int PRIMARY KEY) ENGINE={};"
        tables = [("a", "InnoDB"), ("b", "InnoDB"), ("c", "MyISAM")]
        tables_made = "".join(make.format(*one) for one in tables)
        with self.session() as session:
            session.ask(f"CREATE DATABASE d; {tables_made} SELECT 1;")

    def write(self, session: Session, number: int) -> str:
        insert = "".join(f"INSERT INTO d.{name} VALUES ({number});" for name in "ab")
        late = f"INSERT INTO d.c VALUES ({number});"
        return session.ask(f"BEGIN; {insert} COMMIT; {late} SELECT {number};")

    def numbers(self) -> list[list[int]]:
        numbers = "SELECT GROUP_CONCAT(n ORDER BY n SEPARATOR ' ') FROM d.{};"
        with self.session() as session:
            assert session.ask("CHECK TABLE d.c;").split("\t")[2:] == ["status", "OK"]
            session.ask("SET SESSION group_concat_max_len = 100000000; SELECT 1;")
            found = [session.ask(numbers.format(name)).split() for name in "abc"]
        return [[int(one) for one in numbers] for numbers in found]


class RedisSession(Session):
    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        try:
            self._socket.connect(str(path))
        except OSError:
            self._socket.close()
            raise
        self._to = self._socket.makefile("w")
        self._from = self._socket.makefile("r")

    def close(self) -> None:
        for one in (self._to, self._from, self._socket):
            one.close()


class Redis(Database):
    """``append``: with an append-only file instead of snapshots."""

    name = "redis"
    ping = ("STRLEN nothing", ":0")

    def __init__(self, place: Path, sockets: Path, append: bool = False) -> None:
        super().__init__(place, sockets)
        self.append = append

    def _line(self) -> list[object]:
        program = self.sockets / "redis-server"  # what Debian's link of this name leads to
        if not program.is_symlink():
            program.symlink_to("/usr/bin/redis-check-rdb")
        line = [program, "--port", "0", "--unixsocket", self.sockets / "redis.sock", "--dir"]
        return [
            *line,
            self.place,
            "--save",
            "3600 1",
            "--appendonly",
            "yes" if self.append else "no",
        ]

    def session(self) -> Session:
        return RedisSession(self.sockets / "redis.sock")

    def write(self, session: Session, number: int) -> str:
        return session.ask(f"RPUSH a {number}").removeprefix(":")

    def numbers(self) -> list[list[int]]:
        told = command("redis-cli", "-s", self.sockets / "redis.sock", "LRANGE", "a", "0", "-1")
        return [[int(one) for one in told.split()]]


class Writer:
    """Writes numbers one after the other until stopped; remembers when each was acknowledged."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._write)
        self.acknowledged: list[float] = []  # of number 1, 2 ...

    def _write(self) -> None:
        with self._database.session() as session:
            while not self._over.is_set():
                number = len(self.acknowledged) + 1
                if self._database.write(session, number) != str(number):
                    break
                self.acknowledged.append(time.time())

    def before(self, moment: float) -> int:
        """The last number that was acknowledged before."""
        return sum(1 for one in self.acknowledged if one < moment)

    def goes_on(self, count: int) -> None:
        """Within seconds more is acknowledged than this."""
        until_soon(lambda: len(self.acknowledged) > count + 10, 5)

    def __enter__(self) -> Writer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(60)
        assert not self._thread.is_alive()


class Host:
    """Two disks with an ext4 each, in a directory that everybody may enter."""

    def __init__(self, cleanup: ExitStack) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="notfall-databases-", dir="/tmp"))
        cleanup.callback(shutil.rmtree, self.root)
        self.root.chmod(0o755)
        self.disks = []
        self.places = []
        for name in ("one", "two"):
            partition(self.root / f"{name}.img", 400 * MIB, GPT.replace("150M", "390M"))
            device = cleanup.enter_context(loop_device(self.root / f"{name}.img"))
            command("mkfs.ext4", *NEW_EXT4, f"{device}p1")
            place = cleanup.enter_context(mounted(f"{device}p1", self.root / name))
            self.disks.append(device)
            self.places.append(place)

    def data(self, disk: int, name: str) -> Path:
        place = own(self.places[disk] / name)
        place.chmod(0o700)
        return place


@contextmanager
def copied(image: Path, root: Path) -> Iterator[Path]:
    """A version's filesystem, writable, from a copy of its image."""
    copy = root / f"copy-{image.name}"
    shutil.copy(image, copy)
    with loop_device(copy) as device, mounted(f"{device}p1", root / f"{copy.stem}-fs") as place:
        yield place
