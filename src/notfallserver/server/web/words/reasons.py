"""Why something in the journal happened, in plain words: by the entry's event and details, because
its own text is English and for whoever looks after the server. What a person typed stays. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from notfallserver.server.cycle.outage.guard import Reason
from notfallserver.server.pool.layout import stamp_time
from notfallserver.server.records.journal import Entry
from notfallserver.server.web.words.alarm import reason_words
from notfallserver.server.web.words.problems import PROBLEMS
from notfallserver.server.web.words.situation import Exact, Value, Words
from notfallserver.wire.errors import NotfallError

VERDICTS = {
    Reason.SILENT: "Nothing answered under its addresses, and the network worked.",
    Reason.FENCED: "It was switched off from afar, and nothing answered any more.",
    Reason.ALIVE: "It still showed signs of life.",
    Reason.WRONG_DEVICE: "It was switched off from afar, but something still answered for it.",
    Reason.CUT_OFF: "The emergency server was cut off from the network itself.",
    Reason.SPLIT: "The router did not answer: the network may have been cut in two.",
    Reason.NO_WITNESS: "It could not be told who was cut off.",
    Reason.CANNOT_TELL: "It could not be told whether it was down.",
}
ENDED = {
    "cancelled": "Somebody stopped it.",
    "undone": "Somebody broke it off.",
}
PAUSE = "Nobody could work on it for %(time)s."
LATE = "It took longer than expected."
SWITCH_OFF = "Switch the original off."
KEEPS_OFF = "Its stand-in works. Leave the original so, or switch it off again."
FELL_OVER = "It had gone off by itself."
OF_COPY = "The copy of %(at)s"
OLDER = "The newest one could not be used, so it was the copy of %(at)s."
BLOCKS = "The copy of %(at)s: %(count)s blocks"
UNSEEN = "%(count)s blocks had changed unnoticed."
EVERY = "A copy every %(every)s"
ON_REQUEST = "Copies only on request"
STANDIN_EVERY = "A copy of the stand-in every %(every)s"
STANDIN_ON_REQUEST = "Copies of the stand-in only on request"
DEEP_EVERY = "A check of everything every %(every)s"
DEEP_NEVER = "No check of everything"
IN_ORDER = "In this order: %(names)s"
TEXTS = (
    *(*VERDICTS.values(), *ENDED.values(), PAUSE, LATE, SWITCH_OFF, FELL_OVER, OF_COPY, OLDER),
    KEEPS_OFF,
    *(BLOCKS, UNSEEN, EVERY, ON_REQUEST, STANDIN_EVERY, STANDIN_ON_REQUEST, DEEP_EVERY),
    *(DEEP_NEVER, IN_ORDER),
)
SELF_EVIDENT = frozenset(
    {
        *("first_version", "primary_back", "standin_dropped", "stand-in-elsewhere", "adopted"),
        *("version", "capture", "imported", "added", "version-removed", "retention-changed"),
    }
)
"""Events that say all by themselves; what else they tell is of no use to a person."""
_JUDGED = frozenset({"refused", "outage_seen", "stand-in-held-back"})
_FAILED = frozenset({"activation_failed", "recovery_failed", "switch_back_failed"})
_FIXED = {
    "original-returned": SWITCH_OFF,
    "original-kept-off": KEEPS_OFF,
    "stand-in-restarted": FELL_OVER,
}
_OF_COPY = {
    "older-version-used": OLDER,
    "version-damaged": BLOCKS,
    "version-lost": BLOCKS,
    "version-repaired": BLOCKS,
    "damaged-version-used": BLOCKS,
    "version-unreadable": OF_COPY,
    "damage-in-stand-in": OF_COPY,
    "files-shown": OF_COPY,
    "older-version-chosen": OF_COPY,
    "seed-exported": OF_COPY,
    "version-exported": OF_COPY,
    "disk-export-begun": OF_COPY,
    "version-on-tape": OF_COPY,
    "version-from-tape": OF_COPY,
}


def reason_of(one: Entry) -> tuple[Words, ...] | None:
    """The words; none where the event says all. None: what the entry tells itself is shown."""
    if one.event in SELF_EVIDENT:
        return ()
    if one.event in _JUDGED:
        return _judged(one.details)
    if one.event in _FAILED:
        return _failed(one.details)
    if one.event in _FIXED:
        return (Words(_FIXED[one.event]),)
    if one.event in _OF_COPY:
        return _of_copy(_OF_COPY[one.event], one.details)
    if one.event == "alarm-raised":
        return tuple(reason_words(one.details.get("reasons", ())))
    if one.event == "unseen-changes":
        return _with(UNSEEN, count=one.details.get("unexplained"))
    if one.event == "recovered":
        return _recovered(one)
    if one.event == "schedule-changed":
        return _schedule(one.details)
    if one.event in ("start-plan-changed", "start-plan-begun"):
        return (Words(IN_ORDER, {"names": ", ".join(one.details.get("order", ()))}),)
    return None


def _judged(details: Mapping[str, Any]) -> tuple[Words, ...] | None:
    text = VERDICTS.get(details.get("reason", ""))
    return (Words(text),) if text else None


def _failed(details: Mapping[str, Any]) -> tuple[Words, ...] | None:
    """By the error's code; entries of before had none."""
    code = str(details.get("code", ""))
    if code in ENDED:
        return (Words(ENDED[code]),)
    return tuple(Words(text) for text in PROBLEMS[code]) if code in PROBLEMS else None


def _of_copy(text: str, details: Mapping[str, Any]) -> tuple[Words, ...]:
    try:
        taken = Exact(stamp_time(str(details.get("version", ""))))
    except NotfallError:
        return ()
    if "%(count)s" not in text:
        return (Words(text, {"at": taken}),)
    count = details.get("count")
    if not isinstance(count, int):
        return (Words(OF_COPY, {"at": taken}),)
    return (Words(text, {"at": taken, "count": count}),)


def _recovered(one: Entry) -> tuple[Words, ...]:
    if one.why:
        return (Words(LATE),)
    seconds = one.details.get("downtime_s")
    if not isinstance(seconds, (int, float)):
        return ()
    return (Words(PAUSE, {"time": timedelta(seconds=seconds)}),)


def _schedule(details: Mapping[str, Any]) -> tuple[Words, ...]:
    told = []
    for key, unit, every, never in (
        ("schedule_minutes", "minutes", EVERY, ON_REQUEST),
        ("capture_minutes", "minutes", STANDIN_EVERY, STANDIN_ON_REQUEST),
        ("deep_days", "days", DEEP_EVERY, DEEP_NEVER),
    ):
        number = details.get(key)
        if isinstance(number, int):
            lasts = timedelta(**{unit: number})
            told.append(Words(every, {"every": lasts}) if number else Words(never))
    return tuple(told)


def _with(text: str, **values: Value | None) -> tuple[Words, ...]:
    known = {key: value for key, value in values.items() if value is not None}
    return (Words(text, known),) if len(known) == len(values) else ()
