"""A recovery to other disks than the original's: planned, reshaped, written and adapted.

All of it is the product's own: a version in a pool, the plan, the reshaped version, and on the
target, a machine started from the rescue medium, the order to adapt and to grow. Only the way of
the blocks from the server to the target is left out: they are copied.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

from notfall_lab.kernels import PROGRAMS
from notfall_lab.matrix.case import CARD_DRIVERS, DRIVERS, Case
from notfall_lab.matrix.layout import LESS, MORE, Layout
from notfall_lab.matrix.networks import Wiring
from notfall_lab.pool_image import index_image
from notfallserver.guest.cpio import file_entry, write_archive
from notfallserver.guest.table import read_table
from notfallserver.server.cycle.recovery.mirrors import find_mirrors
from notfallserver.server.cycle.recovery.plan import (
    DiskPlan,
    Known,
    needs_measuring,
    only_disks,
    plan_recovery,
)
from notfallserver.server.cycle.recovery.reshape import Reshaper
from notfallserver.server.cycle.runner import JobContext
from notfallserver.server.host.run import run
from notfallserver.server.pool.incoming import seal_directory, utc_now
from notfallserver.server.pool.store import Pool, PrimaryStore
from notfallserver.server.pool.version import Manifest, Version
from notfallserver.server.rescue_medium import Medium
from notfallserver.server.settings import Settings
from notfallserver.server.vm.appliance import run_appliance
from notfallserver.server.vm.hypervisor import Hypervisor
from notfallserver.server.vm.spec import Accelerator
from notfallserver.wire.facts import Disk, Nic, Partition
from notfallserver.wire.facts import Machine as Facts

WORK_S = 900.0


@dataclass(frozen=True)
class Recovered:
    """The target's disks, adapted; ``changes`` as the plan and the target told them."""

    disks: tuple[Path, ...]
    plan: DiskPlan
    changes: list[str]
    failure: dict[str, Any]


class _Quiet:
    """The job that has the reshaped version made."""

    def check(self) -> None:
        pass

    def progress(self, phase: str, done: int = 0, total: int = 0) -> None:
        pass


@dataclass(frozen=True)
class Recovery:
    """Where recoveries are tried; ``pool`` must be able to share blocks."""

    hypervisor: Hypervisor
    medium: Medium
    pool: Pool

    def recover(
        self, case: Case, wiring: Wiring, layout: Layout, disks: Sequence[Path], folder: Path
    ) -> Recovered:
        """What must not be done raises the plan's refusal, and nothing was written then."""
        store = self.pool.add_primary(str(uuid4()), case.name)
        try:
            original = original_facts(case, wiring, layout, disks)
            version = _keep(store, original, disks)
            target = target_facts(case, wiring, original)
            reshaper = Reshaper(
                Settings(accelerator="tcg"), self.hypervisor, self.pool, lambda: self.medium
            )
            mirrors = find_mirrors(version)
            least = (
                reshaper.measure(store, version)
                if needs_measuring(original, target, {}, mirrors)
                else {}
            )
            plan = plan_recovery(original, target, {}, True, Known((), least, mirrors))
            shape = plan.shape(original)
            if shape is not None:
                version = reshaper.make(cast(JobContext, _Quiet()), store, version.stamp, shape)
            written = [_write(version.raw(one.index), folder, one.disk) for one in plan.moves]
        finally:
            shutil.rmtree(store.paths.root)
        here = replace(target, disks=[one.disk for one in plan.moves])
        told = self._adapt(written, only_disks(original, shape), here, plan.grow, folder)
        changes = [text for one in plan.moves for text in one.changes]
        changes += [*plan.warnings, *(str(one) for one in told.get("changes", ()))]
        failure = told.get("error", {}) if told.get("state") != "adapted" else {}
        return Recovered(tuple(written), plan, changes, failure)

    def _adapt(
        self, disks: Sequence[Path], original: Facts, here: Facts, grow: bool, folder: Path
    ) -> dict[str, Any]:
        job = {"original": original.to_json(), "here": here.to_json(), "grow": grow}
        answer = run_appliance(
            *(self.hypervisor, _target_medium(self.medium, folder), disks, job),
            *(WORK_S, Accelerator.TCG),
        )
        return dict(answer.get("report") or answer)


def _target_medium(medium: Medium, folder: Path) -> Medium:
    """The rescue medium whose program is started by the lab."""
    initrd = folder / "initrd-target"
    shutil.copyfile(medium.appliance_initrd, initrd)
    with initrd.open("ab") as out:
        names = {"start-appliance.sh": "start-target.sh", "target_work.py": "target_work.py"}
        entries = [
            file_entry(f"notfall/{name}", (PROGRAMS / source).read_bytes())
            for name, source in names.items()
        ]
        write_archive(entries, out)
    return replace(medium, appliance_initrd=initrd)


def original_facts(case: Case, wiring: Wiring, layout: Layout, disks: Sequence[Path]) -> Facts:
    """As the agent would tell."""
    root = {"lvm": "LVM2_member", "raid": "linux_raid_member", "plain": case.filesystem}
    filesystems = {"boot": "ext4", "esp": "vfat", "swap": "swap"}
    filesystems["root"] = root.get(case.stack, "crypto_LUKS")
    told = []
    for number, disk in enumerate(disks):
        table = read_table(str(disk))
        parts = []
        for slot in table.slots:
            data = number > 0 and "data" in case.odd
            role = next(one.role for one in layout.parts if one.number == slot.number)
            kind = slot.kind.lower() if table.label == "gpt" else f"0x{slot.kind}"
            uuid = slot.uuid.lower() or f"{table.id.lower().replace('0x', '')}-{slot.number:02x}"
            content = "ext4" if data else filesystems.get(role, "")
            parts.append(
                Partition(slot.number, slot.start, slot.size, kind, content, part_uuid=uuid)
            )
        name, driver = case.disk_name(number), DRIVERS[case.source][0]
        size = disk.stat().st_size
        told.append(Disk(name, size, driver=driver, table=table.label, partitions=parts))
    nics = [Nic(one.name, one.old, "virtio_net") for one in wiring.cards]
    firmware = "bios" if case.firmware == "bios" else "uefi"
    return Facts(case.name, firmware=firmware, disks=told, nics=nics)


def target_facts(case: Case, wiring: Wiring, original: Facts) -> Facts:
    """The target: what the case says of its disks, all of them empty."""
    change = {"larger": MORE, "smaller": -LESS, "one": 0}[case.onto]
    wanted = original.disks
    if case.onto == "one" and "data" in case.odd:
        wanted = [replace(wanted[0], size=sum(one.size for one in wanted) - LESS)]
    elif case.onto == "one":
        wanted = wanted[:1]
    driver = DRIVERS[case.target][0]
    disks = [
        Disk(f"sd{'abc'[number]}", one.size + change, serial=f"T{number}", driver=driver)
        for number, one in enumerate(wanted)
    ]
    nics = [
        Nic(f"eth{at}", one.mac, CARD_DRIVERS[case.card]) for at, one in enumerate(wiring.cards)
    ]
    firmware = "bios" if case.target_firmware == "bios" else "uefi"
    return Facts("target", firmware=firmware, disks=disks, nics=nics)


def _keep(store: PrimaryStore, original: Facts, disks: Sequence[Path]) -> Version:
    """The disks as a version of the pool."""
    store.paths.incoming.mkdir()
    images = []
    for number, disk in enumerate(disks):
        raw = store.paths.incoming / f"disk{number}.raw"
        run(["cp", "--sparse=always", disk, raw], timeout=600)
        images.append(index_image(number, raw))
    now = utc_now()
    names = (store.uuid, original.hostname, store.fresh_stamp(), "capture", "filesystem", "")
    manifest = Manifest(*names, original, tuple(images), started_at=now, sealed_at=now)
    return seal_directory(store.paths, manifest)


def _write(raw: Path, folder: Path, disk: Disk) -> Path:
    """A disk of the target with the image on it."""
    path = folder / f"target-{disk.name}.raw"
    run(["cp", "--sparse=always", raw, path], timeout=600)
    with path.open("r+b") as stream:
        stream.truncate(disk.size)
    return path
