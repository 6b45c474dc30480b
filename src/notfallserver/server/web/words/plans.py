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
FIRMWARE = (
    "The machine starts by %(now)s, the old one by %(was)s. The copy can start by both; whether it "
    "does is seen in the switch-back, and the stand-in works on if not."
)
LEFT_OUT = (
    "The disk %(name)s is left out: all that is on it is mirrored on another one. Put in a second "
    "disk later and add it to the mirror, else a broken disk takes everything."
)
SLOWER = (
    "Because something is made smaller, the switch-back takes longer: that is done again for what "
    "was written last."
)
NOT_GROWN = "Nothing on these disks can use the additional room."
GROWS = "Partition %(number)s (%(kind)s) grows from %(was)s to %(now)s"
SHRINKS = "Partition %(number)s (%(kind)s) shrinks from %(was)s to %(now)s"
COPIED = "Partition %(number)s (%(kind)s) is copied into a smaller one: %(now)s instead of %(was)s"
WHOLE_GROWS = "It grows from %(was)s to %(now)s (%(kind)s)"
WHOLE_SHRINKS = "It shrinks from %(was)s to %(now)s (%(kind)s)"
WHOLE_COPIED = "It is copied into a smaller one (%(kind)s): %(now)s instead of %(was)s"
JOINS = "Partition %(old)s of the disk %(name)s becomes partition %(number)s here"
WHOLE_JOINS = "What is on the disk %(name)s becomes partition %(number)s here"
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
    *(ONLY_ON_REQUEST, FIRMWARE, LEFT_OUT, SLOWER, NOT_GROWN, GROWS, SHRINKS, COPIED),
    *(WHOLE_GROWS, WHOLE_SHRINKS, WHOLE_COPIED, JOINS, WHOLE_JOINS),
)
_PART = r"partition (?P<number>\d+) \((?P<kind>\w+)\)"
_WHOLE = r"the filesystem \((?P<kind>\w+)\)"
_FROM = r"from (?P<was>.+) to (?P<now>.+)"
_COPY = r"is copied into a smaller one, (?P<now>.+) instead of (?P<was>.+)"
_PATTERNS = (
    (re.compile(f"{_PART} grows {_FROM}"), GROWS),
    (re.compile(f"{_PART} shrinks {_FROM}"), SHRINKS),
    (re.compile(f"{_PART} {_COPY}"), COPIED),
    (re.compile(f"{_WHOLE} grows {_FROM}"), WHOLE_GROWS),
    (re.compile(f"{_WHOLE} shrinks {_FROM}"), WHOLE_SHRINKS),
    (re.compile(f"{_WHOLE} {_COPY}"), WHOLE_COPIED),
    (
        re.compile(r"partition (?P<old>\d+) of (?P<name>\S+) becomes partition (?P<number>\d+)"),
        JOINS,
    ),
    (
        re.compile(r"the filesystem of (?P<name>\S+) becomes partition (?P<number>\d+)"),
        WHOLE_JOINS,
    ),
    (
        re.compile(r"The target starts by (?P<now>\w+), the original by (?P<was>\w+);.*"),
        FIRMWARE,
    ),
    (re.compile(r"(?P<name>\S+) is left out: what is on it is mirrored.*"), LEFT_OUT),
    (re.compile(r"Filesystems are made smaller once more in the switch-back.*"), SLOWER),
    (re.compile(r"Nothing on the target's disks can be grown\."), NOT_GROWN),
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
