"""Whether primaries without an agent live: asked of the network, because nobody calls.

Whoever has answered under its addresses before and does not any more, twice in a row, has an
outage; whoever answers again is back. Where no address is known, only people can tell.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from enum import StrEnum

from notfallserver.server.cycle.agentless import answers
from notfallserver.server.cycle.means import Means
from notfallserver.server.cycle.moves import Move
from notfallserver.server.cycle.outage.guard import Verdict
from notfallserver.server.cycle.outage.sounding import read_sounding
from notfallserver.server.cycle.rehearsals import end_rehearsals
from notfallserver.server.cycle.runner import JobRunner
from notfallserver.server.cycle.state import Event, State
from notfallserver.server.records.primaries import Primary

EVERY = timedelta(seconds=30)
"""So often the network is asked about one of them; an outage is known after twice that."""
SILENCES = 2


class Step(StrEnum):
    WAIT = "wait"
    SILENT = "silent"  # for the first time
    OUTAGE = "outage"
    BACK = "back"


def next_step(state: str, verdict: Verdict, known: bool, silences: int) -> Step:
    """Pure. ``known``: something has answered before; ``silences``: so often nothing did since."""
    if state == State.OUTAGE:
        return Step.BACK if answers(verdict) else Step.WAIT
    if not known or not verdict.allowed:
        return Step.WAIT
    return Step.OUTAGE if silences + 1 >= SILENCES else Step.SILENT


class Lookout:
    """Belongs to the duties' thread."""

    def __init__(
        self, means: Means, runner: JobRunner, move: Move, examine: Callable[[str], Verdict]
    ) -> None:
        self._means = means
        self._runner = runner
        self._move = move
        self._examine = examine
        self._asked: dict[str, datetime] = {}
        self._silences: dict[str, int] = {}

    def look(self, row: Primary) -> None:
        """Notice an outage, or the end of one; asks the network now and then."""
        known = bool(read_sounding(row.notes))
        if row.state not in (State.NORMAL, State.REHEARSING, State.OUTAGE):
            self._silences.pop(row.uuid, None)
            return
        if row.machine is None or not row.machine.addresses():
            return
        if row.state != State.OUTAGE and not known:
            return
        now = datetime.now(timezone.utc)
        if now - self._asked.get(row.uuid, now - EVERY) < EVERY:
            return
        self._asked[row.uuid] = now
        verdict = self._examine(row.uuid)
        step = next_step(row.state, verdict, known, self._silences.get(row.uuid, 0))
        if step is Step.SILENT:
            self._silences[row.uuid] = self._silences.get(row.uuid, 0) + 1
            return
        self._silences.pop(row.uuid, None)
        if step is Step.OUTAGE:
            told = verdict.to_json()
            self._move(row.uuid, Event.OUTAGE_SEEN, "server", verdict.text, told)
            end_rehearsals(self._means, self._runner, row.uuid)
        elif step is Step.BACK:
            self._move(row.uuid, Event.PRIMARY_BACK, "server", "it answers in the network")
