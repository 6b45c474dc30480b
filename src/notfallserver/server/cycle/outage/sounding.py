"""What of a primary answers this server in peace: by that its silence in an outage is judged.

An address in a network that the server has no leg in (behind a router, on a bridge where the
server has no address) tells nothing by its silence, unless it is known that it used to answer. Of
its ports those are asked that were seen open.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta, timezone
from typing import Any

from notfallserver.server.cycle.means import Means
from notfallserver.server.cycle.outage.legs import Map, groups_of, map_groups, read_legs
from notfallserver.server.cycle.outage.probe import Sighting, Way, ask
from notfallserver.server.cycle.state import State
from notfallserver.server.records.primaries import AGENTLESS, Primary
from notfallserver.wire.facts import Machine

log = logging.getLogger(__name__)

SOUNDING = "answers"
"""In the primary's notes: the names of what has answered."""
EVERY = timedelta(hours=1)
"""So often a primary that is well is asked; at once when it is new here or has other addresses."""
HEARD_WITHIN = timedelta(seconds=15)
"""Only one whose agent called just now: else the silence of one that is dying would be learned."""
MOST_PORTS = 8


def read_sounding(notes: Mapping[str, Any]) -> frozenset[str]:
    told = notes.get(SOUNDING)
    return frozenset(str(one) for one in told) if isinstance(told, list) else frozenset()


def telling_ports(served: Sequence[int], seen: frozenset[str]) -> tuple[int, ...]:
    """Which ports are worth asking: those seen open, else the first that the primary serves."""
    known = [port for port in served if any(one.startswith(f"{Way.TCP}:{port} ") for one in seen)]
    return tuple((known or list(served))[:MOST_PORTS])


def learned(before: frozenset[str], asked: Machine, sightings: Sequence[Sighting]) -> list[str]:
    """What is known afterwards: an answer stays known while the machine has the address.

    That something does not answer once more (a service restarts, a ping is lost) proves nothing;
    forgetting it would make the guard blind.
    """
    addresses = set(asked.addresses())
    kept = {one for one in before if one.split(" ", 1)[-1] in addresses}
    now = {one.name for one in sightings if one.alive and not one.ours}
    return sorted(kept | now)


def unheard(machine: Machine, where: Map, notes: Mapping[str, Any]) -> tuple[str, ...]:
    """The addresses whose silence would tell nothing, so that the guard would refuse a start;
    none as long as nobody has asked."""
    if SOUNDING not in notes:
        return ()
    known = {one.split(" ", 1)[-1] for one in read_sounding(notes)}
    return tuple(one for one in machine.addresses() if not where.of(one).near and one not in known)


class Sounding:
    """Belongs to the duties' thread; at most one primary is asked each time, for a second."""

    def __init__(self, means: Means) -> None:
        self._means = means
        self._last: dict[str, tuple[datetime, tuple[str, ...]]] = {}

    def look(self, rows: Sequence[Primary]) -> None:
        now = datetime.now(timezone.utc)
        for row in rows:
            if self._due(row, now):
                self._sound(row, now)
                return

    def _due(self, row: Primary, now: datetime) -> bool:
        if row.state not in (State.NEW, State.NORMAL) or row.machine is None:
            return False
        if not row.machine.addresses() or not self._calls(row, now):
            return False
        last = self._last.get(row.uuid)
        if last is None or last[1] != tuple(row.machine.addresses()):
            return True
        return now - last[0] >= EVERY

    def _calls(self, row: Primary, now: datetime) -> bool:
        """One that has no agent never calls: what answers of it is learned whenever it does."""
        if row.last_seen is None:
            return row.notes.get(AGENTLESS) is True
        return now - row.last_seen < HEARD_WITHIN and row.agent_role == "primary"

    def _sound(self, row: Primary, now: datetime) -> None:
        machine = row.machine
        if machine is None:
            return
        self._last[row.uuid] = (now, tuple(machine.addresses()))
        where = map_groups(groups_of(machine), read_legs(), self._means.settings.lan_bridge)
        heard = ask(machine.addresses(), where=where, ports=machine.ports[:MOST_PORTS])
        before = read_sounding(row.notes)
        after = learned(before, machine, heard)
        if SOUNDING not in row.notes or after != sorted(before):
            self._means.catalogue.primaries.note(row.uuid, **{SOUNDING: after})
