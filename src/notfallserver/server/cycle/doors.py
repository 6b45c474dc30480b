"""What agents and targets can have done; the web only passes bytes and JSON to these doors."""

from __future__ import annotations

import logging
from datetime import datetime, timezone
from typing import Any

from notfallserver.server.cycle.conductor import Conductor
from notfallserver.server.cycle.elsewhere import note_caller, refuse_elsewhere
from notfallserver.server.cycle.handover.plan import CAN, HAND_OVER, LEFT, read_left
from notfallserver.server.cycle.means import Means
from notfallserver.server.cycle.normal.deep import judge_deep, read_deep
from notfallserver.server.cycle.normal.limits import LIMITS, read_limits
from notfallserver.server.cycle.normal.line import LINE, judge, read_line
from notfallserver.server.cycle.outage.legs import near_addresses
from notfallserver.server.cycle.recovery.desk import NO_ORDER
from notfallserver.server.cycle.recovery.serve import raw_index, wanted_blocks
from notfallserver.server.cycle.returned import greet, hear_kept_off
from notfallserver.server.pool.reshaped import find_reshaped
from notfallserver.server.pool.version import Manifest, Version
from notfallserver.server.records.targets import Target
from notfallserver.wire.blocks import Buffer
from notfallserver.wire.errors import NotfallError
from notfallserver.wire.facts import read_machine

log = logging.getLogger(__name__)

POLL_SECONDS = 5.0
ROLES = ("primary", "stand-in", "recovered")


class AgentDoor:
    """For agents; ``primary`` is the UUID of the certificate, so nobody reaches another's data."""

    def __init__(self, means: Means, conductor: Conductor) -> None:
        self._means = means
        self._conductor = conductor

    def poll(self, primary: str, body: dict[str, Any]) -> dict[str, Any]:
        """The heartbeat; blocks up to :data:`POLL_SECONDS` for an order."""
        role = body.get("role")
        if role not in ROLES:
            raise NotfallError("bad-poll", "The agent tells no role.", "Update the agent.")
        machine = read_machine(body["machine"]) if body.get("machine") else None
        boot_id = str(body.get("boot_id", ""))[:64]
        before = self._means.catalogue.primaries.find(primary)
        note_caller(self._means.catalogue, before, role, boot_id)
        # The stand-in shows virtual hardware: it must not replace what is known of the original.
        self._means.catalogue.primaries.saw_agent(
            primary,
            boot_id,
            role,
            str(body.get("agent", ""))[:40],
            machine if role == "primary" else None,
        )
        if role == "primary":
            self._know_again(primary, str(body.get("recovery", ""))[:64])
            self._know_what_it_can(primary, boot_id, body.get("can"))
            self._means.runs.polled(primary, bool(body.get("busy")))
            if isinstance(failed := body.get("failed"), dict):
                self._means.orders.failed(primary, NotfallError.from_json(failed, 500))
        beside = greet(self._means, primary) if role == "primary" else None
        busy = role != "primary" or bool(body.get("busy"))
        near = {}
        if body.get("near") is True:
            near = {
                "near": near_addresses(self._means.settings.lan_bridge),
                "urls": [*self._means.urls, *self._means.present().further_urls],
            }
        if beside is not None or busy:
            if beside in (None, NO_ORDER):
                self._means.orders.rest(POLL_SECONDS)
            return {**(beside or NO_ORDER), **near}
        errand = self._means.orders.wait(primary, POLL_SECONDS)
        return {**(errand.to_json() if errand else NO_ORDER), **near}

    def kept_off(self, primary: str, body: dict[str, Any]) -> dict[str, Any]:
        return hear_kept_off(self._means, primary, body)

    def _know_again(self, primary: str, recovery: str) -> None:
        """Note which recovery made the machine that calls; empty for the original."""
        if self._means.catalogue.primaries.find(primary).notes.get("made_by", "") != recovery:
            self._means.catalogue.primaries.note(primary, made_by=recovery or None)

    def _know_what_it_can(self, primary: str, boot_id: str, told: object) -> None:
        """Note whether it can be handed over, and that one which had gone was switched on again."""
        can = [HAND_OVER] if isinstance(told, list) and HAND_OVER in told else None
        notes = self._means.catalogue.primaries.find(primary).notes
        if notes.get(CAN) != can:
            self._means.catalogue.primaries.note(primary, **{CAN: can})
        left = read_left(notes)
        if left is not None and left.boot != boot_id:
            self._means.catalogue.primaries.note(primary, **{LEFT: None})

    def farewell(self, primary: str, body: dict[str, Any]) -> None:
        """The last message of a primary that is handed over; refused where that is over."""
        version, boot_id = str(body.get("version", ""))[:64], str(body.get("boot_id", ""))[:64]
        self._conductor.handovers.farewell(primary, version, boot_id)

    def begin(self, primary: str, body: dict[str, Any]) -> dict[str, Any]:
        refuse_elsewhere(self._means.catalogue.primaries.find(primary))
        begun = self._conductor.begin_run(primary, body)
        line = read_line(self._means.catalogue.primaries.find(primary).notes.get(LINE))
        known = {"line_rate": line.rate} if line else {}
        return {**begun, **known, "allowance": self._allowance(primary)}

    def _allowance(self, primary: str) -> dict[str, float]:
        """What the run may take now; asked again with each progress, so that windows act."""
        row = self._means.catalogue.primaries.find(primary)
        return read_limits(row.notes.get(LIMITS)).allowance(datetime.now().astimezone()).to_json()

    def offer(self, primary: str, run: str, frame: Buffer) -> bytes:
        return self._means.runs.offer(primary, run, frame)

    def receive(self, primary: str, run: str, frame: Buffer) -> None:
        self._means.runs.receive(primary, run, frame)

    def punch(self, primary: str, run: str, frame: Buffer) -> None:
        self._means.runs.punch(primary, run, frame)

    def progress(self, primary: str, run: str, body: dict[str, Any]) -> dict[str, Any]:
        cancelled = self._means.runs.progress(primary, run, body)
        return {"cancelled": cancelled, "allowance": self._allowance(primary)}

    def seal(self, primary: str, run: str, body: dict[str, Any]) -> dict[str, Any]:
        sealed = self._means.runs.seal(primary, run, body).version
        self._note_line(primary, body)
        if sealed is not None:
            self._note_deep(primary, sealed.manifest)
        return {"version": sealed.stamp if sealed else ""}

    def _note_line(self, primary: str, body: dict[str, Any]) -> None:
        """Keep what the line gave in this run, if the run was long enough to tell."""
        notes = self._means.catalogue.primaries.find(primary).notes
        now = datetime.now().astimezone()
        limit = read_limits(notes.get(LIMITS)).allowance(now).rate
        known = read_line(notes.get(LINE))
        seen = judge(known, body.get("line_rate"), limit, now.astimezone(timezone.utc))
        if seen is not None and seen != known:
            self._means.catalogue.primaries.note(primary, line=seen.to_json())

    def _note_deep(self, primary: str, manifest: Manifest) -> None:
        """Keep what a deep run found; asked again for the same version, nothing is new."""
        last = read_deep(self._means.catalogue.primaries.find(primary).notes)
        now = judge_deep(last, manifest)
        if now is None or now == last:
            return
        self._means.catalogue.primaries.note(primary, deep=now.to_json())
        if manifest.unexplained:
            self._means.catalogue.journal.write(
                primary, "unseen-changes", "server", now.in_words(), now.to_json()
            )
            log.error("%s: %s", primary, now.in_words())

    def begin_seed(self, primary: str) -> dict[str, Any]:
        return self._conductor.begin_seed(primary)

    def seed_sealed(self, primary: str, seed: str, body: dict[str, Any]) -> None:
        self._conductor.seeds.sealed(primary, seed, str(body.get("stamp", "")))

    def fail(self, primary: str, run: str, body: dict[str, Any]) -> None:
        self._means.runs.fail(primary, run, body)


class TargetDoor:
    """For targets; they read only versions of the primary whose recovery they belong to."""

    def __init__(self, means: Means) -> None:
        self._means = means

    def register(self, secret: str, body: dict[str, Any]) -> dict[str, Any]:
        machine = read_machine(body.get("machine"))
        target = self._means.catalogue.targets.register(secret, machine, str(body.get("code", "")))
        return {"target": target.id}

    def poll(self, secret: str, body: dict[str, Any]) -> dict[str, Any]:
        target = self._target(secret)
        report = body.get("report")
        told = report if isinstance(report, dict) else {}
        self._means.catalogue.targets.saw(target.id, {"state": str(told.get("state", ""))[:40]})
        return self._means.desk.poll(target.id, told)

    def index(self, secret: str, stamp: str, disk: int) -> bytes:
        return raw_index(self._version(secret, stamp), disk)

    def want(self, secret: str, stamp: str, frame: bytes) -> bytes:
        return wanted_blocks(self._version(secret, stamp), frame)

    def drivers(self, secret: str, body: dict[str, Any]) -> bytes:
        """The customer's drivers for the Windows that this target has pulled, packed."""
        target = self._target(secret)
        self._means.desk.may_read(target.id, target.state == "paired")
        return self._means.drivers.parcel_asked(body)

    def offer(self, secret: str, run: str, frame: Buffer) -> bytes:
        """Which of the blocks of its disks are wanted."""
        return self._means.runs.offer(self._fed(secret, run), run, frame)

    def blocks(self, secret: str, run: str, frame: Buffer) -> None:
        self._means.runs.receive(self._fed(secret, run), run, frame)

    def _fed(self, secret: str, run: str) -> str:
        target = self._target(secret)
        return self._means.desk.may_feed(target.id, run, target.state == "paired")

    def _target(self, secret: str) -> Target:
        return self._means.catalogue.targets.by_secret(secret)

    def _version(self, secret: str, stamp: str) -> Version:
        target = self._target(secret)
        primary = self._means.desk.may_read(target.id, target.state == "paired")
        store = self._means.pool.primary(primary)
        shape = self._means.catalogue.primaries.find(primary).notes.get("recovery", {}).get("shape")
        if not shape:
            return store.version(stamp)
        if (version := find_reshaped(store, stamp, shape)) is None:
            raise NotfallError(
                "order-comes",
                "This is not ready yet.",
                "Ask again in a moment.",
                retry=True,
                status=503,
            )
        return version
