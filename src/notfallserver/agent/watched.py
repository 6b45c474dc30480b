"""Which files are watched on Linux, and how they look now; see ``watching.py``.

Nothing is remembered: a file is found by a way down from the root that only names decide. At each
directory the way goes to the entry whose name, mixed with the number of the way, gives the smallest
value; so many ways lead to many files, to the same ones each time, whatever else comes and goes.
Only a name up to its first point counts: ``plan.ods.locked`` is found where ``plan.ods`` was.
Bounded in number and time; what can't be read is left out, and nothing of it may fail a run.
"""

from __future__ import annotations

import os
import stat
import time
import zlib
from typing import Any, Dict, Iterable, Iterator, List, Optional, Tuple

from notfallserver.agent.disks.mounts import Mount, current_mounts, disks_below
from notfallserver.agent.sample import ADAPTED, KINDS
from notfallserver.agent.watching import FILES, LONGEST, PIECE, WITHIN_S, stem_of, told

LISTED = 4000
"""So many entries of a directory, and no more."""
DEPTH = 16
TRIES = 3
"""So many entries of a directory are tried: the first may be empty."""
SIBLINGS = 3
PROGRAMS = (
    *("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/snap", "/nix", "/gnu"),
    *("/var/lib/dpkg", "/var/lib/apt", "/var/lib/rpm", "/var/lib/snapd", "/var/lib/docker"),
    *("/var/lib/postgresql", "/var/lib/mysql", "/var/lib/mongodb"),
    *("/var/lib/containers", "/var/lib/flatpak", "/var/lib/systemd", "/var/spool", "/lost+found"),
)
"""What updates change; and databases: many files that say little, their blocks say more."""
_GOLDEN = 0x9E3779B1


class _Entry:
    """One of a directory; ``mark`` is what its name gives."""

    __slots__ = ("directory", "mark", "name", "stem")

    def __init__(self, name: str, directory: bool) -> None:
        self.name = name
        self.directory = directory
        self.stem = name if directory else stem_of(name)
        self.mark = zlib.crc32(self.stem.encode("utf-8", "surrogateescape"))


def look_at_files(disks: Iterable[int]) -> List[Dict[str, Any]]:
    """Files of the filesystems on these disks (device numbers), as they are told."""
    until = time.monotonic() + WITHIN_S
    protected = frozenset(disks)
    places: Dict[int, Mount] = {}
    for mount in current_mounts():
        if mount.kind in KINDS and mount.writable and disks_below(mount.device, protected):
            places.setdefault(mount.device, mount)
    count = max(1, len(places))
    found: List[Dict[str, Any]] = []
    for number, mount in enumerate(places.values()):
        share = time.monotonic() + max(0.0, until - time.monotonic()) / (count - number)
        found += _Ways(mount, share).files(-(-FILES // count))
    return found[:FILES]


class _Ways:
    """All ways down from one mount."""

    def __init__(self, mount: Mount, until: float) -> None:
        self._mount = mount
        self._until = until
        self._device = -1
        self._listed: Dict[str, List[_Entry]] = {}

    def files(self, most: int) -> List[Dict[str, Any]]:
        found: Dict[str, Dict[str, Any]] = {}
        try:
            self._device = os.lstat(self._mount.place).st_dev
        except OSError:
            return []
        for way in range(most * 3):
            if len(found) >= most or time.monotonic() > self._until:
                break
            for path in self._down(self._mount.place, way, DEPTH):
                if path not in found and (one := self._look(path)) is not None:
                    found[path] = one
        return list(found.values())[:most]

    def _down(self, place: str, way: int, depth: int) -> List[str]:
        """The files at the end of a way; several if they only differ by extension."""
        entries = self._entries(place)
        salt = (way * _GOLDEN + depth) & 0xFFFFFFFF

        def order(one: _Entry) -> Tuple[int, str]:
            return ((one.mark ^ salt) * _GOLDEN & 0xFFFFFFFF, one.stem)

        for entry in sorted(entries, key=order)[:TRIES] if depth else ():
            path = f"{place.rstrip('/')}/{entry.name}"
            if not entry.directory:
                alike = sorted(
                    one.name for one in entries if not one.directory and one.stem == entry.stem
                )
                return [f"{place.rstrip('/')}/{one}" for one in alike[:SIBLINGS]]
            if below := self._down(path, way, depth - 1):
                return below
        return []

    def _entries(self, place: str) -> List[_Entry]:
        if place not in self._listed:
            self._listed[place] = list(self._list(place))
        return self._listed[place]

    def _list(self, place: str) -> Iterator[_Entry]:
        try:
            if os.lstat(place).st_dev != self._device:
                return
            with os.scandir(place) as entries:
                for number, one in enumerate(entries):
                    if number >= LISTED or time.monotonic() > self._until:
                        return
                    directory = one.is_dir(follow_symlinks=False)
                    known = directory or one.is_file(follow_symlinks=False)
                    if known and not _is_left_out(one.path):
                        yield _Entry(one.name, directory)
        except OSError:
            return

    def _look(self, path: str) -> Optional[Dict[str, Any]]:
        inside = os.path.normpath(f"{self._mount.root}/{os.path.relpath(path, self._mount.place)}")
        shown = "/" + inside.lstrip("/")
        try:
            if len(shown.encode()) > LONGEST:  # a name that is no UTF-8 can't be told either
                return None
            size, head, middle = _pieces(path)
        except (OSError, UnicodeEncodeError):
            return None
        if not size:
            return None
        folder, name = os.path.split(shown)
        named = (self._mount.place, f"{folder}/{stem_of(name)}")
        key = "-".join(f"{zlib.crc32(one.encode()):08x}" for one in named)
        return told(key, shown, size, head, middle)


def _is_left_out(path: str) -> bool:
    return any(path == one or path.startswith(one + "/") for one in (*ADAPTED, *PROGRAMS))


def _pieces(path: str) -> Tuple[int, bytes, bytes]:
    """Size, the first bytes, bytes from the middle; size 0 for all but regular files."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        handle = os.open(path, flags | os.O_NOATIME)
    except PermissionError:  # somebody else's file, for who is not root
        handle = os.open(path, flags)
    try:
        seen = os.fstat(handle)
        if not stat.S_ISREG(seen.st_mode):
            return 0, b"", b""
        middle = seen.st_size // 2 // PIECE * PIECE
        return seen.st_size, os.pread(handle, PIECE, 0), os.pread(handle, PIECE, middle)
    finally:
        os.close(handle)
