"""One point in time of all protected disks: snapshots, and the disks put together from them.

Which volume is held how:

    NTFS, ReFS           by a snapshot; of an open BitLocker volume it is the decrypted content
    FAT (EFI partition)  written out and read from the disk: it changes next to never
    BitLocker, locked    read from the disk: nobody can write to it
    not mounted          read from the disk
    anything else        read from the disk while it changes: the version is no better than after a
                         power cut, and says so
"""

from __future__ import annotations

import logging
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Callable, Dict, Iterator, List, Sequence, Tuple

from notfallserver.agent.applications.application import Applied
from notfallserver.agent.disks import fat
from notfallserver.agent.disks.runs import Extent, free_runs, subtract, whole
from notfallserver.agent.disks.windows import by_place, protected_of
from notfallserver.agent.ntfs.volume import Volume
from notfallserver.agent.windows import answers
from notfallserver.agent.windows.answers import BadAnswer
from notfallserver.agent.windows.com import ComError
from notfallserver.agent.windows.composed import ComposedDisk, Overlay, compose
from notfallserver.agent.windows.contents import BITLOCKER
from notfallserver.agent.windows.space import Reader, Space, space_of
from notfallserver.agent.windows.survey import SeenDisk, SeenVolume, see_disk, see_volumes
from notfallserver.agent.windows.system import Handle, Refused, System, asked, failed
from notfallserver.agent.windows.vss import SnapshotSet
from notfallserver.wire.blocks import Run
from notfallserver.wire.errors import NotfallError

log = logging.getLogger("notfall-agent")

SNAPSHOT = ("ntfs", "ReFS")
QUIET = ("vfat",)

Take = Callable[[Sequence[str]], Tuple[SnapshotSet, Tuple[Applied, ...]]]
"""Makes the set of snapshots, of volumes by their names."""


@dataclass(frozen=True)
class Moment:
    """``used`` has the blocks of each disk whose content counts."""

    disks: List[ComposedDisk]
    used: List[List[Run]]
    applied: Tuple[Applied, ...]
    loose: List[str]
    frozen_at: str
    milliseconds: float  # that it took to make the snapshots: nothing stood still for longer
    ntfs: Tuple[Volume, ...] = ()  # of the snapshots, as far as they are understood

    @property
    def consistency(self) -> str:
        return "crash" if self.loose else "filesystem"


@dataclass
class _Disk:
    """One while it is put together."""

    seen: SeenDisk
    sources: List[Handle]
    overlays: List[Overlay] = field(default_factory=list)
    free: List[Extent] = field(default_factory=list)
    blank: List[Extent] = field(default_factory=list)
    ntfs: List[Volume] = field(default_factory=list)


@contextmanager
def hold_moment(
    system: System, disks: Sequence[SeenDisk], volumes: Sequence[SeenVolume], take: Take
) -> Iterator[Moment]:
    """Within the block the disks can be read as of one moment. If it ends well, all programs that
    were asked hear that; if not, they hear that, too."""
    places = _on(disks, volumes)
    wanted = [one for one in places if one.content.filesystem in SNAPSHOT]
    with ExitStack() as cleanup:
        _write_out(system, [one for one in places if one.content.filesystem in QUIET])
        taken, applied = take([one.name for one in wanted])
        cleanup.callback(taken.close)
        _require_unchanged(system, disks, volumes)
        devices = {one.volume: one.device for one in taken.snapshots}
        made = [_put_together(system, one, places, devices, cleanup) for one in disks]
        yield Moment(
            [one for one, _, _ in made],
            [used for _, used, _ in made],
            applied,
            _loose(disks, places, taken.left_out),
            taken.frozen_at,
            taken.milliseconds,
            tuple(volume for _, _, found in made for volume in found),
        )
        _complete(taken)


def _require_unchanged(
    system: System, disks: Sequence[SeenDisk], volumes: Sequence[SeenVolume]
) -> None:
    """What was moved or resized since it was looked at would be put together wrongly."""
    before = {one.name: one.extents for one in volumes}
    now = {one.name: one.extents for one in see_volumes(system)}
    tables = [see_disk(system, one.number) for one in disks]
    same = [one is not None and one.layout == old.layout for one, old in zip(tables, disks)]
    if before != now or not all(same):
        raise NotfallError(
            "disks-changed",
            "Disks or partitions were changed while the snapshot was made.",
            "Replication begins again by itself.",
            retry=True,
        )


def _complete(taken: SnapshotSet) -> None:
    """The copy is whole by now; who does not want to hear that is only told."""
    try:
        for one in taken.complete():
            log.warning("the VSS writer %s failed after the copy was made", one.name)
    except ComError as error:
        log.warning("VSS did not take the end of the copy: %s", error)


def _on(disks: Sequence[SeenDisk], volumes: Sequence[SeenVolume]) -> List[SeenVolume]:
    protected = {one.number for one in disks}
    return [one for one in by_place(volumes).values() if one.extents[0].disk in protected]


def _loose(
    disks: Sequence[SeenDisk], volumes: Sequence[SeenVolume], left_out: Sequence[str]
) -> List[str]:
    """What is written while it is read."""
    return [
        one.places[0] if one.places else one.name
        for one in volumes
        if one.name in left_out or (one.places and not _is_held(disks, one))
    ]


def _is_held(disks: Sequence[SeenDisk], volume: SeenVolume) -> bool:
    """A locked volume may show nothing of itself; then its disk tells that it is BitLocker's."""
    kind = volume.content.filesystem
    if not kind:
        extent = volume.extents[0]
        seen = [one.contents.get(extent.start) for one in disks if one.number == extent.disk]
        return any(one is not None and one.filesystem == BITLOCKER for one in seen)
    return kind in (*SNAPSHOT, *QUIET, BITLOCKER)


def _write_out(system: System, volumes: Sequence[SeenVolume]) -> None:
    for one in volumes:
        with suppress(Refused):
            handle = system.open(one.path, write=True)
            try:
                handle.flush()
            finally:
                handle.close()


def _put_together(
    system: System,
    seen: SeenDisk,
    volumes: Sequence[SeenVolume],
    devices: Dict[str, str],
    cleanup: ExitStack,
) -> Tuple[ComposedDisk, List[Run], List[Volume]]:
    protected = protected_of(seen)
    try:
        own = system.open(protected.path)
        cleanup.callback(own.close)
        disk = _Disk(seen, [own])
        for volume in volumes:
            if volume.extents[0].disk == seen.number:
                _add(system, disk, volume, devices.get(volume.name, ""), cleanup)
    except (Refused, BadAnswer) as error:
        raise failed(protected.path, error) from None
    pieces = compose(seen.size, disk.overlays, disk.blank)
    free = free_runs(seen.size, [*disk.free, *disk.blank])
    used = subtract(whole(protected.blocks), free)
    return ComposedDisk(protected, pieces, disk.sources), used, disk.ntfs


def _add(system: System, disk: _Disk, volume: SeenVolume, device: str, cleanup: ExitStack) -> None:
    extent, sector = volume.extents[0], disk.seen.sector
    if not device:
        if volume.content.filesystem in QUIET and not _is_covered(disk.seen, volume):
            reader = Reader(disk.sources[0], disk.seen.size, sector)
            free = fat.free_extents(lambda at, n: reader(extent.start + at, n), extent.length)
            disk.free += [(extent.start + at, length) for at, length in free or []]
        return
    handle = system.open(device)
    cleanup.callback(handle.close)
    with suppress(Refused):  # else sectors behind the filesystem's own end can't be read
        handle.control(answers.ALLOW_EXTENDED_DASD_IO)
    length = extent.length
    with suppress(Refused):  # else it is as long as its volume
        told = answers.read_length(asked(handle, answers.DISK_GET_LENGTH_INFO))
        length = min(told, length) // sector * sector
    disk.sources.append(handle)
    disk.overlays.append(Overlay(extent.start, length, len(disk.sources) - 1))
    space = Space([], [])
    if volume.content.filesystem == "ntfs":
        space = space_of(handle, length, sector, volume.places[0] if volume.places else volume.name)
    disk.ntfs += [space.volume] if space.volume is not None else []
    disk.free += [(extent.start + at, count) for at, count in space.free]
    disk.blank += [(extent.start + at, count) for at, count in space.blank]


def _is_covered(disk: SeenDisk, volume: SeenVolume) -> bool:
    """Whether the disk shows something else there than the volume does (BitLocker)."""
    seen = disk.contents.get(volume.extents[0].start)
    return seen is None or seen.filesystem != volume.content.filesystem
