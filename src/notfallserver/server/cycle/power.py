"""The power of a stand-in that is at work: shut down, restart, switch off, switch on.

Only in emergency operation and while its successor is being copied; at any other time the job under
way decides about it. A stand-in that a person or its guest switched off stays off until a person
switches it on, also when libvirt has forgotten meanwhile why it is off. One that went off by itself
comes back by itself. In both cases the guard is asked first: the original may be alive by now.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from notfallserver.server.cycle.hands import Hands
from notfallserver.server.cycle.means import Means
from notfallserver.server.cycle.outage.guard import Verdict
from notfallserver.server.cycle.outage.watch import examine_primary
from notfallserver.server.cycle.power_order import Order
from notfallserver.server.cycle.standin import machine_name
from notfallserver.server.cycle.state import State
from notfallserver.server.records.events import PrimaryChanged
from notfallserver.server.records.primaries import Primary
from notfallserver.server.vm.hypervisor import LIVE, MachineState
from notfallserver.wire.errors import NotfallError

AT_WORK = frozenset({State.EMERGENCY, State.RECOVERING})
_STAYS_OFF = "stays_off"
_HELD_BACK = "held_back"
"""In the primary's notes: its stand-in was seen off on purpose; why the guard did not let it start
again. Both go when it is seen on."""
_HELD = "held"
"""In the primary's notes: its stand-in stands still, because there is no space in the pool."""


def is_off(row: Primary) -> bool:
    """Whether the stand-in that should work is known to be off; up to date within seconds."""
    told = row.notes.get(_STAYS_OFF) or row.notes.get(_HELD_BACK)
    return State(row.state) in AT_WORK and bool(told)


@dataclass(frozen=True)
class Power:
    """``decide`` asks the guard, or journals that the reason overruled it; raises its refusal."""

    means: Means
    hands: Hands
    decide: Callable[[Primary, str, str], Verdict]

    def give(self, row: Primary, order: Order, who: str, reason: str = "") -> MachineState:
        """Carry an order out; returns how the stand-in is just afterwards.

        The guest obeys the first two within a minute or so, or not at all.
        """
        name = machine_name(row.uuid)
        if order is Order.START:
            self._require_at_work(row.uuid)
            if self.means.hypervisor.state(name) not in LIVE:
                self.decide(row, who, reason)
        with self.hands.on(row.uuid):
            self._require_at_work(row.uuid)
            live = self.means.hypervisor.state(name) in LIVE
            if live is not (order is Order.START):
                self._carry_out(name, order)
                self.means.catalogue.journal.write(row.uuid, f"power-{order}", who, reason)
            elif not live:
                raise NotfallError(
                    "stand-in-not-on",
                    f"The stand-in of {row.name} is off.",
                    "Switch it on with 'notfall power NAME start'.",
                    status=409,
                )
        self.means.catalogue.events.tell(PrimaryChanged(row.uuid))
        return self.means.hypervisor.state(name)

    def _carry_out(self, name: str, order: Order) -> None:
        hypervisor = self.means.hypervisor
        acts = {
            Order.SHUT_DOWN: hypervisor.shutdown,
            Order.RESTART: hypervisor.restart,
            Order.SWITCH_OFF: hypervisor.kill,
            Order.START: hypervisor.start,
        }
        acts[order](name)

    def _require_at_work(self, primary: str) -> None:
        row = self.means.catalogue.primaries.find(primary)
        if State(row.state) not in AT_WORK:
            raise NotfallError(
                "not-in-this-state",
                f"The stand-in of {row.name} can't be switched in state '{row.state}'.",
                "That is possible in emergency operation and during a recovery.",
                status=409,
            )
        for job in self.means.catalogue.jobs.unfinished(primary, "undo"):
            raise NotfallError(
                "primary-busy",
                f"The stand-in of {row.name} is being put away (job {job.id}).",
                "Wait for its end.",
                status=409,
            )

    # -- what the server does of itself ----------------------------------------------------------

    def keep(self, row: Primary) -> None:
        """After a power cut of this host its stand-ins come back, if the guard allows it.

        Not by libvirt's autostart: the pool may not be mounted when libvirt starts, and after a
        power cut of the whole building the original may be alive again as well. That may also be
        when it stood still for want of space: then nobody has answered under its addresses.
        """
        if State(row.state) not in AT_WORK:
            return
        held = self._is_held(row)
        if not (self._has_room() if held else self._fell_over(row)):
            return
        means = self.means
        verdict = examine_primary(
            means.present(), means.pool, means.catalogue.primaries, row, claim=True
        )
        if verdict.allowed:
            (self._go_on if held else self._start_again)(row.uuid)
        elif row.notes.get(_HELD_BACK) != verdict.text:
            means.catalogue.primaries.note(row.uuid, **{_HELD_BACK: verdict.text})
            means.catalogue.journal.write(
                row.uuid, "stand-in-held-back", "server", verdict.text, verdict.to_json()
            )

    def _is_held(self, row: Primary) -> bool:
        """Whether QEMU holds it, because the pool is full; told once."""
        name, means = machine_name(row.uuid), self.means
        held = means.hypervisor.state(name) is MachineState.PAUSED and means.hypervisor.held(name)
        if held is not bool(row.notes.get(_HELD)):
            means.catalogue.primaries.note(row.uuid, **{_HELD: held or None})
            if held:
                means.catalogue.journal.write(row.uuid, "stand-in-held", "server")
        return held

    def _has_room(self) -> bool:
        try:
            self.means.pool.room.need()
        except NotfallError:
            return False
        return True

    def _go_on(self, primary: str) -> None:
        name = machine_name(primary)
        with self.hands.on(primary):
            self._require_at_work(primary)
            if not self.means.hypervisor.held(name):
                return
            self.means.hypervisor.resume(name)
        self.means.catalogue.primaries.note(primary, **{_HELD: None, _HELD_BACK: None})
        self.means.catalogue.journal.write(primary, "stand-in-went-on", "server")

    def _fell_over(self, row: Primary) -> bool:
        """Whether it is off against everybody's will; an off that is meant is noted."""
        name = machine_name(row.uuid)
        if self.means.hypervisor.state(name) in LIVE:
            if is_off(row):
                self.means.catalogue.primaries.note(
                    row.uuid, **{_STAYS_OFF: None, _HELD_BACK: None}
                )
            return False
        if row.notes.get(_STAYS_OFF):
            return False
        fallen = self.means.hypervisor.fell_over(name)
        if not fallen:
            self.means.catalogue.primaries.note(row.uuid, **{_STAYS_OFF: True})
        return fallen

    def _start_again(self, primary: str) -> None:
        with self.hands.on(primary):
            self._require_at_work(primary)
            self.means.hypervisor.start(machine_name(primary))
        self.means.catalogue.journal.write(
            primary, "stand-in-restarted", "server", "it had gone off by itself"
        )
