"""The real conductor on a simulated world: only the guard's eyes and the jobs are replaced."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

from notfall_lab.dryrun.carry import paper_carry
from notfall_lab.dryrun.fence import PaperFence
from notfall_lab.dryrun.hypervisor import not_here
from notfall_lab.dryrun.work import PaperHandOver, PaperWork
from notfall_lab.dryrun.world import World
from notfallserver.server.cycle.care import Care
from notfallserver.server.cycle.conductor import Conductor
from notfallserver.server.cycle.fencing import Fencing
from notfallserver.server.cycle.means import Means
from notfallserver.server.cycle.outage.guard import Findings, Verdict, decide
from notfallserver.server.cycle.outage.probe import Sighting, Way
from notfallserver.server.cycle.outage.sounding import Sounding
from notfallserver.server.cycle.outage.watch import heartbeat_age
from notfallserver.server.cycle.plans.room import Memory
from notfallserver.server.cycle.plans.start_plan import StartPlans
from notfallserver.server.cycle.runner import JobRunner
from notfallserver.server.cycle.way_back import WayBack
from notfallserver.server.records.primaries import Primary
from notfallserver.wire.errors import NotfallError

ASKING_S = 1.5


class NoSounding(Sounding):
    """The addresses of paper machines may be those of real ones."""

    def look(self, rows: Sequence[Primary]) -> None:
        pass


class PaperConductor(Conductor):
    """What needs a real disk and isn't simulated answers ``not-in-the-dry-run``."""

    def __init__(self, means: Means, runner: JobRunner, world: World) -> None:
        super().__init__(means, runner)
        self._world = world
        self.fencing = Fencing(means, self.examine, PaperFence(world, means.catalogue.primaries))
        work = PaperWork(
            means,
            runner,
            self._captures,
            Care(means),
            self._move,
            self._allow_again,
            self.fencing,
            world=world,
        )
        work.register()
        self.carry = paper_carry(self.carry)
        WayBack(means, runner, work, self._move).register()
        self.handovers = PaperHandOver(
            means, runner, work, self._move, self.examine, self.readiness, paper=work
        )
        self.handovers.register()
        self.start_plans = StartPlans(
            means, runner, self.activate, self.examine, lambda: Memory(world.memory, world.memory)
        )
        self.start_plans.register()
        self.duties.sounding = NoSounding(means)

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        return found if name.startswith("_") or not callable(found) else _or_say_so(name, found)

    def examine(
        self, primary: str, fenced_age: float | None = None, claim: bool = False
    ) -> Verdict:
        """The guard's rules on what the simulated network answers."""
        row = self._row(primary)
        machine = row.machine or self._means.pool.primary(primary).need_newest().manifest.machine
        self._world.rest(self._world.lasting(ASKING_S))
        answers = self._world.is_alive(primary) and not self._world.cut_off
        seen = []
        for address in machine.addresses():
            near = Way.NEIGHBOUR if ":" in address else Way.ARP
            seen += [Sighting(Way.PING, address, answers), Sighting(near, address, answers)]
            seen += [
                Sighting(Way.TCP, address, answers, port=port, port_open=answers)
                for port in machine.ports[:8]
            ]
        gateway = Sighting(Way.PING, machine.gateway or "192.0.2.1", not self._world.cut_off)
        limit = float(self._means.settings.heartbeat_timeout_s)
        return decide(Findings(tuple(seen), (gateway,), heartbeat_age(row), limit, fenced_age))


def _or_say_so(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
    """Disks of paper make real code stumble over a missing file: said in one clear way."""

    @wraps(method)
    def call(*values: Any, **named: Any) -> Any:
        try:
            return method(*values, **named)
        except NotfallError:
            raise
        except (OSError, LookupError) as error:
            raise not_here(f"'{name}'") from error

    return call
