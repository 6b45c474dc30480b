"""Agents and rescue media of paper: threads that call at the real doors."""

from __future__ import annotations

import logging
import secrets
import threading
import time
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any

from notfall_lab.dryrun.hypervisor import PaperHypervisor
from notfall_lab.dryrun.machines import rehoused
from notfall_lab.dryrun.world import Server, World
from notfallserver import VERSION
from notfallserver.server.cycle.doors import AgentDoor, TargetDoor
from notfallserver.server.cycle.handover.plan import HAND_OVER
from notfallserver.server.cycle.normal.orders import Errand, Orders
from notfallserver.server.cycle.recovery.desk import Desk
from notfallserver.server.cycle.standin import machine_name
from notfallserver.server.records import Catalogue
from notfallserver.server.records.targets import pairing_code
from notfallserver.server.vm.hypervisor import MachineState
from notfallserver.wire.errors import NotfallError
from notfallserver.wire.facts import Machine

log = logging.getLogger(__name__)

AT_ONCE = 64
"""So many agents call at the same time."""
BEAT_S = 1.0
"""An agent calls so often; a poll is never held longer, so that the end comes soon."""
PULL_S, LATER_S, ADAPT_S, REBOOT_S = 30.0, 4.0, 3.0, 10.0
PULLED = 380 << 20


class QuickOrders(Orders):
    """Orders whose polls end soon."""

    def wait(self, primary: str, seconds: float) -> Errand | None:
        return super().wait(primary, min(seconds, BEAT_S))

    @staticmethod
    def rest(seconds: float) -> None:
        time.sleep(min(seconds, BEAT_S))


class QuickDesk(Desk):
    """A desk whose polls end soon."""

    def poll(
        self, target: str, report: dict[str, Any], wait: float | None = None
    ) -> dict[str, Any]:
        return super().poll(target, report, (BEAT_S if wait is None else wait) / 5)


class Agents(threading.Thread):
    """The agents of all servers and stand-ins; each calls every second or two."""

    def __init__(self, world: World, door: AgentDoor, hypervisor: PaperHypervisor) -> None:
        super().__init__(name="agents", daemon=True)
        self._world = world
        self._door = door
        self._hypervisor = hypervisor

    def run(self) -> None:
        """When it is over, so is every call: nobody touches the catalogue any more."""
        with ThreadPoolExecutor(AT_ONCE, "agent") as threads:
            while not self._world.ended.wait(BEAT_S):
                wait([threads.submit(self._call, server) for server in self._world.servers])

    def _call(self, server: Server) -> None:
        if server.alive:
            self._poll(server, "primary", server.boot, server.made_by)
        elif self._hypervisor.state(machine_name(server.uuid)) is MachineState.RUNNING:
            self._poll(server, "stand-in", f"{server.boot}-stand-in", "")

    def _poll(self, server: Server, role: str, boot: str, made_by: str) -> None:
        machine = server.machine.to_json() if role == "primary" else None
        told = {"role": role, "boot_id": boot, "agent": VERSION, "recovery": made_by}
        body = {**told, "can": [HAND_OVER]}
        try:
            self._door.poll(server.uuid, {**body, "machine": machine})
        except NotfallError as error:
            log.info("%s: %s", server.name, error)


class RescueTarget(threading.Thread):
    """A machine that was booted from the rescue medium."""

    def __init__(
        self, world: World, door: TargetDoor, catalogue: Catalogue, machine: Machine
    ) -> None:
        super().__init__(name="target", daemon=True)
        self._world = world
        self._door = door
        self._catalogue = catalogue
        self._machine = machine
        self._secret = secrets.token_hex(32)
        self._order: dict[str, Any] = {}
        self._since = 0.0
        self._rounds = 0
        self.code = pairing_code(self._secret)
        self.label = f"{machine.vendor} {machine.product}".strip()
        self.state = "shows its code"
        door.register(self._secret, {"machine": machine.to_json(), "code": self.code})

    def run(self) -> None:
        report: dict[str, Any] = {"state": "idle"}
        while not self._world.ended.is_set():
            order = self._door.poll(self._secret, {"report": report})
            if order != self._order:
                self._order, self._since = order, time.monotonic()
                self._rounds += order["order"] == "pull"
            report = self._done(order)
            self.state = str(report["state"])
            if report["state"] == "rebooting":
                self._door.poll(self._secret, {"report": report})
                self._start_anew(str(order["recovery"]))
                return

    def _done(self, order: dict[str, Any]) -> dict[str, Any]:
        """How far the present order is by now."""
        base = {"recovery": order.get("recovery", ""), "version": order.get("version", "")}
        passed = time.monotonic() - self._since
        if order["order"] == "pull":
            whole = PULLED if self._rounds == 1 else PULLED // 40
            lasts = self._world.lasting(PULL_S if self._rounds == 1 else LATER_S)
            if passed < lasts:
                done = int(whole * passed / lasts)
                return {"state": "pulling", **base, "done": done, "total": whole}
            return {"state": "pulled", **base, "written": whole, "verified": whole}
        if order["order"] == "adapt":
            if passed < self._world.lasting(ADAPT_S):
                return {"state": "adapting", **base}
            return {"state": "adapted", **base, "changes": ["initramfs", "boot loader"]}
        return {"state": "rebooting" if order["order"] == "reboot" else "idle", **base}

    def _start_anew(self, recovery: str) -> None:
        self.state = "starts from its own disks"
        self._world.rest(self._world.lasting(REBOOT_S))
        for row in self._catalogue.primaries.all():
            server = self._world.server(row.uuid)
            if server and row.notes.get("recovery", {}).get("id") == recovery:
                self._world.replace(row.uuid, rehoused(server.machine, self._machine), recovery)
        self.state = "has become the server"
