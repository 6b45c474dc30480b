"""The start plan in plain words: when each server's turn comes, what became of it, what fits
together (pure)."""

from __future__ import annotations

from datetime import timedelta

from notfallserver.server.cycle.plans.run import Outcome
from notfallserver.server.records.start_place import Begins, IfFails
from notfallserver.server.web.start_answers import CapacityAnswer, EntryAnswer, RunAnswer
from notfallserver.server.web.words.situation import Light, Size, Words

WAITING = "waiting"
"""Of a server whose turn has not come."""
OUTCOMES = {
    WAITING: "Its turn comes.",
    Outcome.STARTING: "Its stand-in is starting.",
    Outcome.WORKS: "It works again.",
    Outcome.SILENT: "Its stand-in runs, but not all of its services answer.",
    Outcome.ALIVE: "It shows signs of life, so nothing was started for it.",
    Outcome.REFUSED: "It was not started:",
    Outcome.NO_ROOM: "It was not started:",
    Outcome.FAILED: "It could not be started:",
    Outcome.LEFT_OUT: "It was not started: this was stopped before its turn.",
}
LIGHTS = {
    WAITING: Light.BUSY,
    Outcome.STARTING: Light.BUSY,
    Outcome.WORKS: Light.GOOD,
    Outcome.SILENT: Light.WARN,
    Outcome.ALIVE: Light.WARN,
    Outcome.REFUSED: Light.BAD,
    Outcome.NO_ROOM: Light.BAD,
    Outcome.FAILED: Light.BAD,
    Outcome.LEFT_OUT: Light.WARN,
}
EXPLAINED = frozenset({Outcome.REFUSED, Outcome.NO_ROOM, Outcome.FAILED})
"""Outcomes that are followed by the words of an error."""

AT_ONCE = "At once"
TOGETHER = "Together with the one before"
DELAYED = "%(delay)s after the one before was started"
WHEN_WORKS = "When the one before works, after %(limit)s at the latest"
WORKS_AND_DELAY = "%(delay)s after the one before works; that is awaited for %(limit)s at most"
STOPS = "If it does not start, nothing after it starts either."
MEMORY = "Its stand-in gets %(memory)s of memory."

ALL_FIT = "All of them fit on this emergency server together."
SOME_FIT = "%(fits)s of %(count)s fit on this emergency server together: %(names)s."
NONE_FIT = "None of them finds room on this emergency server now."
MISSING_MEMORY = "No room for %(names)s: %(missing)s of memory are missing."
MISSING_DISK = "No room for %(names)s: %(missing)s of space for copies are missing."
CROWDED = "Together they want %(wanted)s processors, and there are %(has)s: they will be slower."
SCARCE = "Little space is left for what they write: %(free)s."
REMEDY = (
    "Leave one out, or let a stand-in have less memory (under “When and how”). For later: give the "
    "emergency server more memory."
)
TEXTS = (
    *(*OUTCOMES.values(), AT_ONCE, TOGETHER, DELAYED, WHEN_WORKS, WORKS_AND_DELAY, STOPS, MEMORY),
    *(ALL_FIT, SOME_FIT, NONE_FIT, MISSING_MEMORY, MISSING_DISK, CROWDED, SCARCE, REMEDY),
)


def when(entry: EntryAnswer, first: bool) -> Words:
    """When its turn comes."""
    delay, limit = timedelta(seconds=entry.delay_s), timedelta(seconds=entry.limit_s)
    if first:
        return Words(AT_ONCE)
    if entry.begins is Begins.TOGETHER:
        return Words(TOGETHER)
    if entry.begins is Begins.DELAY:
        return Words(DELAYED, {"delay": delay})
    if entry.delay_s:
        return Words(WORKS_AND_DELAY, {"delay": delay, "limit": limit})
    return Words(WHEN_WORKS, {"limit": limit})


def entry_words(entry: EntryAnswer, first: bool) -> list[Words]:
    """All that is to be said of a place."""
    told = [when(entry, first)]
    if entry.if_fails is IfFails.STOP:
        told.append(Words(STOPS))
    if entry.memory is not None:
        told.append(Words(MEMORY, {"memory": Size(entry.memory)}))
    return told


def capacity_light(capacity: CapacityAnswer) -> Light:
    if capacity.rest:
        return Light.WARN if capacity.fits else Light.BAD
    return Light.WARN if capacity.scarce else Light.GOOD


def capacity_words(capacity: CapacityAnswer) -> list[Words]:
    """What fits together, what is missing, and what to do; nothing where nobody waits."""
    fits, rest = ", ".join(capacity.fits), ", ".join(capacity.rest)
    count = len(capacity.fits) + len(capacity.rest)
    if not count:
        return []
    told = [Words(ALL_FIT)]
    if rest:
        told = [Words(SOME_FIT, {"fits": len(capacity.fits), "count": count, "names": fits})]
        if not fits:
            told = [Words(NONE_FIT)]
        missing = capacity.missing_memory or capacity.missing_disk
        text = MISSING_MEMORY if capacity.missing_memory else MISSING_DISK
        told.append(Words(text, {"names": rest, "missing": Size(missing)}))
        told.append(Words(REMEDY))
    if capacity.cpus_wanted > capacity.cpus:
        told.append(Words(CROWDED, {"wanted": capacity.cpus_wanted, "has": capacity.cpus}))
    if capacity.scarce:
        told.append(Words(SCARCE, {"free": Size(capacity.free_disk)}))
    return told


def run_light(run: RunAnswer) -> Light:
    """How a run stands as a whole."""
    if run.job.finished_at is None:
        return Light.BUSY
    order = list(Light)
    return min((LIGHTS[one.outcome] for one in run.stands), key=order.index, default=Light.GOOD)
