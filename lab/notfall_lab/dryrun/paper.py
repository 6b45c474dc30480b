"""Versions of paper: the pool's real directories and manifests, without the disks' content."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone

from notfall_lab.dryrun.world import ROOM, World
from notfallserver.server.host.files import replace_json
from notfallserver.server.pool import layout
from notfallserver.server.pool.proof import Evidence, VolumeCheck, VolumeState
from notfallserver.server.pool.store import Clones, Pool, PrimaryStore
from notfallserver.server.pool.version import DiskImage, Manifest, Version, read_version
from notfallserver.wire.blocks import BLOCK
from notfallserver.wire.facts import Machine


@dataclass(frozen=True)
class Taken:
    """How a version came to be; bytes, and the moment it was sealed."""

    kind: str = "replication"
    took: timedelta = timedelta(seconds=40)
    changed: int = 0
    at: datetime | None = None


class PaperPool(Pool):
    """The real pool in a plain directory; only its size is told, not measured."""

    def tell_room(self, world: World) -> None:
        self._world = world

    def free(self) -> tuple[int, int]:
        return ROOM - self._world.used, ROOM


def used_bytes(machine: Machine) -> int:
    """What a whole copy holds."""
    return sum(disk.size for disk in machine.disks) * 2 // 5


def write_version(store: PrimaryStore, name: str, machine: Machine, taken: Taken) -> Version:
    """Seal a version that has a manifest and nothing else."""
    stamp = layout.make_stamp(taken.at) if taken.at else store.fresh_stamp()
    sealed = layout.stamp_time(stamp)
    before = store.newest()
    images = tuple(
        DiskImage(at, disk.size, disk.size * 2 // 5 // BLOCK, "")
        for at, disk in enumerate(machine.disks)
    )
    manifest = Manifest(
        primary=store.uuid,
        name=name,
        stamp=stamp,
        kind=taken.kind,
        consistency="application" if taken.kind == "replication" else "crash",
        base=before.stamp if before else "",
        machine=machine,
        disks=images,
        started_at=(sealed - taken.took).isoformat(),
        sealed_at=sealed.isoformat(),
        freeze_ms=84.0,
        passes=2,
        bytes_read=taken.changed,
        bytes_sent=taken.changed // 2,
        bytes_changed=taken.changed,
        read_all=before is None,
    )
    path = store.paths.versions / stamp
    path.mkdir(parents=True)
    replace_json(path / layout.MANIFEST, manifest.to_json())
    return read_version(path)


def write_prepared(store: PrimaryStore, version: Version) -> Clones:
    """Seal a prepared image that has no disks."""
    directory = store.paths.prepared / version.stamp
    directory.mkdir(parents=True, exist_ok=True)
    store.seal_prepared(Clones(directory, (), {"version": version.stamp}), {"changes": []})
    return Clones(directory, (), {"version": version.stamp})


def write_standin(store: PrimaryStore, prepared: Clones) -> None:
    store.make_standin(prepared, {"started_at": datetime.now(timezone.utc).isoformat()})


def write_past(
    store: PrimaryStore, name: str, machine: Machine, ages: Sequence[timedelta]
) -> list[Version]:
    """Versions of the past, the oldest first; the newest is prepared and proven."""
    moment = datetime.now(timezone.utc)
    whole = used_bytes(machine)
    made = []
    for number, age in enumerate(sorted(ages, reverse=True)):
        changed = whole // 200 * (1 + number % 3) if number else whole
        made.append(write_version(store, name, machine, Taken(changed=changed, at=moment - age)))
    if made:
        write_prepared(store, made[-1])
        write_proof(store, made[-1])
    return made


def write_proof(store: PrimaryStore, version: Version) -> None:
    """As if it had been rehearsed, and all had been well."""
    sound = VolumeCheck("disk0-part2-root", "ext4", VolumeState.CLEAN)
    ports = tuple(version.manifest.machine.ports)
    evidence = Evidence("", version.manifest.sealed_at, (sound,), "", True, 41.5, ports)
    evidence = replace(evidence, system="running", failed_before=(), login=True, login_before=True)
    store.proofs.keep(version.stamp, evidence)
