"""Content that the pool holds already, found by hash: the newest version of each primary.

What an agent offers and the pool has somewhere need not be sent. Sources are opened in a thread of
their own, when a run begins and when a version was sealed; where the table of hints (``hints.py``)
is missing or old it is built. A finding is never trusted: who takes it hashes what arrived.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from notfallserver.server.pool.hints import Hints, build_hints
from notfallserver.server.pool.index import Index
from notfallserver.server.pool.store import Pool, PrimaryStore
from notfallserver.server.pool.version import DiskImage, Version
from notfallserver.wire.blocks import Run
from notfallserver.wire.errors import NotfallError

log = logging.getLogger(__name__)

REBUILD_S = 86400.0
"""A table may be so old when a later version is there: it finds all that has not changed."""


class _Source:
    """One disk of the newest version of a primary."""

    def __init__(self, store: PrimaryStore, version: Version, disk: DiskImage) -> None:
        self.primary = store.uuid
        self.stamp = version.stamp
        self.disk = disk.index
        self.raw = version.raw(disk.index)
        self._health = store.health
        index = Index(version.idx(disk.index))
        self._hints = _hints(store.paths.known, version, disk, index)

    def find(self, digest: bytes) -> int:
        return self._hints.find(digest)

    def damaged(self) -> Sequence[Run]:
        """What is known of it now."""
        return self._health.of(self.stamp).blocks.get(self.disk, ())


def _hints(directory: Path, version: Version, disk: DiskImage, index: Index) -> Hints:
    path = directory / f"{disk.index}-{version.stamp}.hints"
    directory.mkdir(exist_ok=True)
    for old in directory.glob(f"{disk.index}-*.hints"):
        if time.time() - old.stat().st_mtime < REBUILD_S or old == path:
            try:
                return Hints(old, index)
            except (OSError, ValueError):
                pass
    build_hints(index, path)
    for old in directory.glob(f"{disk.index}-*"):
        if old != path:
            old.unlink(missing_ok=True)
    return Hints(path, index)


class KnownContent:
    """One per server. Thread-safe."""

    def __init__(self, pool: Pool, shared: bool = True) -> None:
        """``shared``: also between primaries; else each finds only its own content."""
        self._pool = pool
        self._shared = shared
        self._sources: dict[tuple[str, int], _Source] = {}
        self._changed = threading.Condition()
        self._wanted = self._done = 0
        self._thread: threading.Thread | None = None
        self._closed = False

    def may_share(self, one: str, other: str) -> bool:
        """Whether a primary may take over another's content: the one place that decides it.

        All primaries of a server belong to one tenant.
        """
        return one == other or self._shared

    def refresh(self, wait_s: float = 0) -> None:
        """Look at what is newest now; wait at most so many seconds until that is done."""
        with self._changed:
            self._wanted += 1
            mine = self._wanted
            if self._closed:
                return
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="known", daemon=True)
                self._thread.start()
            self._changed.wait_for(lambda: self._done >= mine or self._closed, wait_s)

    def pays(self, primary: str) -> bool:
        """Whether anything is known that this primary may take over."""
        with self._changed:
            return any(self.may_share(primary, other) for other, _ in self._sources)

    def find(self, primary: str, digests: Sequence[bytes]) -> list[tuple[Path, int] | None]:
        """Image and block number of each content; None where no sound one is known."""
        with self._changed:
            sources = [
                one for one in self._sources.values() if self.may_share(primary, one.primary)
            ]
        sources.sort(key=lambda one: one.primary != primary)  # its own first
        damage: dict[int, Sequence[Run]] = {}
        found: list[tuple[Path, int] | None] = [None] * len(digests)
        for at, digest in enumerate(digests):
            for which, source in enumerate(sources):
                number = source.find(digest)
                if number < 0:
                    continue
                if which not in damage:
                    damage[which] = source.damaged()
                if not any(first <= number < first + count for first, count in damage[which]):
                    found[at] = source.raw, number
                    break
        return found

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._sources = {}
            thread = self._thread
            self._changed.notify_all()
        if thread is not None:
            thread.join(10)

    # -- the thread ------------------------------------------------------------------------------

    def _work(self) -> None:
        while True:
            with self._changed:
                if self._closed or self._done == self._wanted:
                    self._thread = None
                    return
                wanted = self._wanted
            try:
                self._look()
            except Exception:  # nobody may wait for a thread that died, and runs do without it
                log.exception("what the pool holds is not known as a whole")
            with self._changed:
                self._done = wanted
                self._changed.notify_all()

    def _look(self) -> None:
        seen = set()
        for uuid, _ in self._pool.primaries():
            try:
                seen |= self._look_at(self._pool.primary(uuid))
            except (OSError, ValueError, NotfallError) as error:
                log.warning("content of %s is not shared: %s", uuid, error)
        with self._changed:
            self._sources = {key: one for key, one in self._sources.items() if key in seen}

    def _look_at(self, store: PrimaryStore) -> set[tuple[str, int]]:
        version = store.newest()
        seen: set[tuple[str, int]] = set()
        for disk in version.manifest.disks if version else ():
            key = (store.uuid, disk.index)
            with self._changed:
                known = self._sources.get(key)
                if self._closed:
                    return seen
            if version and (known is None or known.stamp != version.stamp):
                source = _Source(store, version, disk)
                with self._changed:
                    if not self._closed:
                        self._sources[key] = source
            seen.add(key)
        return seen
