"""Which applications with a ready-made recipe run on this machine, read from ``/proc``.

Processes are told by the name of their program; children of the same program are part of it. Where
it listens is read from the sockets it has open, so that its own settings need not be understood.
"""

from __future__ import annotations

import fnmatch
import os
import socket
import struct
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, List, Set, Tuple

PROGRAMS = {
    "postgres": "postgresql",
    "mariadbd": "mariadb",
    "mysqld": "mysql",
    "redis-server": "redis",
    "valkey-server": "redis",
    "mongod": "mongodb",
}
_DATA = {
    "mariadb": ("ibdata*", "ib_logfile*", "undo*", "*.ibd", "aria_log*"),
    "mysql": ("ibdata*", "ib_logfile*", "#ib_redo*", "undo_*", "*.ibd"),
    "mongodb": ("*.wt", "WiredTigerLog*"),
}
"""Open files that hold data; where the process stands is a place of data, too, but for MongoDB."""
_LISTENS = 0x10000  # in /proc/net/unix
_TCP_LISTEN = "0A"
MOST = 32


@dataclass(frozen=True)
class Found:
    """One running application. ``places``: directories of its data; ``ports``: (address, port)."""

    recipe: str
    program: str
    user: str  # a number
    directory: str
    places: Tuple[str, ...] = ()
    sockets: Tuple[str, ...] = ()
    ports: Tuple[Tuple[str, int], ...] = ()
    contained: bool = False  # it runs in a container, where the host's clients don't reach it


def find_applications(proc: Path = Path("/proc")) -> List[Found]:
    """In the order of their start; processes that end meanwhile are left out."""
    kinds: Dict[int, str] = {}
    parents: Dict[int, int] = {}
    for entry in proc.iterdir():
        if entry.name.isdigit():
            with suppress(OSError, ValueError, IndexError):
                kind = _kind(entry)
                if kind:
                    kinds[int(entry.name)] = kind
                    stat = (entry / "stat").read_text().rpartition(")")[2].split()
                    parents[int(entry.name)] = int(stat[1])
    found = []
    for pid in sorted(kinds):
        if kinds.get(parents.get(pid, 0)) == kinds[pid]:
            continue
        with suppress(OSError):
            found.append(_look(proc, pid, kinds[pid]))
    return found[:MOST]


def _kind(entry: Path) -> str:
    """Debian's redis-server is a link to another program, so the name it was started by counts."""
    known = PROGRAMS.get(Path(_program(entry)).name)
    return known or PROGRAMS.get((entry / "comm").read_text().strip(), "")


def _program(entry: Path) -> str:
    return os.fspath((entry / "exe").readlink()).replace(" (deleted)", "")  # after an update


def _look(proc: Path, pid: int, kind: str) -> Found:
    entry = proc / str(pid)
    directory = str((entry / "cwd").readlink())
    files, inodes = _open_files(entry)
    places = [] if kind == "mongodb" else [directory]
    for name in files:
        file = Path(name)
        if any(fnmatch.fnmatch(file.name, one) for one in _DATA.get(kind, ())):
            places.append(str(file.parent))
    if kind == "postgresql":
        places += _elsewhere(Path(directory))
    return Found(
        kind,
        _program(entry),
        str(entry.stat().st_uid),
        directory,
        tuple(dict.fromkeys(places)),
        tuple(_unix_sockets(entry, inodes)),
        tuple(_tcp_ports(entry, inodes)),
        (entry / "ns/pid").readlink() != (proc / "self/ns/pid").readlink(),
    )


def _open_files(entry: Path) -> Tuple[Set[str], Set[str]]:
    """Names of open files, and inodes of open sockets."""
    files, inodes = set(), set()
    for one in (entry / "fd").iterdir():
        with suppress(OSError):
            name = str(one.readlink())
            if name.startswith("socket:["):
                inodes.add(name[8:-1])
            elif name.startswith("/"):
                files.add(name)
    return files, inodes


def _elsewhere(directory: Path) -> List[str]:
    """What PostgreSQL keeps through links outside of its directory: its log, and tablespaces."""
    links = [directory / "pg_wal"]
    with suppress(OSError):
        links += list((directory / "pg_tblspc").iterdir())
    return [os.path.realpath(one) for one in links]


def _unix_sockets(entry: Path, inodes: Set[str]) -> List[str]:
    found = []
    for line in (entry / "net/unix").read_text(errors="surrogateescape").splitlines()[1:]:
        fields = line.split(maxsplit=7)
        if len(fields) < 8 or not fields[7].startswith("/"):
            continue
        if int(fields[3], 16) & _LISTENS and fields[6] in inodes:
            found.append(fields[7])
    return sorted(found)


def _tcp_ports(entry: Path, inodes: Set[str]) -> List[Tuple[str, int]]:
    found = []
    for table in ("tcp", "tcp6"):
        with suppress(OSError):
            for line in (entry / "net" / table).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == _TCP_LISTEN and fields[9] in inodes:
                    address, _, port = fields[1].partition(":")
                    found.append((_address(address), int(port, 16)))
    return found


def _address(text: str) -> str:
    """From the kernel's words in the machine's byte order; one that means all becomes the own."""
    words = [int(text[at : at + 8], 16) for at in range(0, len(text), 8)]
    packed = struct.pack(f"={len(words)}I", *words)
    if not any(packed):
        return "127.0.0.1" if len(words) == 1 else "::1"
    return socket.inet_ntop(socket.AF_INET if len(words) == 1 else socket.AF_INET6, packed)
