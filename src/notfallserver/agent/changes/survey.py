"""A look at all files of the protected disks: which blocks hold nothing but unchanged ones.

The disks and mount points are opened first, so that everything also works while all is frozen.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import Callable, Iterator, List, Optional, Sequence, Set

from notfallserver.agent.changes.base import Changes
from notfallserver.agent.changes.kept import PrintWriter
from notfallserver.agent.changes.unchanged import Cover, Print, unchanged
from notfallserver.agent.disks.base import Protected
from notfallserver.agent.disks.direct import DirectDisk
from notfallserver.agent.disks.mounts import current_mounts, to_freeze
from notfallserver.agent.disks.runs import Extent
from notfallserver.agent.disks.used import Census, FreeSpace
from notfallserver.agent.freeze.linux import Freezer, write_out
from notfallserver.agent.inodes.base import Inode, Inodes, NotUnderstood
from notfallserver.agent.inodes.filesystems import Filesystem, find_filesystems, written_past_them
from notfallserver.agent.place import Place
from notfallserver.agent.stop import Stop
from notfallserver.wire.blocks import Run

MOST_BLOCKS = 1 << 26
"""Of all disks together: 4 TiB. Each takes a byte of memory during a look."""
_FROZEN_S = 5.0

Before = Callable[[str], Optional[Iterator[Print]]]
"""The fingerprints of an earlier look, by the filesystem's identity, if there are any."""


class Survey:
    """The disks, open, and their filesystems. Raises :class:`NotUnderstood`."""

    def __init__(self, disks: Sequence[Protected], place: Place, cleanup: ExitStack) -> None:
        if sum(one.blocks for one in disks) > MOST_BLOCKS:
            raise NotUnderstood("the disks are too large to account for them in memory")
        self._note = place.note
        self.disks: List[DirectDisk] = []
        for one in disks:
            self.disks.append(DirectDisk(one))
            cleanup.callback(self.disks[-1].close)
        self.mounts = current_mounts()
        self._groups = to_freeze(self.mounts, [one.device for one in disks])
        self.filesystems = find_filesystems(self.disks, self.mounts)
        self._unseen = written_past_them()

    def write_out(self) -> None:
        write_out(self._groups)

    def still(self, changes: Optional[Changes] = None) -> float:
        """Freeze for an instant, in which ``changes`` are taken; the time (of day) before it.

        After it the inodes on the disks are as those in memory were.
        """
        write_out(self._groups)
        with Freezer(self._groups, _FROZEN_S, Stop(), self._note) as freezer:
            if changes is not None:
                changes.settle()
            before = time.time()
            with freezer.hold() as held:
                if changes is not None:
                    changes.take()
        if any(one.place in held.loose for one in self.filesystems):
            raise NotUnderstood("a filesystem cannot be frozen")
        return before

    def free_space(self) -> FreeSpace:
        census = Census(self.disks, self.mounts)
        try:
            return census.free_space()
        finally:
            census.close()

    def unchanged(
        self,
        free: Sequence[Sequence[Extent]],
        before: Before,
        moment_ns: int,
        writer: Optional[PrintWriter] = None,
    ) -> List[List[Run]]:
        """Blocks in use that hold only what did not change since; per disk.

        ``before`` is the look of that moment or later. ``writer`` gets the fingerprints of now.
        """
        covers = [Cover(disk.size, extents) for disk, extents in zip(self.disks, free)]
        for one in self.filesystems:
            leave_out = {inode for device, inode in self._unseen if device == one.device}
            _look(one, before(one.identity), moment_ns, covers, leave_out, writer)
        return [cover.skippable() for cover in covers]


def _look(
    one: Filesystem,
    before: Optional[Iterator[Print]],
    moment_ns: int,
    covers: List[Cover],
    leave_out: Set[int],
    writer: Optional[PrintWriter],
) -> None:
    now: Inodes = one.inodes() if writer is None else _noted(one.inodes(), writer)
    for inode in unchanged(before or (), now, moment_ns):
        if inode.number not in leave_out:
            for extent in inode.extents:
                for disk, piece in one.on_disk(extent):
                    covers[disk].add(piece)


def _noted(inodes: Inodes, writer: PrintWriter) -> Iterator[Inode]:
    with writer.filesystem() as add:
        for inode in inodes:
            add(inode[:2])
            yield inode
