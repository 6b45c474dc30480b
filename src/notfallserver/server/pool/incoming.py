"""The unfinished version: what a replication writes into until it is sealed.

Write order: a block's index entry becomes UNKNOWN, the content is written, the entry becomes the
hash. Sealing: no entry is UNKNOWN; contents and indices are synced; the manifest is written; the
directory is synced and renamed to its place among the versions. Until that rename the last version
is all there is. A killed server finds the work in ``incoming/`` and a run can continue in it; after
a restart of the machine it is dropped: the order in which pages reached the disk is unknown.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from notfallserver.server.host.files import (
    discard_tree,
    read_json,
    rename_durably,
    replace_json,
    sync_path,
)
from notfallserver.server.host.set_aside import set_cow_unit
from notfallserver.server.pool import layout
from notfallserver.server.pool.adopt import Adoption, adopt_blocks
from notfallserver.server.pool.index import Index, hash_index
from notfallserver.server.pool.match import match_disks
from notfallserver.server.pool.open_disk import OpenDisk, start_disk
from notfallserver.server.pool.room import Room, pool_may_be_full
from notfallserver.server.pool.version import DiskImage, Manifest, Version, read_version
from notfallserver.wire.blocks import (
    BLOCK,
    HOLE,
    UNKNOWN,
    Buffer,
    Run,
    block_length,
    hash_block,
)
from notfallserver.wire.errors import NotfallError
from notfallserver.wire.facts import Disk
from notfallserver.wire.frames import Offer, bad_frame, read_blocks

Search = Callable[[Sequence[bytes]], Sequence[tuple[Path, int] | None]]
"""By hash: the image that holds such a block and its number there; None where it isn't known."""

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def utc_now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")


@dataclass(frozen=True)
class Counts:
    """What reached the unfinished version so far, in bytes of content."""

    received: int = 0
    punched: int = 0
    shared: int = 0


class Incoming:
    """An unfinished version, open. Thread-safe between different blocks."""

    def __init__(self, paths: layout.PrimaryPaths, record: dict[str, Any]) -> None:
        self.run: str = record["run"]
        self.base: str = record["base"]
        self.resumed = False
        self.in_place = record["sources"] == list(range(len(record["sizes"])))
        """Whether each disk is where it was in the base: only then may a block go unmentioned."""
        self.in_place &= not record.get("distrusted")
        self._paths = paths
        self._record = record
        self._lock = threading.Lock()
        self._busy = 0
        self.search: Search = _nowhere
        """Where the pool holds what is offered; what it finds is not asked for."""
        self.room = Room(paths.root)
        """Where contents are brought; none are taken when there is little left of it."""
        self._idle = threading.Condition(self._lock)
        self.counts = Counts()
        self._disks = [
            OpenDisk(paths.incoming, index, size) for index, size in enumerate(record["sizes"])
        ]

    # -- opening ---------------------------------------------------------------------------------

    @classmethod
    def open_or_make(
        cls, paths: layout.PrimaryPaths, run: str, disks: Sequence[Disk], base: Version | None
    ) -> Incoming:
        """Continue what is unfinished if it fits (same machine boot, base and disks), or start."""
        found = read_record(paths)
        stamp = base.stamp if base else ""
        sizes = [disk.size for disk in disks]
        sources = match_disks(base.manifest.machine.disks if base else [], disks)
        expected = {"base": stamp, "sizes": sizes, "sources": sources}
        if found and {key: found.get(key) for key in expected} == expected:
            found["run"] = run
            replace_json(paths.incoming / layout.RUN, found)
            resumed = cls(paths, found)
            resumed.resumed = True
            return resumed
        drop_incoming(paths)
        record = {
            "run": run,
            "base": stamp,
            "boot": BOOT_ID.read_text().strip(),
            "sizes": sizes,
            "sources": sources,
            "started_at": utc_now(),
        }
        unfinished = paths.root / "incoming.new"
        discard_tree(unfinished)
        unfinished.mkdir(parents=True)
        set_cow_unit(unfinished, BLOCK)  # what is written are whole blocks: nothing is set aside
        for index, size in enumerate(sizes):
            start_disk(unfinished, index, size, base, sources[index])
        replace_json(unfinished / layout.RUN, record)
        rename_durably(unfinished, paths.incoming)
        return cls(paths, record)

    def distrust(self, base: Version, damage: Mapping[int, Sequence[Run]]) -> None:
        """Want the blocks again that are damaged in the base; ``damage`` is by its disks.

        From now on a block may not go unmentioned: a tracked agent would not offer these.
        """
        marked = False
        for disk, source in zip(self._disks, self._record["sources"], strict=True):
            if source is None or not damage.get(source):
                continue
            with Index(base.idx(source)) as before:
                for first, count in damage[source]:
                    for number in range(first, min(first + count, before.blocks, disk.idx.blocks)):
                        if disk.idx[number] == before[number]:
                            disk.idx[number] = UNKNOWN
                            marked = True
        if marked:
            self.in_place = False
            self._record["distrusted"] = True
            replace_json(self._paths.incoming / layout.RUN, self._record)

    def close(self) -> None:
        """Let go of the files once no request writes any more; the work stays where it is."""
        with self._idle:
            self._idle.wait_for(lambda: self._busy == 0, timeout=60)
            for disk in self._disks:
                disk.close()
            self._disks = []

    # -- receiving -------------------------------------------------------------------------------

    def __enter__(self) -> Incoming:
        """Within the block the files stay open, even when another request closes the run."""
        with self._lock:
            if not self._disks:
                raise _over()
            self._busy += 1
        return self

    def __exit__(self, *_: object) -> None:
        with self._idle:
            self._busy -= 1
            self._idle.notify_all()

    def _disk(self, index: int) -> OpenDisk:
        if index >= len(self._disks):
            raise bad_frame(f"there is no disk {index}")
        return self._disks[index]

    def offer(self, index: int, entries: Offer) -> bytes:
        """Which of the offered blocks differ, as a bitmap; zero blocks become holes here."""
        with pool_may_be_full():
            return self._offer(index, entries)

    def _offer(self, index: int, entries: Offer) -> bytes:
        disk = self._disk(index)
        wanted = bytearray((len(entries) + 7) // 8)
        missing: list[tuple[int, int, bytes]] = []
        for place, (number, digest) in enumerate(entries):
            if disk.idx[disk.check(number)] == digest:
                continue
            if digest == UNKNOWN:
                raise bad_frame("a hash is not allowed")
            if digest == HOLE:
                disk.punch(number, 1)
                wanted[place >> 3] |= 0x80 >> (place & 7)
            else:
                missing.append((place, number, digest))
        there = self._take_known(disk, [(number, digest) for _, number, digest in missing])
        for place, number, _ in missing:
            if number not in there:
                wanted[place >> 3] |= 0x80 >> (place & 7)
        return bytes(wanted)

    def _take_known(self, disk: OpenDisk, missing: Offer) -> set[int]:
        """Which of these blocks were taken over from elsewhere in the pool."""
        found = self.search([digest for _, digest in missing]) if missing else []
        wanted = [
            Adoption(number, digest, *place)
            for (number, digest), place in zip(missing, found, strict=True)
            if place is not None and block_length(number, disk.size) == BLOCK
        ]
        if not wanted:
            return set()
        there = adopt_blocks(disk.raw, disk.idx, wanted)
        with self._lock:
            self.counts = replace(self.counts, shared=self.counts.shared + len(there) * BLOCK)
        return there

    def receive(self, frame: Buffer) -> None:
        """Check the contents of a frame against their hashes, then store them.

        A block whose hash is UNKNOWN is hashed here: TLS has protected it on its way.
        """
        index = int.from_bytes(frame[4:6], "big")
        disk = self._disk(index)
        last = disk.idx.blocks - 1
        blocks = read_blocks(frame, last, block_length(last, disk.size))
        view = memoryview(blocks.payload)
        entries: Offer = []
        at = 0
        for number, digest in blocks.entries:
            length = block_length(disk.check(number), disk.size)
            found = hash_block(view[at : at + length])
            if digest not in (found, UNKNOWN) or found == HOLE:
                raise bad_frame(f"block {number} of disk {index} does not match its hash")
            entries.append((number, found))
            at += length
        self.room.need()
        with pool_may_be_full():
            disk.store(entries, blocks.payload)
        with self._lock:
            self.counts = replace(self.counts, received=self.counts.received + at)

    def punch(self, index: int, runs: Sequence[Run]) -> None:
        """Blocks that their filesystem doesn't use any more become holes."""
        disk = self._disk(index)
        for first, count in runs:
            if count < 1 or first + count > disk.idx.blocks:
                raise bad_frame(f"holes lie behind the end of disk {index}")
            with pool_may_be_full():
                self._punch_used(disk, first, count)

    def _punch_used(self, disk: OpenDisk, first: int, count: int) -> None:
        """Punch only where something is: holes of a hole would cost time on a big empty disk."""
        step = 4096
        for start in range(first, first + count, step):
            most = min(step, first + count - start)
            used = disk.idx.used(start, most)
            if used:
                disk.punch(start, most)
                with self._lock:
                    self.counts = replace(self.counts, punched=self.counts.punched + used * BLOCK)

    # -- sealing ---------------------------------------------------------------------------------

    def seal(self, manifest: Manifest) -> Version:
        """Make it a version. ``manifest.disks`` is filled in here."""
        with self._idle:
            self._idle.wait_for(lambda: self._busy == 0, timeout=60)
            disks, self._disks = self._disks, []
        if not disks or self._find_run() != self.run:
            for disk in disks:
                disk.close()
            raise _over()
        images = []
        try:
            for disk in disks:
                if not disk.idx.known():
                    raise NotfallError(
                        "incomplete", "Blocks of this run are missing.", "Run it again.", retry=True
                    )
                with pool_may_be_full():
                    os.fsync(disk.raw)
                    disk.idx.sync()
                digest = hash_index(self._paths.incoming / layout.idx_name(disk.index))
                images.append(DiskImage(disk.index, disk.size, disk.idx.used(), digest))
        finally:
            for disk in disks:
                disk.close()
        sealed = replace(manifest, disks=tuple(images), sealed_at=utc_now())
        with pool_may_be_full():
            return seal_directory(self._paths, sealed)

    def _find_run(self) -> str:
        """Whose work lies in ``incoming/``: another run or a capture may have taken the place."""
        try:
            return str(read_json(self._paths.incoming / layout.RUN).get("run"))
        except (FileNotFoundError, NotfallError):
            return ""

    @property
    def started_at(self) -> str:
        return str(self._record["started_at"])


def read_record(paths: layout.PrimaryPaths) -> dict[str, Any] | None:
    """What the unfinished version says of its run; None where it can't be continued."""
    try:
        record = read_json(paths.incoming / layout.RUN)
    except (FileNotFoundError, NotfallError):
        return None
    return record if record.get("boot") == BOOT_ID.read_text().strip() else None


def _nowhere(digests: Sequence[bytes]) -> Sequence[None]:
    return [None] * len(digests)


def seal_directory(paths: layout.PrimaryPaths, manifest: Manifest) -> Version:
    """The last steps for a complete ``incoming/``: manifest, then the name.

    Where the manifest can't be written, the run can still be continued.
    """
    replace_json(paths.incoming / layout.MANIFEST, manifest.to_json())
    (paths.incoming / layout.RUN).unlink(missing_ok=True)
    sync_path(paths.incoming)
    final = paths.versions / manifest.stamp
    if final.exists():
        raise NotfallError("version-exists", f"A version {manifest.stamp} exists already.")
    rename_durably(paths.incoming, final)
    return read_version(final)


def drop_incoming(paths: layout.PrimaryPaths) -> None:
    discard_tree(paths.incoming)


def drop_hopeless(paths: layout.PrimaryPaths) -> None:
    """Drop what no run can continue: it would keep space occupied until the next one begins."""
    if read_record(paths) is None:
        drop_incoming(paths)


def _over() -> NotfallError:
    return NotfallError(
        "run-over", "This run was ended.", "Start the replication again.", retry=True, status=409
    )
