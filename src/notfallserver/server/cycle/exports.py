"""Exporting a version: its disks as image files, with what another hypervisor must know.

All of it grows in a directory under a name of its own and gets its right name at the end, so what
is there is whole. The version is pinned meanwhile; a restarted server begins again.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

from notfallserver.server.cycle.means import Means
from notfallserver.server.cycle.normal.prepare import adapt_clones
from notfallserver.server.cycle.runner import Cancelled, JobContext, JobRunner
from notfallserver.server.cycle.standin import describe_standin, hardware_of
from notfallserver.server.cycle.work import Work
from notfallserver.server.foreign.export import (
    Expected,
    Kind,
    file_name,
    needed_bytes,
    no_space,
    refuse_sector,
    verify_disk,
    write_disk,
)
from notfallserver.server.foreign.machine_files import (
    DiskFile,
    Told,
    description,
    manifest,
    ovf,
    readme,
)
from notfallserver.server.host.files import rename_durably, replace_json, sync_path
from notfallserver.server.pool.index import Index
from notfallserver.server.pool.pins import Pin
from notfallserver.server.pool.store import Clones, PrimaryStore
from notfallserver.server.pool.version import Version
from notfallserver.server.records.jobs import Job
from notfallserver.server.records.primaries import Primary
from notfallserver.server.vm.describe import domain_xml
from notfallserver.wire.blocks import BLOCK, HASH, hash_block
from notfallserver.wire.cards import real_cards
from notfallserver.wire.errors import NotfallError
from notfallserver.wire.facts import Machine

KIND = "export"
_PART = ".notfall-export-{job}.part"
_DRIVERS = {
    Kind.VMDK: ("VMware", {"bios": "ahci", "uefi": "ahci"}, "e1000e"),
    Kind.VHDX: ("Hyper-V", {"bios": "ata_piix", "uefi": "hv_storvsc"}, "hv_netvsc"),
}
"""Name, driver of the disks by firmware, and of the cards, where it is not QEMU that runs it."""


@contextmanager
def held(means: Means, primary: str, stamp: str, ctx: JobContext) -> Iterator[None]:
    """The version stays while this block lasts, and also when the server ends within it: the job
    goes on at its next start, and lets go at its end."""
    pins = means.pool.primary(primary).pins
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    pins.pin(stamp, f"job-{ctx.job.id}", Pin("It is being written elsewhere.", ctx.job.who, now))
    try:
        yield
    except (Exception, Cancelled):
        pins.unpin(stamp, f"job-{ctx.job.id}")
        raise
    pins.unpin(stamp, f"job-{ctx.job.id}")


@dataclass(frozen=True)
class Exports:
    """What people can have done, and the job."""

    means: Means
    runner: JobRunner
    work: Work

    def register(self) -> Exports:
        self.runner.register(KIND, self.export)
        return self

    def begin(
        self, row: Primary, directory: Path, kind: Kind, version: str, adapt: bool, who: str
    ) -> Job:
        """Everything that can be known without writing is refused here. ``version``: empty for the
        newest sound one; ``adapt``: to the hypervisor that the kind is for."""
        store = self.means.pool.primary(row.uuid)
        wanted = store.version(version) if version else store.need_best()
        self._check(row, wanted, directory, kind)
        parameters = {
            "directory": str(directory),
            "kind": kind.value,
            "version": wanted.stamp,
            "adapt": adapt,
        }
        return self.runner.submit(KIND, row.uuid, parameters, who)

    def _check(self, row: Primary, version: Version, directory: Path, kind: Kind) -> None:
        refuse_place(self.means, directory)
        final = directory / folder_name(row.name, version.stamp)
        if final.exists() or final.is_symlink():
            raise NotfallError(
                "export-exists",
                f"{final} is there already.",
                "Remove or rename it, or name another directory. Nothing is overwritten.",
                status=409,
            )
        for index, disk in enumerate(version.manifest.machine.disks):
            refuse_sector(index, disk.sector, kind)
        needed = sum(needed_bytes(version.raw(d.index), kind) for d in version.manifest.disks)
        free = shutil.disk_usage(directory).free
        if needed > free:
            raise NotfallError(
                "export-no-space",
                f"The export needs up to {needed >> 20} MiB, and {directory} has {free >> 20} MiB "
                "left.",
                "Make room there, or name another directory.",
                status=507,
            )

    # -- the job ---------------------------------------------------------------------------------

    def export(self, ctx: JobContext) -> dict[str, Any]:
        row = self.means.catalogue.primaries.find(ctx.primary)
        store = self.means.pool.primary(ctx.primary)
        version = store.version(ctx.parameters["version"])
        directory = Path(ctx.parameters["directory"])
        kind = Kind(ctx.parameters["kind"])
        final = directory / folder_name(row.name, version.stamp)
        part = directory / _PART.format(job=ctx.job.id)
        with held(self.means, ctx.primary, version.stamp, ctx):
            if not (final.exists() and ctx.notes.get("named")):
                self._sweep(directory, ctx.job.id)
                self._check(row, version, directory, kind)
                part.mkdir(mode=0o700)
                try:
                    with self._source(ctx, store, version, kind) as (disks, adapted, spec):
                        made = self._write(ctx, version, disks, part, kind, adapted)
                        told = Told(row.name, version.stamp, _machine(version), made, **adapted)
                        _describe(told, part, final, kind, spec)
                    ctx.note(named=True)
                    if final.exists():
                        raise NotfallError("export-exists", f"{final} is there now.", status=409)
                    rename_durably(part, final)
                finally:
                    shutil.rmtree(part, ignore_errors=True)
        self.means.catalogue.journal.write(
            ctx.primary, "version-exported", ctx.job.who, details={"version": version.stamp}
        )
        written = sum(one.stat().st_blocks * 512 for one in final.iterdir())
        return {"directory": str(final), "version": version.stamp, "bytes_written": written}

    def _sweep(self, directory: Path, job: str) -> None:
        """What ended servers left there; what another job writes just now is left alone."""
        busy = {one.id for one in self.means.catalogue.jobs.unfinished(kind=KIND)} - {job}
        kept = {_PART.format(job=one) for one in busy}
        for left in directory.glob(_PART.format(job="*")):
            if left.name not in kept and left.is_dir() and not left.is_symlink():
                shutil.rmtree(left, ignore_errors=True)

    @contextmanager
    def _source(
        self, ctx: JobContext, store: PrimaryStore, version: Version, kind: Kind
    ) -> Iterator[tuple[Sequence[Path], dict[str, Any], ET.Element | None]]:
        """The disks to write, what was adapted, and the machine for libvirt."""
        machine = version.manifest.machine
        raws = [version.raw(one.index) for one in version.manifest.disks]
        if not ctx.parameters["adapt"]:
            yield raws, {}, self._libvirt(store.uuid, machine, raws)
            return
        ctx.progress("waiting for other images")
        medium = self.work.medium(ctx)
        with store.working_clones(version, f"export-{ctx.job.id}") as clones:
            spec = describe_standin(self.means.settings, store.uuid, machine, clones.disks)
            hardware = hardware_of(spec, machine)
            name = "QEMU/KVM"
            if kind in _DRIVERS:
                name, hardware = foreign_hardware(machine, kind)
            told = self._adapt(ctx, medium, clones, machine, hardware)
            libvirt = self._libvirt(store.uuid, machine, clones.disks, told.get("clock", ""))
            yield clones.disks, {"adapted_to": name, "changes": told["changes"]}, libvirt

    def _adapt(
        self, ctx: JobContext, medium: Any, clones: Clones, machine: Machine, hardware: Any
    ) -> dict[str, Any]:
        with self.work.appliances:
            ctx.progress("adapting in the appliance")
            means, job = self.means, {"hardware": hardware}
            return adapt_clones(
                means.settings, means.hypervisor, medium, clones, machine, job, ctx.check
            )

    def _libvirt(
        self, primary: str, machine: Machine, disks: Sequence[Path], clock: str = ""
    ) -> ET.Element | None:
        """The stand-in that would be made of it; none where no such machine can be described."""
        try:
            text = domain_xml(describe_standin(self.means.settings, primary, machine, disks, clock))
            return ET.fromstring(text)  # noqa: S314  (it is our own)
        except NotfallError:
            return None

    def _write(
        self,
        ctx: JobContext,
        version: Version,
        disks: Sequence[Path],
        part: Path,
        kind: Kind,
        adapted: dict[str, Any],
    ) -> list[DiskFile]:
        total = 2 * sum(one.size for one in version.manifest.disks)
        done, phase = 0, ""

        def tell(count: int) -> None:
            nonlocal done
            ctx.check()
            done += count
            ctx.progress(phase, done, total)

        made = []
        sectors = [one.sector for one in version.manifest.machine.disks]
        for image, raw in zip(version.manifest.disks, disks, strict=True):
            phase = "writing the image"
            name = file_name(image.index, kind)
            try:
                path = write_disk(raw, part, name, kind, tell)
            except OSError as error:
                raise no_space(name) from error
            phase = "reading the image back"
            with expected_of(None if adapted else version.idx(image.index), raw) as expected:
                verify_disk(path, image.size, kind, expected, tell)
            digest = _sha256(path, ctx.check) if kind is Kind.VMDK else ""
            sector = sectors[image.index] if image.index < len(sectors) else 512
            size = path.stat().st_size
            made.append(DiskFile(name, kind.value, image.size, size, sector, digest))
        return made


def refuse_place(means: Means, directory: Path) -> None:
    """Where nothing may be written: what is no directory, and the pool itself."""
    if not directory.is_dir():
        raise NotfallError("no-such-directory", f"{directory} is no directory.", "Mount it.")
    real = directory.resolve()
    if real.is_relative_to(means.settings.pool_path.resolve()):
        raise NotfallError(
            "export-in-pool",
            f"{directory} lies in the image pool.",
            "Name a directory elsewhere: the pool is only for the server's own files.",
        )


def folder_name(name: str, stamp: str) -> str:
    plain = re.sub(r"[^A-Za-z0-9._-]", "_", name).lstrip(".") or "server"
    return f"{plain}-{stamp}"


def foreign_hardware(machine: Machine, kind: Kind) -> tuple[str, dict[str, Any]]:
    """The hypervisor's name, and its hardware in the words of the adaptation."""
    name, drivers, card = _DRIVERS[kind]
    cards = [
        {"name": one.name, "mac": one.mac.lower(), "old_mac": one.mac.lower(), "driver": card}
        for one in real_cards(machine)
    ]
    disks = [{"driver": drivers[machine.firmware]} for _ in machine.disks]
    return name, {"firmware": machine.firmware, "role": "stand-in", "disks": disks, "nics": cards}


@contextmanager
def expected_of(idx: Path | None, raw: Path) -> Iterator[Expected]:
    """The hashes that a written disk must have: the sealed index, or of what was adapted itself."""
    if idx is not None:
        with Index(idx) as index:

            def sealed(first: int, count: int) -> list[bytes]:
                entries = index.slice(first, count)
                return [entries[at : at + HASH] for at in range(0, len(entries), HASH)]

            yield sealed
        return
    with raw.open("rb") as stream:
        handle = stream.fileno()

        def read(first: int, count: int) -> list[bytes]:
            parts = (os.pread(handle, BLOCK, n * BLOCK) for n in range(first, first + count))
            return [hash_block(part) for part in parts]

        yield read


def _machine(version: Version) -> Machine:
    return version.manifest.machine


def _describe(told: Told, part: Path, final: Path, kind: Kind, libvirt: ET.Element | None) -> None:
    replace_json(part / "machine.json", description(told))
    texts = {"README.txt": readme(told)}
    if kind is Kind.VMDK:
        text = ovf(told)
        digest = hashlib.sha256(text.encode()).hexdigest()
        name = folder_name(told.name, told.version)
        sums = [(f"{name}.ovf", digest), *((one.name, one.sha256) for one in told.disks)]
        texts |= {f"{name}.ovf": text, f"{name}.mf": manifest(sums)}
    elif kind in (Kind.RAW, Kind.QCOW2) and libvirt is not None:
        texts["libvirt.xml"] = libvirt_text(libvirt, told, final)
    for name, text in texts.items():
        (part / name).write_text(text, encoding="utf-8")
        sync_path(part / name)
    sync_path(part)


def libvirt_text(domain: ET.Element, told: Told, final: Path) -> str:
    """The stand-in's machine as one of its own, with the exported disks."""
    name = domain.find("name")
    if name is not None:
        name.text = told.name
    for tag in ("uuid", "title"):
        if (one := domain.find(tag)) is not None:
            domain.remove(one)
    nvram = domain.find("os/nvram")
    if nvram is not None:
        nvram.text = None  # libvirt makes one
    for disk, file in zip(domain.findall("devices/disk"), told.disks, strict=True):
        source, driver = disk.find("source"), disk.find("driver")
        if source is not None and driver is not None:
            source.set("file", str(final / file.name))
            driver.set("type", file.format)
    devices = domain.find("devices")
    serial = domain.find("devices/serial")
    if devices is not None and serial is not None:
        devices.remove(serial)  # its log lies in the pool
    ET.indent(domain)
    return ET.tostring(domain, encoding="unicode") + "\n"


def _sha256(path: Path, check: Callable[[], None]) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while piece := stream.read(4 << 20):
            check()
            digest.update(piece)
    return digest.hexdigest()
