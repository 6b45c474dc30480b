"""One case from beginning to end: made, adapted by the appliance, booted on its target, proven."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from notfall_lab.hypervisor import Lab
from notfall_lab.machine import HardDisk, Hardware, Machine
from notfall_lab.matrix.assemble import Made, assemble
from notfall_lab.matrix.case import CARD_DRIVERS, DRIVERS, Case
from notfall_lab.matrix.layout import Layout
from notfall_lab.matrix.networks import Wiring, wire
from notfall_lab.matrix.proof import NotProven, keep_console, prove
from notfall_lab.matrix.recover import Recovery
from notfallserver.server.pool.store import Pool
from notfallserver.server.rescue_medium import Medium
from notfallserver.server.vm.appliance import run_appliance
from notfallserver.server.vm.libvirt import LibvirtHypervisor
from notfallserver.server.vm.spec import Accelerator
from notfallserver.wire.errors import NotfallError
from notfallserver.wire.facts import Disk, Partition
from notfallserver.wire.facts import Machine as Facts

ADAPT_S = 900.0


@dataclass(frozen=True)
class Way:
    """The hardware on which a case shall boot, and as what."""

    bus: str
    role: str
    firmware: str


@dataclass
class Outcome:
    """What is told of a case; ``boots`` only when everything was proven."""

    boots: bool = False
    adapt_s: float = 0.0
    boot_s: float = 0.0
    kernel: str = ""
    system: str = ""
    changes: list[str] = field(default_factory=list)
    warnings: list[dict[str, str]] = field(default_factory=list)
    refused: str = ""  # the code of the adaptation's refusal
    error: str = ""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


class Bench:
    """Where cases are tried: a lab with libvirt, the rescue medium, a pool, and a folder."""

    def __init__(self, lab: Lab, medium: Medium, pool: Pool, consoles: Path) -> None:
        self.lab = lab
        self.hypervisor = LibvirtHypervisor(lab.uri)
        self.medium = medium
        self.recovery = Recovery(self.hypervisor, medium, pool)
        self.consoles = consoles

    def attempt(self, case: Case, host: int) -> Outcome:
        """``host`` is the last byte of its address."""
        folder = Path(mkdtemp(prefix="nfm-", dir="/var/tmp"))
        outcome = Outcome()
        try:
            wiring = wire(case, self.lab.network.address(0).rpartition(".")[0], host)
            made = assemble(case, wiring, folder)
            if case.onto:
                self._recover(case, wiring, made, folder, outcome)
            else:
                self._go(case, wiring, made, folder, outcome)
            outcome.boots = True
        except NotProven as error:
            outcome.error = str(error)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        return outcome

    def _go(self, case: Case, wiring: Wiring, made: Made, folder: Path, outcome: Outcome) -> None:
        ways = [Way(case.target, case.role, case.target_firmware)]
        if "back" in case.odd:
            ways.append(Way(case.source, "primary", case.firmware))
        for number, way in enumerate(ways):
            job = adaptation(case, wiring, made.layout, way)
            begun = time.monotonic()
            answer = run_appliance(
                self.hypervisor, self.medium, made.disks, job, ADAPT_S, Accelerator.TCG
            )
            outcome.adapt_s = max(outcome.adapt_s, round(time.monotonic() - begun, 1))
            if not answer.get("ok"):
                told = answer.get("error", {})
                outcome.refused = str(told.get("code"))
                raise NotProven(
                    f"refused ({told.get('code')}): {told.get('cause')} {told.get('remedy')}"
                )
            outcome.system = answer["system"]
            outcome.changes += answer["changes"]
            outcome.warnings += answer["warnings"]
            self._boot(case, wiring, made.disks, folder / f"m{number}", way, outcome)

    def _recover(
        self, case: Case, wiring: Wiring, made: Made, folder: Path, outcome: Outcome
    ) -> None:
        begun = time.monotonic()
        try:
            done = self.recovery.recover(case, wiring, made.layout, made.disks, folder)
        except NotfallError as error:
            outcome.refused = error.code
            raise NotProven(f"refused ({error.code}): {error.cause} {error.remedy}") from None
        outcome.adapt_s = round(time.monotonic() - begun, 1)
        outcome.changes += done.changes
        if done.failure:
            outcome.refused = str(done.failure.get("code"))
            raise NotProven(f"the target failed: {done.failure}")
        way = Way(case.target, case.role, case.target_firmware)
        self._boot(case, wiring, done.disks, folder / "m0", way, outcome)

    def _boot(
        self,
        case: Case,
        wiring: Wiring,
        disks: Sequence[Path],
        folder: Path,
        way: Way,
        outcome: Outcome,
    ) -> None:
        first, *others = (one.mac for one in wiring.cards)
        hardware = Hardware(
            name=case.name[:40],
            disks=tuple(HardDisk(one, way.bus) for one in disks),
            mac=first,
            more_macs=tuple(others),
            firmware=way.firmware,
            nic=case.card,
            memory=896,
        )
        with Machine(hardware, folder, self.lab.network.namespace()) as machine:
            begun = time.monotonic()
            machine.power_on()
            try:
                outcome.kernel = prove(case, wiring, machine, self.lab.network, way.role)
            finally:
                outcome.boot_s = max(outcome.boot_s, round(time.monotonic() - begun, 1))
                keep_console(machine, self.consoles / f"{case.name}.log")


def adaptation(case: Case, wiring: Wiring, layout: Layout, way: Way) -> dict[str, Any]:
    """The appliance's job: the original as its agent tells it, and the target's hardware."""
    parts = [
        Partition(one.number, one.start, one.size, part_uuid=layout.part_uuid(one.role))
        for one in layout.parts
    ]
    disks = [
        Disk(case.disk_name(number), layout.size, driver=DRIVERS[case.source][0], partitions=parts)
        for number in range(case.disks)
    ]
    nics = [
        {"name": one.name, "mac": one.mac, "old_mac": one.old, "driver": CARD_DRIVERS[case.card]}
        for one in wiring.cards
    ]
    return {
        "task": "adapt",
        "machine": Facts(case.name, firmware=_kind(case.firmware), disks=disks).to_json(),
        "hardware": {
            "firmware": _kind(way.firmware),
            "role": way.role,
            "disks": [{"driver": DRIVERS[way.bus][0]}] * case.disks,
            "nics": nics,
        },
    }


def _kind(firmware: str) -> str:
    return "bios" if firmware == "bios" else "uefi"
