"""A version on disks to take along, from which a computer starts.

The person names each disk by what is printed on it; every look at it is repeated in the job, with
the kernel's own number of its attachment, just before the first byte.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from notfallserver.server.cycle.exports import expected_of, held
from notfallserver.server.cycle.means import Means
from notfallserver.server.cycle.normal.prepare import adapt_clones
from notfallserver.server.cycle.runner import JobContext, JobRunner
from notfallserver.server.cycle.work import Work
from notfallserver.server.media.block_devices import BlockDevice, Target, check_target, find_disk
from notfallserver.server.media.boot_disk import Image, write_disk
from notfallserver.server.pool.version import Version
from notfallserver.server.records.jobs import Job
from notfallserver.server.records.primaries import Primary
from notfallserver.wire.errors import NotfallError
from notfallserver.wire.facts import Machine

KIND = "export_disk"
ANY_PC = ("ahci", "nvme", "xhci_pci", "ehci_pci", "usb_storage", "uas")
"""Drivers by which a computer finds the disk, built in or at USB."""


@dataclass(frozen=True)
class Wish:
    """``disks`` of the version that come to ``targets``, in this order; empty: all."""

    version: str
    targets: tuple[Target, ...]
    disks: tuple[int, ...] = ()
    adapt: bool = False


@dataclass(frozen=True)
class BootDisks:
    """What people can have done, and the job."""

    means: Means
    runner: JobRunner
    work: Work

    def register(self) -> BootDisks:
        self.runner.register(KIND, self.write)
        return self

    def begin(self, row: Primary, wish: Wish, who: str) -> Job:
        store = self.means.pool.primary(row.uuid)
        version = store.version(wish.version) if wish.version else store.need_best()
        disks = wish.disks or tuple(one.index for one in version.manifest.disks)
        if wish.adapt and len(disks) < len(version.manifest.disks):
            raise _count(version, wish)
        found = _check_all(version, disks, wish.targets)
        parameters = {
            "version": version.stamp,
            "disks": list(disks),
            "targets": [
                {**asdict(target), "path": disk.path, "attached": disk.attached}
                for target, disk in zip(wish.targets, found, strict=True)
            ],
            "adapt": wish.adapt,
        }
        job = self.runner.submit(KIND, row.uuid, parameters, who)
        told = [f"{one.path} {one.model} {one.confirmation}" for one in found]
        self.means.catalogue.journal.write(
            row.uuid, "disk-export-begun", who, details={"version": version.stamp, "disks": told}
        )
        return job

    def write(self, ctx: JobContext) -> dict[str, Any]:
        store = self.means.pool.primary(ctx.primary)
        version = store.version(ctx.parameters["version"])
        disks = tuple(int(one) for one in ctx.parameters["disks"])
        targets = tuple(Target(**one) for one in ctx.parameters["targets"])
        with held(self.means, ctx.primary, version.stamp, ctx):
            _check_all(version, disks, targets)
            with self._images(ctx, version, disks) as images:
                found = _check_all(version, disks, targets)  # the adaptation took its time
                written = self._write_all(ctx, images, found)
        self.means.catalogue.journal.write(
            ctx.primary, "version-exported", ctx.job.who, details={"version": version.stamp}
        )
        where = ", ".join(f"{one.path} ({one.model or one.confirmation})" for one in found)
        return {"version": version.stamp, "disks": where, "bytes_written": written}

    def _write_all(
        self, ctx: JobContext, images: Sequence[Image], found: Sequence[BlockDevice]
    ) -> int:
        total, done, written = 2 * sum(one.size for one in images), 0, 0

        def tell(count: int) -> None:
            nonlocal done
            ctx.check()
            done += count
            ctx.progress("writing the disk", done, total)

        for image, disk in zip(images, found, strict=True):
            written += write_disk(image, disk.path, tell)
        return written

    @contextmanager
    def _images(
        self, ctx: JobContext, version: Version, disks: Sequence[int]
    ) -> Iterator[list[Image]]:
        machine = version.manifest.machine
        with ExitStack() as stack:
            raws = [version.raw(one.index) for one in version.manifest.disks]
            if ctx.parameters["adapt"]:
                raws = list(stack.enter_context(self._adapted(ctx, version)))
            images = []
            for index in disks:
                idx = None if ctx.parameters["adapt"] else version.idx(index)
                expected = stack.enter_context(expected_of(idx, raws[index]))
                size = version.manifest.disks[index].size
                images.append(Image(raws[index], size, _sector(machine, index), expected))
            yield images

    @contextmanager
    def _adapted(self, ctx: JobContext, version: Version) -> Iterator[Sequence[Path]]:
        """A clone that any computer can start, which is the primary again."""
        ctx.progress("waiting for other images")
        medium = self.work.medium(ctx)
        store = self.means.pool.primary(ctx.primary)
        machine = version.manifest.machine
        with store.working_clones(version, f"disk-{ctx.job.id}") as clones:
            with self.work.appliances:
                ctx.progress("adapting in the appliance")
                hardware = any_hardware(machine)
                means, job = self.means, {"hardware": hardware}
                told = adapt_clones(
                    means.settings, means.hypervisor, medium, clones, machine, job, ctx.check
                )
                ctx.note(changes=told["changes"])
            yield clones.disks


def any_hardware(machine: Machine) -> dict[str, Any]:
    """A computer that nobody knows, in the words of the adaptation: its cards are found by the
    system itself."""
    disks = [{"driver": one} for one in ANY_PC]
    return {"firmware": machine.firmware, "role": "primary", "disks": disks, "nics": []}


def _sector(machine: Machine, index: int) -> int:
    return machine.disks[index].sector if index < len(machine.disks) else 512


def _check_all(
    version: Version, disks: Sequence[int], targets: Sequence[Target]
) -> list[BlockDevice]:
    manifest = version.manifest
    known = {one.index: one for one in manifest.disks}
    if len(targets) != len(disks) or not targets or any(one not in known for one in disks):
        raise NotfallError(
            "disk-count",
            f"The server has {len(known)} disks (from 0 on); {len(disks)} are to be written to "
            f"{len(targets)}.",
            "Name one disk for each, in their order; or say which: --only NUMBER",
        )
    found = [find_disk(one.path) for one in targets]
    if len({one.path for one in found}) < len(found):
        raise NotfallError(
            "disk-twice", "A disk is named twice.", "Name another one for each disk."
        )
    for index, target, disk in zip(disks, targets, found, strict=True):
        check_target(disk, target, known[index].size, _sector(manifest.machine, index))
    return found


def _count(version: Version, wish: Wish) -> NotfallError:
    return NotfallError(
        "disk-adapt-all",
        "Only the whole server can be adapted, with all of its disks.",
        "Leave --only out, or write it as it is.",
    )
