"""What the API answers about the ransomware alarm."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from pydantic import BaseModel

from notfallserver.server.cycle.alarm.alarms import NOTE, Standing, Told
from notfallserver.server.pool.layout import stamp_time
from notfallserver.server.pool.measures import Alarm


class StandingAlarm(BaseModel):
    """An alarm that stands: raised by version ``since``; ``clean``, the last without a trace before
    it, is held. ``answer`` is empty, or attack. ``reasons`` have a ``key`` and numbers."""

    since: str
    clean: str
    raised_at: datetime
    answer: str
    reasons: list[dict[str, Any]]

    @classmethod
    def of(cls, notes: Mapping[str, Any]) -> StandingAlarm | None:
        told = notes.get(NOTE)
        if told is None:
            return None
        reasons = [{"key": one["key"], **one["values"]} for one in told["reasons"]]
        return cls.model_validate({**told, "reasons": reasons})

    @property
    def examples(self) -> str:
        """Names of files, where files gave reason."""
        return next((str(one["examples"]) for one in self.reasons if one.get("examples")), "")


class AlarmAnswer(BaseModel):
    """An alarm, standing or past. ``answer``: empty, well or attack; ``until``: the newest version
    when a person said that all is well (again), empty while it stands."""

    since: str
    clean: str
    raised_at: datetime
    answer: str
    who: str
    why: str
    answered_at: datetime | None
    until: str
    reasons: list[dict[str, Any]]

    @classmethod
    def of(cls, alarm: Alarm) -> AlarmAnswer:
        reasons = [{"key": one.key, **one.values} for one in alarm.reasons]
        told = {**vars(alarm), "reasons": reasons, "answered_at": alarm.answered_at or None}
        return cls.model_validate({**told, "answer": str(alarm.answer)})


class MeasuresAnswer(BaseModel):
    """A version against the one it was made of: shares of 1. ``change_rate``: changed blocks by
    those in use. ``turned``: of the blocks that were written over, those that held something and
    are random now; ``dark``: those that were random before, which say nothing. Watched files:
    ``compared`` were found again, ``renamed`` have another extension, ``scrambled`` can't be
    recognised any more, ``strange`` of ``seen`` hold random bytes. ``suspect``: an alarm marks it;
    ``there``: the version still exists."""

    stamp: str
    taken_at: datetime
    base: str
    change_rate: float
    turned: float
    dark: float
    fresh_random: float
    compared: int
    renamed: int
    scrambled: int
    strange: int
    seen: int
    suspect: bool
    there: bool
    seconds: float

    @classmethod
    def of(cls, told: Told) -> MeasuresAnswer:
        one = told.measures
        return cls(
            stamp=told.stamp,
            taken_at=stamp_time(told.stamp),
            base=one.base,
            change_rate=round(one.change_rate, 4),
            turned=_share(one.turned, one.rewritten_read),
            dark=_share(one.dark, one.rewritten_read),
            fresh_random=_share(one.fresh_random, one.fresh_read),
            compared=one.files.compared,
            renamed=one.files.renamed,
            scrambled=one.files.scrambled,
            strange=one.files.strange,
            seen=one.files.seen,
            suspect=told.suspect,
            there=told.there,
            seconds=one.seconds,
        )


class AlarmsAnswer(BaseModel):
    """``alarms``: the newest first; ``measured``: versions, the newest first; ``usual_rate``: above
    it a version's change rate is unusual, None while too little is known."""

    standing: AlarmAnswer | None
    alarms: list[AlarmAnswer]
    measured: list[MeasuresAnswer]
    usual_rate: float | None

    @classmethod
    def of(cls, standing: Standing) -> AlarmsAnswer:
        alarm = standing.alarm
        return cls(
            standing=AlarmAnswer.of(alarm) if alarm else None,
            alarms=[AlarmAnswer.of(one) for one in reversed(standing.alarms)],
            measured=[MeasuresAnswer.of(one) for one in standing.measured],
            usual_rate=standing.usual_rate,
        )


def _share(count: int, of: int) -> float:
    return round(count / of, 4) if of else 0.0
