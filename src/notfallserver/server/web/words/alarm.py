"""The ransomware alarm in plain words. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

from notfallserver.server.cycle.state import State
from notfallserver.server.pool.layout import stamp_time
from notfallserver.server.web.words.situation import Exact, Light, Situation, Step, Value, Words
from notfallserver.wire.errors import NotfallError

ALARM = "Files may have been encrypted by an attacker"
ATTACK = "An attack: the newest copies are marked"
BESIDE = "There is an alarm: files may have been encrypted by an attacker."
SINCE = "The copy of %(at)s is the first that looks so."
CLEAN = "The last copy without a trace is of %(at)s; it is held."
NONE_CLEAN = "There is no older copy without a trace."
ANSWER = "Look at the server, then say on its page whether all is well."
LOOK = Step("Look at the alarm", "alarm")
REASONS = {
    "scrambled": "%(count)s of %(compared)s files that are watched can't be recognised any more.",
    "renamed": "%(count)s of %(compared)s files that are watched have a new ending: .%(extension)s",
    "strange": "%(count)s of %(seen)s files that are watched hold nothing but random bytes.",
    "turned": "%(mib)s MiB (%(percent)s %% of all that is in use) turned into random bytes; "
    "counted over days: %(days)s.",
    "moved": "%(mib)s MiB (%(percent)s %% of all that is in use) vanished, and as much came that "
    "is random; counted over days: %(days)s.",
    "rate": "%(percent)s %% of everything changed at once; usual are %(usual)s %%.",
}
MARKED = "An alarm marks it: its files may be encrypted."

TEXTS = (
    *(ALARM, BESIDE, ATTACK, SINCE, CLEAN, NONE_CLEAN, ANSWER, LOOK.text, MARKED),
    *REASONS.values(),
)
_OVERRIDES = (State.NEW, State.NORMAL, State.REHEARSING)
"""In these states nothing is more urgent."""


class Reported(Protocol):
    """An alarm that stands, whoever tells of it."""

    @property
    def since(self) -> str: ...

    @property
    def clean(self) -> str: ...

    @property
    def answer(self) -> str: ...

    @property
    def reasons(self) -> Sequence[Mapping[str, Any]]: ...


def with_alarm(situation: Situation, state: State, alarm: Reported | None) -> Situation:
    """How a primary stands, when an alarm about it stands, too."""
    if alarm is None:
        return situation
    told = alarm_words(alarm)
    if state not in _OVERRIDES:
        return replace(situation, words=(*situation.words, Words(BESIDE), *told[-1:]))
    if not alarm.answer:
        told = [*told, Words(ANSWER)]
    return replace(
        situation,
        light=Light.BAD,
        title=ATTACK if alarm.answer else ALARM,
        words=(*told, *situation.words),
        step=LOOK,
    )


def alarm_words(alarm: Reported) -> list[Words]:
    """Why, since when, and what is held."""
    told = [*reason_words(alarm.reasons), *_moment(SINCE, alarm.since)]
    return [*told, *(_moment(CLEAN, alarm.clean) or [Words(NONE_CLEAN)])]


def reason_words(reasons: Sequence[Mapping[str, Any]]) -> list[Words]:
    """Of a newer server's reasons those that are known here."""
    return [
        Words(REASONS[one["key"]], {key: _value(value) for key, value in one.items()})
        for one in reasons
        if one.get("key") in REASONS
    ]


def _value(value: Any) -> Value:
    """Whole numbers are enough for people."""
    if isinstance(value, float):
        return round(value) if value >= 1 else "< 1"
    return value if isinstance(value, int) else str(value)


def _moment(text: str, stamp: str) -> list[Words]:
    try:
        return [Words(text, {"at": Exact(stamp_time(stamp))})] if stamp else []
    except NotfallError:
        return []
