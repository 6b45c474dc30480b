"""What the API answers about a primary's line: limits, what the line gave, the forecast."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel

from notfallserver.server.cycle.normal.forecast import Forecast, in_words
from notfallserver.server.cycle.normal.limits import LIMITS, Limits, read_limits
from notfallserver.server.cycle.normal.line import LINE, read_line
from notfallserver.server.records.primaries import Primary


class LimitsAnswer(BaseModel):
    """Bytes a second, 0 = no limit; ``windows`` as they are written; ``rate_now`` holds now."""

    rate: float
    rate_now: float
    windows: list[str]
    read_rate: float
    pause_load: float
    pause_pressure: float
    pause_minutes: int
    words: list[str]

    @classmethod
    def of(cls, limits: Limits) -> LimitsAnswer:
        now = limits.allowance(datetime.now().astimezone())
        return cls(**limits.to_json(), rate_now=now.rate, words=limits.in_words())


class LineAnswer(BaseModel):
    """What the line gave in the last run that was long enough; ``limited``: it gives more."""

    rate: float
    at: datetime
    limited: bool


class ForecastAnswer(BaseModel):
    """Bytes a second, seconds; ``outlook`` is ok, late, cannot-keep-up or on-request."""

    outlook: str
    runs: int
    change_rate: float
    send_rate: float
    line_rate: float
    run_s: float
    usual_age_s: float | None
    worst_age_s: float | None
    words: str

    @classmethod
    def of(cls, forecast: Forecast) -> ForecastAnswer:
        return cls(**vars(forecast), words=in_words(forecast))


def limits_of(primary: Primary) -> LimitsAnswer:
    return LimitsAnswer.of(read_limits(primary.notes.get(LIMITS)))


def line_of(primary: Primary) -> LineAnswer | None:
    line = read_line(primary.notes.get(LINE))
    return LineAnswer.model_validate(line.to_json()) if line else None
