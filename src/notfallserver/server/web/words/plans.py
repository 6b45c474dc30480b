"""What a recovery overwrites and what the future brings, in plain words (pure).

The plan's own texts are part of its digest, which a person confirms, so they stay as they are and
are only understood here; one that isn't known is shown as it is.
"""

from __future__ import annotations

import re
from datetime import timedelta

from notfallserver.server.cycle.normal.forecast import Outlook
from notfallserver.server.web.line_answers import ForecastAnswer
from notfallserver.server.web.words.situation import Words

PARTITION = "Partition %(number)s: %(what)s"
UNKNOWN = "Partition %(number)s: unknown content"
LESS_MEMORY = "The machine has %(has)s of memory, the old one had %(had)s."
FEWER_CARDS = (
    "The machine has %(has)s network cards, the old one had %(had)s: the networks of the others "
    "will be missing."
)
AT_MOST = "The newest copy will be at most %(time)s old."
RUNS_TOO_LONG = (
    "Copies take longer than the schedule allows; the newest will be up to %(time)s old."
)
LINE_TOO_SLOW = (
    "The network line is too slow: copies would get older and older. It needs a faster line, a "
    "higher limit, or fewer disks."
)
ONLY_ON_REQUEST = "Copies are made only on request; one takes about %(time)s."
TEXTS = (
    *(PARTITION, UNKNOWN, LESS_MEMORY, FEWER_CARDS, AT_MOST, RUNS_TOO_LONG, LINE_TOO_SLOW),
    ONLY_ON_REQUEST,
)
_PATTERNS = (
    (re.compile(r"partition (?P<number>\d+): unknown content"), UNKNOWN),
    (re.compile(r"partition (?P<number>\d+): (?P<what>.+)"), PARTITION),
    (
        re.compile(r"The target has (?P<has>.+) of memory, the original had (?P<had>.+)\."),
        LESS_MEMORY,
    ),
    (
        re.compile(
            r"The target has (?P<has>\d+) network card\(s\), the original had (?P<had>\d+):.*"
        ),
        FEWER_CARDS,
    ),
)


def plan_words(text: str) -> Words:
    """One text of a recovery plan."""
    for pattern, words in _PATTERNS:
        if found := pattern.fullmatch(text):
            return Words(words, found.groupdict())
    return Words("%(text)s", {"text": text})


def forecast_words(forecast: ForecastAnswer) -> Words:
    """How old the newest copy will get."""
    if forecast.outlook == Outlook.CANNOT_KEEP_UP:
        return Words(LINE_TOO_SLOW)
    if forecast.worst_age_s is None:
        return Words(ONLY_ON_REQUEST, {"time": _up(forecast.run_s)})
    late = forecast.outlook == Outlook.LATE
    return Words(RUNS_TOO_LONG if late else AT_MOST, {"time": _up(forecast.worst_age_s)})


def _up(seconds: float) -> timedelta:
    """In whole minutes, never less: it is said to be the most."""
    return timedelta(minutes=max(1, -int(-seconds // 60)))
