"""What this Windows answers to everything that the agent asks, as one report.

For who has a Windows at hand: it shows what no test of the project can show. Nothing is written but
snapshots, for the moment in which they are compared; no content of any file is in the report. It
has names, serial numbers and addresses of the machine.
"""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import asdict
from typing import Any, Callable, Dict, List, Optional

from notfallserver import VERSION
from notfallserver.agent.disks.runs import total
from notfallserver.agent.disks.windows import by_place, machine_facts, see_disks
from notfallserver.agent.ntfs.bitmap import free_extents
from notfallserver.agent.ntfs.boot import Unreadable
from notfallserver.agent.ntfs.log import log_is_clean
from notfallserver.agent.ntfs.volatile import volatile_extents
from notfallserver.agent.ntfs.volume import Volume
from notfallserver.agent.windows.answers import DISK_GET_LENGTH_INFO, BadAnswer, read_length
from notfallserver.agent.windows.com import ComError
from notfallserver.agent.windows.fitness import check_fitness
from notfallserver.agent.windows.moment import SNAPSHOT, Take, hold_moment
from notfallserver.agent.windows.space import Reader, told_by_windows
from notfallserver.agent.windows.survey import SeenDisk, SeenVolume, see_volumes
from notfallserver.agent.windows.system import Refused, System, asked
from notfallserver.agent.windows.vss import Snapshot
from notfallserver.wire.blocks import BLOCK
from notfallserver.wire.errors import NotfallError

_FAILURES = (NotfallError, Refused, BadAnswer, ComError, Unreadable, OSError, ValueError)


def examine(system: System, take: Take) -> Dict[str, Any]:
    """Each part of it has either what was found, or ``error``."""
    report: Dict[str, Any] = {"agent": VERSION}
    disks: List[SeenDisk] = []
    volumes: List[SeenVolume] = []

    def part(name: str, act: Callable[[], Any]) -> None:
        began = time.monotonic()
        try:
            found = act()
        except _FAILURES as error:
            found = {"error": f"{type(error).__name__}: {error}"}
        report[name] = found
        report[f"{name}_seconds"] = round(time.monotonic() - began, 3)

    def seen() -> List[Dict[str, Any]]:
        disks.extend(see_disks(system))
        return [asdict(one) for one in disks]

    def mounted() -> List[Dict[str, Any]]:
        volumes.extend(see_volumes(system))
        return [asdict(one) for one in volumes]

    part("disks", seen)
    part("volumes", mounted)
    part("facts", lambda: machine_facts(system, disks, volumes).to_json())
    part("fitness", lambda: _fitness(disks, volumes))
    part("snapshots", lambda: _snapshots(system, disks, volumes, take))
    part("moment", lambda: _moment(system, disks, volumes, take))
    return report


def _fitness(disks: List[SeenDisk], volumes: List[SeenVolume]) -> str:
    check_fitness(disks, volumes)
    return "fit"


def _snapshots(
    system: System, disks: List[SeenDisk], volumes: List[SeenVolume], take: Take
) -> Dict[str, Any]:
    """One set, and what two say of the free space of each of its volumes."""
    places = by_place(volumes)
    numbers = {one.number: one for one in disks}
    wanted = [one for one in volumes if one.content.filesystem in SNAPSHOT]
    found, applied = take([one.name for one in wanted])
    try:
        compared: List[Dict[str, Any]] = []
        told: Dict[str, Any] = {
            "frozen_at": found.frozen_at,
            "left_out": found.left_out,
            "writers": [asdict(one) for one in found.writers],
            "applied": [asdict(one) for one in applied],
            "volumes": compared,
        }
        for one in found.snapshots:
            volume = next(each for each in places.values() if each.name == one.volume)
            disk = numbers.get(volume.extents[0].disk)
            compared.append(_compared(system, one, volume, disk))
        told["failed_after"] = [one.name for one in found.complete()]
        return told
    finally:
        found.close()


def _compared(
    system: System, snapshot: Snapshot, volume: SeenVolume, disk: Optional[SeenDisk]
) -> Dict[str, Any]:
    sector = disk.sector if disk is not None else 512
    report: Dict[str, Any] = {**asdict(snapshot), "size": volume.extents[0].length}
    try:
        with closing(system.open(snapshot.device)) as handle:
            size = read_length(asked(handle, DISK_GET_LENGTH_INFO))
            report["snapshot_size"] = size
            windows = told_by_windows(handle, snapshot.volume)
            report["free_by_windows"] = None if windows is None else _bytes(windows)
            ntfs = Volume(Reader(handle, size, sector), size)
            own = free_extents(ntfs)
            report["free_by_bitmap"] = _bytes(own)
            report["the_same"] = own == windows
            report["log_is_clean"] = log_is_clean(ntfs)
            report["worthless"] = _bytes(volatile_extents(ntfs))
    except _FAILURES as error:
        report["error"] = f"{type(error).__name__}: {error}"
    return report


def _bytes(extents: List[Any]) -> int:
    return sum(length for _, length in extents)


def _moment(
    system: System, disks: List[SeenDisk], volumes: List[SeenVolume], take: Take
) -> Dict[str, Any]:
    """As a replication would hold it; a block of each used run is read."""
    with hold_moment(system, disks, volumes, take) as moment:
        read = 0
        buffer = bytearray(BLOCK)
        for disk, used in zip(moment.disks, moment.used):
            for first, _ in used:
                length = min(BLOCK, disk.size - first * BLOCK)
                with memoryview(buffer) as view, view[:length] as piece:
                    disk.read_into(piece, first * BLOCK)
                read += 1
        return {
            "consistency": moment.consistency,
            "loose": moment.loose,
            "milliseconds": round(moment.milliseconds),
            "used": [total(used) * BLOCK for used in moment.used],
            "blocks_read": read,
        }
