"""What some versions alone occupy: what would be free if they went.

Versions share most of what they hold, with each other, with prepared images and stand-ins, and with
other primaries' versions. So all files of the pool are asked where they lie on the device, and what
counts is what no other one holds: exact to a block, without what the filesystem keeps beside
contents. Memory is for the places of the versions in question and of one other file at a time (16
bytes for each stretch), besides a cache of sealed files' places, which don't change.
"""

from __future__ import annotations

import errno
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path

from notfallserver.server.host.places import Places, joined, places_of
from notfallserver.server.pool.store import PrimaryStore

_MOST = 4 << 20
"""So many stretches are remembered: 64 MiB."""
_Key = tuple[str, int, int, int]


class Accounts:
    """Of one pool, which is the directory ``root``. Thread-safe.

    ``sparing``: nothing is shared there, and a file occupies what it says. So it is taken also
    where the filesystem does not tell where files lie.
    """

    def __init__(self, root: Path, sparing: bool = False) -> None:
        self._root = root
        self._sparing = sparing
        self._known: OrderedDict[_Key, Places] = OrderedDict()
        self._count = 0
        self._lock = threading.Lock()

    def alone(
        self,
        sets: Mapping[str, Collection[Path]],
        check: Callable[[], None] = lambda: None,
    ) -> dict[str, int]:
        """For each set of files, by its name, the bytes that nothing outside of it holds.

        ``check`` is called between files and may raise.
        """
        if not self._sparing:
            try:
                return self._alone(sets, check)
            except OSError as error:
                if error.errno not in (errno.EOPNOTSUPP, errno.ENOTTY, errno.EINVAL):
                    raise
        return {name: sum(map(_blocks, files)) for name, files in sets.items()}

    def _alone(
        self, sets: Mapping[str, Collection[Path]], check: Callable[[], None]
    ) -> dict[str, int]:
        members = {name: frozenset(files) for name, files in sets.items()}
        held: dict[str, Places] = {}
        for name, files in members.items():
            held[name] = joined([one for path in sorted(files) if (one := self._places(path))])
            check()
        for path in self._all_files():
            wanted = [name for name, places in held.items() if places and path not in members[name]]
            if not wanted:
                continue
            # What a machine that runs has not yet written out has no place that others could share.
            other = self._places(path, sync=False) or Places()
            for name in wanted:
                held[name] = held[name].without(other)
            check()
        return {name: places.size for name, places in held.items()}

    def _all_files(self) -> Iterator[Path]:
        """All regular files of the pool but those that are just being removed, newest first: what
        shares most with a version is asked early, and little is left to compare."""
        for parent, directories, files in os.walk(self._root):
            directories[:] = sorted(
                (one for one in directories if not one.endswith(".discarded")), reverse=True
            )
            for name in sorted(files):
                path = Path(parent, name)
                if not path.is_symlink() and path.is_file():
                    yield path

    def _places(self, path: Path, sync: bool = True) -> Places | None:
        """None for a file that is gone."""
        try:
            told = path.stat()
            key = (str(path), told.st_ino, told.st_mtime_ns, told.st_ctime_ns)
            with self._lock:
                if (known := self._known.get(key)) is not None:
                    self._known.move_to_end(key)
                    return known
            found = places_of(path, sync)
        except FileNotFoundError:
            return None
        if path.parent.parent.name == "versions":
            self._remember(key, found)
        return found

    def _remember(self, key: _Key, places: Places) -> None:
        with self._lock:
            if key not in self._known:
                self._known[key] = places
                self._count += len(places) + 1
            while self._count > _MOST:
                _, gone = self._known.popitem(last=False)
                self._count -= len(gone) + 1


def files_of(store: PrimaryStore, stamp: str) -> list[Path]:
    """What goes with a version: its files, and the image that was prepared of it."""
    places = (store.paths.versions / stamp, store.paths.prepared / stamp)
    return [one for place in places if place.is_dir() for one in place.iterdir() if one.is_file()]


def _blocks(path: Path) -> int:
    try:
        return path.stat().st_blocks * 512
    except FileNotFoundError:
        return 0
