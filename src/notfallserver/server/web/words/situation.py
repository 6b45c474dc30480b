"""How a primary stands, in plain words for somebody without IT knowledge, and the one next step.

Pure: from what the API answers of a primary. Texts are English keys of the translation with values
by name; moments among the values are written as "5 minutes ago", lengths as "5 minutes".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from notfallserver.server.cycle.state import State
from notfallserver.server.records.rehearsals import Outcome
from notfallserver.server.web.answers import PrimaryAnswer

LATE = 3
"""A copy older than so many intervals is worth a warning, and of so many times that an alarm."""
OLD = timedelta(hours=26)
"""Where there is no schedule: a copy of yesterday is no surprise, an older one is."""


class Light(StrEnum):
    """Worst first."""

    BAD = "bad"
    WARN = "warn"
    BUSY = "busy"
    GOOD = "good"


class Size(int):
    """Bytes; written in the largest fitting unit."""


class Phrase(str):
    """A text that is translated itself."""


@dataclass(frozen=True)
class Exact:
    """A moment that is written with date and time of day."""

    at: datetime


Value = str | int | datetime | timedelta | Exact


@dataclass(frozen=True)
class Words:
    """A text and the values in it."""

    text: str
    values: Mapping[str, Value] = field(default_factory=dict)


@dataclass(frozen=True)
class Step:
    """What to do next; ``page`` is the part of the address behind the primary's."""

    text: str
    page: str


@dataclass(frozen=True)
class Situation:
    """``place`` is where in the life cycle it is, 0 to 3: normal operation, outage, emergency
    operation, recovery."""

    light: Light
    title: str
    words: tuple[Words, ...]
    place: int
    step: Step | None = None


STEPS = {
    State.REHEARSING: Step("Watch the rehearsal", "rehearsal"),
    State.HANDING_OVER: Step("See how far it is", "hand-over"),
    State.OUTAGE: Step("Start the stand-in", "emergency"),
    State.ACTIVATING: Step("Watch it start", "emergency"),
    State.EMERGENCY: Step("Bring the server back", "recovery"),
    State.RECOVERING: Step("See how far it is", "recovery"),
    State.SWITCHING_BACK: Step("See how far it is", "recovery"),
}
PLACES = {
    State.OUTAGE: 1,
    State.ACTIVATING: 1,
    State.EMERGENCY: 2,
    State.RECOVERING: 3,
    State.SWITCHING_BACK: 3,
}

NOT_YET = "Not protected yet"
PROTECTED = "Protected"
PROTECTED_BUT = "Protected, but look at this"
OVERDUE = "The last copy is too old"
SILENT = "Does not answer"
STARTING = "The stand-in is starting"
WORKING = "The stand-in is working"
STANDIN_OFF = "The stand-in is off"
COMING_BACK = "Being brought back"
HANDING_OVER = "Being handed over to the stand-in"
SWITCHING = "Switching back"

WAITS_FOR_AGENT = "Its agent has not called yet."
FIRST_COPY_NEXT = "The first copy begins by itself."
ORDER_FIRST_COPY = "No copies are planned: order the first one."
FIRST_COPY_RUNS = "The first copy is being made."
LAST_COPY = "Last copy %(at)s."
SHOULD_BE = "There should be one every %(every)s."
REHEARSED = "A rehearsal is running beside it."
STARTS = "Its copy started successfully in a rehearsal %(at)s."
STARTS_NOT = "Its copy did not start as it should in a rehearsal %(at)s; its page says why."
LAST_SIGN = "Last sign of life %(at)s."
NO_SIGN = "It was never heard of."
CAN_REPLACE = "Its copy can take its place within minutes."
NO_COPY = "There is no copy that could take its place."
WORK_GOES_ON = "You can work as usual; the original must stay switched off."
NOBODY_WORKS = "Nobody can work with it until somebody switches it on."
BEHIND = "The new machine is catching up while the stand-in works."
CAN_SWITCH = "The new machine is ready: you can switch back now."
SHORT_PAUSE = "The server pauses for about %(time)s."
STILL_WORKS = "You can work as usual until it is shut down."
SHUT_DOWN = "It has shut itself down, with everything in its last copy."
IS_WHOLE = "Nothing is lost on it: switched on again, it works as before."
BE_PATIENT = "Do not switch anything off now."
DAMAGED = "Damaged copies: %(count)s. The next copy repairs what it can."
CHANGED_UNSEEN = "A check of everything found %(count)s blocks that had changed unnoticed."
IMPORTED = "The copy is an imported image, of %(at)s: a newer one is imported by hand."
ORDER_IMPORT = "Import an image of its disks."
IMPORT_RUNS = "Its image is being imported."
SOMETHING_FAILED = "The last try did not work; its page says why."
FAILED = {
    "replicate": "The last copy could not be made; its page says why.",
    "image_import": "The image could not be imported; its page says why.",
    "prepare": "The last copy could not be made ready to start; its page says why.",
    "hand_over": "The handover did not work; its page says why.",
    "activate": "The stand-in could not be started; its page says why.",
    "capture": "What the stand-in wrote could not be kept; its page says why.",
}

TEXTS = (
    *(SOMETHING_FAILED, *FAILED.values()),
    *(NOT_YET, PROTECTED, PROTECTED_BUT, OVERDUE, SILENT, STARTING, WORKING, COMING_BACK),
    *(SWITCHING, WAITS_FOR_AGENT, FIRST_COPY_NEXT, ORDER_FIRST_COPY, FIRST_COPY_RUNS),
    *(LAST_COPY, SHOULD_BE, REHEARSED, LAST_SIGN, NO_SIGN, CAN_REPLACE, NO_COPY, WORK_GOES_ON),
    *(BEHIND, CAN_SWITCH, SHORT_PAUSE, BE_PATIENT, DAMAGED, CHANGED_UNSEEN),
    *(STANDIN_OFF, NOBODY_WORKS, STARTS, STARTS_NOT, HANDING_OVER, STILL_WORKS, SHUT_DOWN),
    *(IS_WHOLE, IMPORTED, ORDER_IMPORT, IMPORT_RUNS),
    *(one.text for one in STEPS.values()),
)


IMPORTS = ("seed_import", "image_import")
CONCERNS: dict[State, tuple[str, ...]] = {
    State.NEW: ("replicate", *IMPORTS),
    State.NORMAL: ("replicate", "prepare", "hand_over", *IMPORTS),
    State.REHEARSING: ("replicate", "prepare", *IMPORTS),
    State.OUTAGE: ("hand_over", "activate", "prepare", *IMPORTS[1:]),
    State.EMERGENCY: ("switch_back", "recover", "undo", "capture"),
    State.RECOVERING: ("switch_back", "recover", "undo", "capture"),
}
"""Which jobs, when they failed, are of interest in a state; the first that failed is told."""


def situation(primary: PrimaryAnswer, now: datetime, failed: str = "") -> Situation:
    """The words for one primary at ``now``; ``failed`` is the kind of a job that did not work and
    was not made good."""
    state = State(primary.state)
    light, title, words = _WORDS[state](primary, now)
    if failed:
        if light is Light.GOOD:
            light, title = Light.WARN, PROTECTED_BUT
        if failed == "prepare":
            words = [one for one in words if one.text != CAN_REPLACE]  # nobody knows
        words = [*words, Words(FAILED.get(failed, SOMETHING_FAILED))]
    return Situation(light, title, tuple(words), PLACES.get(state, 0), STEPS.get(state))


_Told = tuple[Light, str, list[Words]]


def _new(primary: PrimaryAnswer, now: datetime) -> _Told:
    if any(job.kind == "replicate" and job.started_at for job in primary.jobs):
        return Light.BUSY, NOT_YET, [Words(FIRST_COPY_RUNS)]
    if primary.agentless:
        runs = any(job.kind in IMPORTS for job in primary.jobs)
        return (
            (Light.BUSY if runs else Light.WARN),
            NOT_YET,
            [Words(IMPORT_RUNS if runs else ORDER_IMPORT)],
        )
    told = FIRST_COPY_NEXT if primary.schedule_minutes else ORDER_FIRST_COPY
    if primary.last_seen is None:
        told = WAITS_FOR_AGENT
    return Light.WARN, NOT_YET, [Words(told)]


def _normal(primary: PrimaryAnswer, now: datetime) -> _Told:
    words = _last_copy(primary)
    light, title = Light.GOOD, PROTECTED
    every = timedelta(minutes=primary.schedule_minutes)
    age = now - (primary.newest_version_at or primary.enrolled_at)
    late = max(every * LATE, timedelta(minutes=30)) if every else OLD
    if primary.agentless:  # nobody expects a newer one at a certain time
        words = [Words(IMPORTED, {"at": Exact(at)})] if (at := primary.newest_version_at) else []
    elif age > late:
        light, title = (Light.BAD, OVERDUE) if age > late * LATE else (Light.WARN, PROTECTED_BUT)
        if every:
            words.append(Words(SHOULD_BE, {"every": every}))
    rehearsed, trouble = _rehearsed(primary), _trouble(primary)
    if (trouble or any(one.text == STARTS_NOT for one in rehearsed)) and light is Light.GOOD:
        light, title = Light.WARN, PROTECTED_BUT
    return light, title, words + rehearsed + trouble


def _rehearsing(primary: PrimaryAnswer, now: datetime) -> _Told:
    light, title, words = _normal(primary, now)
    return light, title, [*words, Words(REHEARSED)]


def _outage(primary: PrimaryAnswer, now: datetime) -> _Told:
    seen = primary.last_seen
    words = [Words(LAST_SIGN, {"at": seen}) if seen else Words(NO_SIGN)]
    if primary.agentless:  # nobody could have been heard
        words = []
    if primary.shut_down:
        words = [Words(SHUT_DOWN), Words(IS_WHOLE)]
    words += _last_copy(primary)
    words.append(Words(CAN_REPLACE if primary.newest_version else NO_COPY))
    words += _rehearsed(primary)
    return Light.BAD, SILENT, words


def _handing_over(primary: PrimaryAnswer, now: datetime) -> _Told:
    told = Words(SHUT_DOWN if primary.shut_down else STILL_WORKS)
    return Light.BUSY, HANDING_OVER, [told, Words(BE_PATIENT)]


def _activating(primary: PrimaryAnswer, now: datetime) -> _Told:
    return Light.BUSY, STARTING, [Words(BE_PATIENT)]


def _emergency(primary: PrimaryAnswer, now: datetime) -> _Told:
    if primary.standin_off:
        return Light.BAD, STANDIN_OFF, [Words(NOBODY_WORKS), *_last_copy(primary)]
    return Light.WARN, WORKING, [Words(WORK_GOES_ON), *_last_copy(primary), *_trouble(primary)]


def _recovering(primary: PrimaryAnswer, now: datetime) -> _Told:
    if primary.standin_off:
        return Light.BAD, STANDIN_OFF, [Words(NOBODY_WORKS), Words(BEHIND)]
    closeness = primary.recovery
    words = [Words(CAN_SWITCH if closeness and closeness.ready else BEHIND)]
    if closeness and closeness.ready and closeness.predicted_downtime_s is not None:
        pause = timedelta(seconds=closeness.predicted_downtime_s)
        words.append(Words(SHORT_PAUSE, {"time": pause}))
    return Light.BUSY, COMING_BACK, [*words, Words(WORK_GOES_ON)]


def _switching(primary: PrimaryAnswer, now: datetime) -> _Told:
    return Light.BUSY, SWITCHING, [Words(BE_PATIENT)]


_WORDS = {
    State.NEW: _new,
    State.NORMAL: _normal,
    State.REHEARSING: _rehearsing,
    State.HANDING_OVER: _handing_over,
    State.OUTAGE: _outage,
    State.ACTIVATING: _activating,
    State.EMERGENCY: _emergency,
    State.RECOVERING: _recovering,
    State.SWITCHING_BACK: _switching,
}


def _last_copy(primary: PrimaryAnswer) -> list[Words]:
    at = primary.newest_version_at
    return [Words(LAST_COPY, {"at": at})] if at else []


def _rehearsed(primary: PrimaryAnswer) -> list[Words]:
    last = primary.rehearsed
    if last is None:
        return []
    return [Words(STARTS if last.outcome == Outcome.PASSED else STARTS_NOT, {"at": last.at})]


def _trouble(primary: PrimaryAnswer) -> list[Words]:
    words = []
    if primary.damaged_versions:
        words.append(Words(DAMAGED, {"count": primary.damaged_versions}))
    if primary.deep.unexplained:
        words.append(Words(CHANGED_UNSEEN, {"count": primary.deep.unexplained}))
    return words
