"""Importing image files as a version, for servers on which no agent can run.

The files stay where they are and are only read. What can be checked without reading them is checked
before the job begins; the primary is made by the first import. A version's point in time is when
its newest file was written, unless a person says another: that is as old as its data may be.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from uuid import uuid4

from notfallserver.server.cycle.agentless import IMPORT, is_agentless
from notfallserver.server.cycle.import_copy import copy_disk
from notfallserver.server.cycle.means import Means
from notfallserver.server.cycle.refusals import refuse_beside_standin, refuse_broken_index
from notfallserver.server.cycle.runner import Cancelled, JobContext, JobRunner
from notfallserver.server.cycle.work import Work
from notfallserver.server.foreign.chain import Layer, find_image
from notfallserver.server.foreign.enclosure import check_image
from notfallserver.server.foreign.machine import Wish, describe_machine
from notfallserver.server.foreign.source import Source, opened_source
from notfallserver.server.foreign.tables import Layout, read_layout
from notfallserver.server.pool.layout import make_stamp, raw_name, stamp_time
from notfallserver.server.pool.store import Clones, PrimaryStore
from notfallserver.server.pool.version import Version
from notfallserver.server.records.jobs import Job
from notfallserver.server.records.primaries import Primary, check_name
from notfallserver.server.vm.appliance import run_appliance
from notfallserver.server.vm.spec import Accelerator
from notfallserver.wire.errors import NotfallError
from notfallserver.wire.facts import Machine

KIND = "image_import"
"""The job's."""
SAID = "said"
"""In a primary's notes: what a person said of the machine with the last import."""
MOST_FILES = 64
LOOK_LIMIT_S = 900.0
_SAME = timedelta(seconds=1)
"""An image of the same moment is the same image: it may be imported again, told otherwise."""
_STEP = timedelta(milliseconds=1)


@dataclass(frozen=True)
class Order:
    """One file for each disk, in the machine's order; ``taken_at``: whose state it is."""

    name: str
    files: tuple[str, ...]
    wish: Wish = field(default_factory=Wish)
    taken_at: datetime | None = None


@dataclass(frozen=True)
class Imports:
    """What people can have done, and the job."""

    means: Means
    runner: JobRunner
    work: Work

    # -- beginning -------------------------------------------------------------------------------

    def begin(self, order: Order, who: str) -> Job:
        """Everything that can be known without reading the disks is refused here."""
        order.wish.check()
        layers = _find(order.files)
        moment = taken_at(layers, order.taken_at)
        row = self.row_for(order.name, moment, who)
        wish = order.wish.over(Wish.from_json(row.notes.get(SAID, {}))).check()
        parameters = {
            "files": list(order.files),
            "wish": wish.to_json(),
            "taken_at": order.taken_at.isoformat() if order.taken_at else "",
        }
        return self.runner.submit(KIND, row.uuid, parameters, who)

    def row_for(self, name: str, moment: datetime, who: str) -> Primary:
        """The primary of this name, made now if there is none; refused where it can't take what is
        of ``moment``."""
        row = self._known(name)
        if row is None:
            return self._add(name, who)
        self.refuse(row, moment)
        return row

    def _known(self, name: str) -> Primary | None:
        try:
            return self.means.catalogue.primaries.find(name)
        except NotfallError:
            check_name(name)
            return None

    def _add(self, name: str, who: str) -> Primary:
        capture_minutes = self.means.present().capture_minutes
        return self.means.catalogue.primaries.add_agentless(
            str(uuid4()), name, capture_minutes, who
        )

    def refuse(self, row: Primary, moment: datetime) -> None:
        if not is_agentless(row):
            raise NotfallError(
                "has-agent",
                f"{row.name} has an agent, which makes its copies.",
                "Choose another name for what is imported, or replicate it with its agent.",
                status=409,
            )
        refuse_beside_standin(row)
        newest = self.store(row).newest()
        if newest is not None:
            next_stamp(newest.stamp, moment)

    def store(self, row: Primary) -> PrimaryStore:
        return self.means.pool.add_primary(row.uuid, row.name)

    # -- the job ---------------------------------------------------------------------------------

    def image_import(self, ctx: JobContext) -> dict[str, Any]:
        row = self.means.catalogue.primaries.find(ctx.primary)
        version = self.sealed_before(ctx, row)
        if version is None:
            version = self._import(ctx, row)
        return self.arrived(ctx, version)

    def arrived(self, ctx: JobContext, version: Version) -> dict[str, Any]:
        """What follows on a version; may be repeated."""
        said = {SAID: ctx.parameters["wish"]}
        self.means.catalogue.primaries.note(ctx.primary, **said)
        machine = version.manifest.machine
        return {
            **self.work.arrived(ctx, version),
            "system": machine.system,
            "firmware": machine.firmware,
            "cards": ", ".join(one.mac for one in machine.nics),
            "addresses": ", ".join(machine.addresses()),
            "not_looked_inside": ctx.notes.get("trouble", ""),
        }

    def sealed_before(self, ctx: JobContext, row: Primary) -> Version | None:
        """The version, if the server was killed between its seal and the end of the job."""
        newest = self.store(row).newest()
        return newest if newest is not None and newest.stamp == ctx.notes.get("stamp") else None

    def drop(self, row: Primary) -> None:
        """A wrong image, or one for which there is no room, leaves nothing behind."""
        self.means.runs.end(row.uuid)
        self.store(row).drop_incoming()

    def _import(self, ctx: JobContext, row: Primary) -> Version:
        told = ctx.parameters.get("taken_at")
        layers = _find(ctx.parameters["files"])
        moment = taken_at(layers, datetime.fromisoformat(told) if told else None)
        self.refuse(row, moment)
        refuse_broken_index(self.means, self.runner, row)
        for layer in layers:
            ctx.progress("checking the image")
            check_image(layer, ctx.check)
        try:
            return self._receive(ctx, row, layers, moment)
        except (Exception, Cancelled):  # not when the server ends: its next start goes on
            self.drop(row)
            raise

    def _receive(
        self, ctx: JobContext, row: Primary, layers: Sequence[Layer], moment: datetime
    ) -> Version:
        wish = Wish.from_json(ctx.parameters["wish"])
        run, layouts = self._copy(ctx, row, layers, wish)
        inside = self.look_inside(ctx, row, layouts)
        machine = describe_machine(row.uuid, row.name, layouts, wish, inside, row.machine)
        for layer in layers:
            layer.require_unchanged()
        return self.seal(ctx, row, run, machine, moment)

    def seal(
        self, ctx: JobContext, row: Primary, run: str, machine: Machine, moment: datetime
    ) -> Version:
        """Make a version of a run into which all was brought."""
        ctx.progress("sealing")
        ctx.check()
        newest = self.store(row).newest()
        stamp = next_stamp(newest.stamp if newest else "", moment)
        ctx.note(stamp=stamp)
        body = {
            "machine": machine.to_json(),
            "consistency": "crash",  # as after a power cut, as far as anybody here knows
            "bytes_read": sum(one.size for one in machine.disks),
        }
        version = self.means.runs.seal(row.uuid, run, body, stamp, IMPORT).version
        if version is None:
            raise NotfallError("incomplete", "The import made no version.", "Import it again.")
        return version

    def _copy(
        self, ctx: JobContext, row: Primary, layers: Sequence[Layer], wish: Wish
    ) -> tuple[str, tuple[Layout, ...]]:
        with ExitStack() as stack:
            sources: list[Source] = [
                stack.enter_context(opened_source(layer, ctx.check)) for layer in layers
            ]
            layouts = tuple(read_layout(one.size, one.read) for one in sources)
            _refuse_empty(layouts)
            machine = describe_machine(row.uuid, row.name, layouts, wish, {}, row.machine)
            begun = self.means.runs.begin(row.uuid, row.name, {"machine": machine.to_json()})
            run, total, done = str(begun["run"]), sum(one.size for one in sources), 0

            def tell(count: int) -> None:
                nonlocal done
                ctx.check()
                done = min(done + count, total)
                ctx.progress("reading the image", done, total)

            for index, source in enumerate(sources):
                copy_disk(source.stretches(), index, self.means.runs, row.uuid, run, tell)
        return run, layouts

    def look_inside(
        self, ctx: JobContext, row: Primary, layouts: Sequence[Layout]
    ) -> dict[str, Any]:
        """What the images tell of their machine; nothing where the appliance can't tell."""
        store = self.store(row)
        incoming = store.paths.incoming
        disks = tuple(incoming / raw_name(index) for index in range(len(layouts)))
        try:
            medium = self.work.medium(ctx)
            ctx.progress("looking into the image")
            clones = Clones(incoming, disks, {"version": ""})
            with self.work.appliances, store.working_clones(clones, "import") as copies:
                answer = run_appliance(
                    self.means.hypervisor,
                    medium,
                    copies.disks,
                    {"task": "look"},
                    timeout=LOOK_LIMIT_S,
                    accelerator=Accelerator(self.means.settings.accelerator),
                    check=ctx.check,
                    sectors=[one.sector for one in layouts],
                )
            if not answer.get("ok"):
                told = answer.get("error")
                raise NotfallError.from_json(told if isinstance(told, dict) else {}, 500)
        except NotfallError as error:
            ctx.note(trouble=error.code)
            return {}
        ctx.note(trouble=str(answer.get("trouble", ""))[:60])
        return answer


def _find(files: Sequence[str]) -> list[Layer]:
    if not 0 < len(files) <= MOST_FILES:
        raise NotfallError("image-missing", "No image is named.", "Name one file for each disk.")
    for one in files:
        if not Path(one).is_absolute() or "\0" in one:
            raise NotfallError(
                "image-missing",
                f"'{one[:200]}' names no file.",
                "Name it with its whole path on the emergency server.",
            )
    layers = [find_image(Path(one)) for one in files]
    if len({layer.path for layer in layers}) < len(layers):
        raise NotfallError(
            "image-twice", "The same image is named twice.", "Name one file for each disk."
        )
    return layers


def _refuse_empty(layouts: Sequence[Layout]) -> None:
    if all(one.empty for one in layouts):
        raise NotfallError(
            "image-empty",
            "No partition and no file system was found in the images.",
            "Name the images of a whole machine, that of its first disk first.",
        )


def taken_at(layers: Sequence[Layer], told: datetime | None) -> datetime:
    """Whose moment's state it is; never in the future, whatever the clocks say."""
    now = datetime.now(timezone.utc)
    newest = max(layer.written_ns for layer in layers) / 1e9
    return min(told or datetime.fromtimestamp(newest, timezone.utc), now)


def next_stamp(newest: str, moment: datetime) -> str:
    """The version's name; what is older than the newest version is refused."""
    if not newest:
        return make_stamp(moment)
    known = stamp_time(newest)
    if moment < known - _SAME:
        raise NotfallError(
            "image-old",
            f"The image is of {moment:%Y-%m-%d %H:%M} UTC, and not newer than the newest version "
            f"{newest}.",
            "Import a newer one. If its file's date is wrong, say whose state it is: --taken-at",
            status=409,
        )
    return make_stamp(max(moment, known + _STEP))
