"""Importing the disks of a machine that was started from the rescue medium.

Recovery the other way round: the machine's own system is off, the rescue system reads its disks and
gives them into a run. It writes nothing, and may read no version. A person names it by the code on
its console. The order carries the run's name, so after a restart of the server neither a report of
an earlier run nor a block for it counts: the job begins another, which continues in what arrived.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import Any

from notfallserver.server.cycle.imports import KIND, SAID, Imports
from notfallserver.server.cycle.means import Means
from notfallserver.server.cycle.recovery.copying import Link
from notfallserver.server.cycle.refusals import refuse_broken_index
from notfallserver.server.cycle.runner import Cancelled, JobContext, JobRunner
from notfallserver.server.foreign.machine import Wish, describe_machine
from notfallserver.server.foreign.tables import Layout, firmware_of
from notfallserver.server.pool.version import Version
from notfallserver.server.records.jobs import Job
from notfallserver.server.records.primaries import Primary
from notfallserver.server.records.targets import Target
from notfallserver.wire.errors import NotfallError
from notfallserver.wire.facts import Disk, Machine


@dataclass(frozen=True)
class TargetOrder:
    """``disks``: their names on the machine, in the order that they shall have; empty: all on which
    anything is."""

    name: str
    code: str
    disks: tuple[str, ...]
    wish: Wish


@dataclass(frozen=True)
class TargetImports:
    """What people can have done, and the job."""

    means: Means
    runner: JobRunner
    imports: Imports

    def register(self) -> None:
        """One kind of job for files and machines: success makes good what failed before."""
        others = {"replicate", "capture", "switch_back", "recover", "seed_import", "undo"}
        self.runner.register(KIND, self.bring, others)

    def bring(self, ctx: JobContext) -> dict[str, Any]:
        known = "target" in ctx.parameters
        return self.target_import(ctx) if known else self.imports.image_import(ctx)

    def begin(self, order: TargetOrder, who: str) -> Job:
        """The machine belongs to this import until the job is over."""
        order.wish.check()
        target = self.means.catalogue.targets.by_code(order.code)
        disks = chosen_disks(target.machine.disks, order.disks)
        row = self.imports.row_for(order.name, datetime.now(timezone.utc), who)
        wish = order.wish.over(Wish.from_json(row.notes.get(SAID, {}))).check()
        pairing = f"import-{secrets.token_hex(8)}"
        self.means.catalogue.targets.pair(target.id, pairing)
        parameters = {
            "target": target.id,
            "pairing": pairing,
            "disks": [one.name for one in disks],
            "wish": wish.to_json(),
        }
        try:
            return self.runner.submit(KIND, row.uuid, parameters, who)
        except NotfallError:
            self.means.catalogue.targets.release(target.id)
            raise

    def target_import(self, ctx: JobContext) -> dict[str, Any]:
        row = self.means.catalogue.primaries.find(ctx.primary)
        version = self.imports.sealed_before(ctx, row)
        if version is None:
            try:
                version = self._receive(ctx, row)
            except (Exception, Cancelled):  # not when the server ends: its next start goes on
                if ctx.notes.get("begun"):
                    self.imports.drop(row)
                self._release(ctx)
                raise
        self._release(ctx)
        return self.imports.arrived(ctx, version)

    def _receive(self, ctx: JobContext, row: Primary) -> Version:
        target = self.means.catalogue.targets.find(ctx.parameters["target"])
        disks = chosen_disks(target.machine.disks, ctx.parameters["disks"])
        moment = datetime.now(timezone.utc)  # its system is off: nothing changes any more
        self.imports.refuse(row, moment)
        refuse_broken_index(self.means, self.runner, row)
        machine = self._described(row, target, disks, ctx, {})
        ctx.note(begun=True)
        begun = self.means.runs.begin(row.uuid, row.name, {"machine": machine.to_json()})
        run = str(begun["run"])
        orders = [
            {"index": index, "name": one.name, "serial": one.serial, "size": one.size}
            for index, one in enumerate(disks)
        ]
        link = Link(self.means.desk, target.id, row.uuid, ctx.parameters["pairing"], tuple(orders))
        link.read(ctx, run)
        layouts = [layout_of(one) for one in disks]
        inside = self.imports.look_inside(ctx, row, layouts)
        machine = self._described(row, target, disks, ctx, inside)
        return self.imports.seal(ctx, row, run, machine, moment)

    def _described(
        self,
        row: Primary,
        target: Target,
        disks: Sequence[Disk],
        ctx: JobContext,
        inside: dict[str, Any],
    ) -> Machine:
        """The hardware is the real one; what its system is, the disks tell."""
        wish = Wish.from_json(ctx.parameters["wish"])
        before = hardware_of(target.machine, disks)
        layouts = [layout_of(one) for one in disks]
        # Without an ESP it starts by BIOS; with one, as it was just started from the medium.
        started = "bios" if firmware_of(tuple(layouts)) == "bios" else target.machine.firmware
        known = replace(wish, firmware=wish.firmware or started)
        machine = describe_machine(row.uuid, row.name, layouts, known, inside, before)
        real = [
            replace(one, serial=disk.serial, model=disk.model, driver=disk.driver or one.driver)
            for one, disk in zip(machine.disks, disks, strict=True)
        ]
        return replace(machine, disks=real)

    def _release(self, ctx: JobContext) -> None:
        """The machine waits for another order again; it may be gone by now."""
        target, pairing = ctx.parameters["target"], ctx.parameters["pairing"]
        try:
            known = self.means.catalogue.targets.find(target)
        except NotfallError:
            return
        if known.recovery == pairing:
            self.means.desk.give(target, {"order": "release", "recovery": pairing})
            self.means.catalogue.targets.release(target)


def chosen_disks(found: Sequence[Disk], names: Sequence[str]) -> list[Disk]:
    """Those that are named, else all on which anything is."""
    known = {one.name: one for one in found}
    missing = [one for one in names if one not in known]
    if missing or len(set(names)) < len(names):
        raise NotfallError(
            "no-such-disk",
            f"The machine has no disk '{(missing or list(names))[0][:40]}', or it is named twice.",
            f"It has: {', '.join(known) or 'none'}.",
        )
    chosen = [known[one] for one in names]
    chosen = chosen or [one for one in found if one.table or one.partitions]
    if not chosen:
        raise NotfallError(
            "image-empty",
            "No partition and no file system was found on the disks of that machine.",
            "Start the right machine from the rescue medium.",
        )
    return chosen


def layout_of(disk: Disk) -> Layout:
    return Layout(disk.size, disk.sector, disk.table, tuple(disk.partitions))


def hardware_of(machine: Machine, disks: Sequence[Disk]) -> Machine:
    """What the rescue system saw of the hardware; its own name and addresses are not the machine's,
    and cards have other names in another system."""
    cards = [replace(one, name="", addresses=[], leased=[]) for one in machine.nics]
    return replace(
        machine, hostname="", system="", kernel="", gateway="", disks=list(disks), nics=cards
    )
