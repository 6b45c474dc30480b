"""The monthly report in plain words, for whoever answers for the company. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from math import ceil

from notfallserver.server.pool.proof import Grade
from notfallserver.server.report.tree import Finding, Key, Light, PrimaryReport, Report, Summary
from notfallserver.server.web.words.situation import Exact, Value, Words

NOBODY = "No server is protected by this emergency server yet."
ONE_READY = "The server can be replaced at any time."
ONE_READY_IN = "The server can be replaced at any time; its last start took %(time)s."
ONE_NOT = "The server is not known to be replaceable."
ALL_READY = "All %(count)s servers can be replaced at any time."
ALL_READY_IN = "All %(count)s servers can be replaced at any time; the longest start took %(time)s."
SOME_READY = "%(ready)s of %(count)s servers can be replaced at any time."
NONE_READY = "None of the %(count)s servers is known to be replaceable."

LIGHTS = {
    Light.GOOD: "Protected and proven",
    Light.WARN: "Needs a look",
    Light.BAD: "Not protected",
    Light.GONE: "Removed",
}
GRADES = {
    Grade.NONE: "nothing yet",
    Grade.PREPARED: "made ready to start",
    Grade.CHECKED: "its file systems are sound",
    Grade.STARTED: "it starts",
    Grade.LOGIN: "one can log in",
    Grade.SERVING: "its services answer",
    Grade.EQUAL: "its services answer, and its files hold what they should",
}
FINDINGS = {
    Key.NO_VERSION: (
        "There is no complete copy.",
        "Make the first copy now, and see on its page what keeps it from being made.",
    ),
    Key.TOO_OLD: (
        "The newest copy was %(time)s old at the end.",
        "See on its page why no copies are made; everything since then would be lost.",
    ),
    Key.LATE: (
        "The newest copy was %(time)s old at the end, older than planned.",
        "See on its page whether copies are made again.",
    ),
    Key.STARTS_NOT: (
        "Its copy did not start in the rehearsal of %(at)s.",
        "Look at the picture of that rehearsal, and let somebody who knows the server find the "
        "cause.",
    ),
    Key.REHEARSAL_FAILED: (
        "The rehearsal of %(at)s did not pass.",
        "Look on its page at what failed, and rehearse again when that is mended.",
    ),
    Key.NEVER_REHEARSED: (
        "It was never shown that its copy starts.",
        "Begin a rehearsal on its page, and let rehearsals come by themselves.",
    ),
    Key.REHEARSAL_OLD: (
        "The last rehearsal is long ago: %(at)s.",
        "Begin a rehearsal on its page, and let rehearsals come by themselves.",
    ),
    Key.GAPS: (
        "Copies did not come as planned; the newest one was up to %(time)s old.",
        "See in the list of gaps when that was. If it comes again, plan copies less often, or find "
        "out what stood in their way.",
    ),
    Key.DAMAGED: (
        "Damaged copies: %(count)s.",
        "The next copy repairs what it can. If they stay, have the disks of the emergency server "
        "checked.",
    ),
    Key.DOWN: (
        "It did not answer at the end, and no stand-in worked.",
        "Start its stand-in, or switch it on.",
    ),
    Key.STANDIN_WORKS: (
        "Its stand-in did the work at the end.",
        "Bring the server back to a machine of its own.",
    ),
}
EVERY = "at intervals of %(time)s"
BY_WISH = "only on request"
ONGOING = "still going on at the end"

REPORTS = {
    "bad-month": ("This is no month.", "Write it as 2026-10."),
    "month-not-begun": (
        "This month has not begun yet.",
        "Choose this month or an earlier one.",
    ),
    "report-there": (
        "The report of this month is there already.",
        "Take it from the list of reports.",
    ),
    "report-under-way": (
        "Another report is just being made.",
        "Wait a minute, then try again.",
    ),
    "no-such-report": ("There is no such report.", "Take it from the list of reports."),
    "report-unreadable": (
        "The report can't be read any more.",
        "Have it made again by whoever looks after the emergency server.",
    ),
}
"""Errors by code, see ``problems``."""

TEXTS = (
    *(NOBODY, ONE_READY, ONE_READY_IN, ONE_NOT, ALL_READY, ALL_READY_IN, SOME_READY, NONE_READY),
    *(EVERY, BY_WISH, ONGOING),
    *(*LIGHTS.values(), *GRADES.values()),
    *(text for pair in FINDINGS.values() for text in pair),
)


@dataclass(frozen=True)
class Told:
    """A finding in words, and what to do."""

    light: Light
    words: Words
    remedy: str


def sentence(summary: Summary) -> Words:
    """Everything in one sentence."""
    count, ready = summary.primaries, summary.replaceable
    values: dict[str, Value] = {"count": count, "ready": ready}
    if summary.longest_s is not None:
        seconds = summary.longest_s  # rounded up, as on paper
        values["time"] = timedelta(seconds=seconds if seconds < 60 else ceil(seconds / 60) * 60)
    timed = "time" in values
    if not count:
        return Words(NOBODY)
    if count == 1:
        return Words((ONE_READY_IN if timed else ONE_READY) if ready else ONE_NOT, values)
    if not ready:
        return Words(NONE_READY, values)
    if ready < count:
        return Words(SOME_READY, values)
    return Words(ALL_READY_IN if timed else ALL_READY, values)


def worst(summary: Summary) -> Light:
    """Of the whole report: what a look at it must tell first."""
    if summary.bad or not summary.primaries:
        return Light.BAD
    return Light.WARN if summary.warn else Light.GOOD


def told_of(finding: Finding) -> Told:
    text, remedy = FINDINGS[finding.key]
    values: dict[str, Value] = {}
    if finding.seconds is not None:
        values["time"] = timedelta(seconds=finding.seconds)
    if finding.count is not None:
        values["count"] = finding.count
    if finding.at is not None:
        values["at"] = Exact(finding.at)
    return Told(finding.light, Words(text, values), remedy)


def to_do(report: Report) -> list[tuple[str, list[Told]]]:
    """Whatever is not protected or not proven, the gravest first: name and findings."""
    order = (Light.BAD, Light.WARN)
    concerned = [one for one in report.primaries if one.light in order]
    concerned.sort(key=lambda one: order.index(one.light))
    return [(one.name, [told_of(finding) for finding in one.findings]) for one in concerned]


def planned(primary: PrimaryReport) -> Words:
    """How often copies are planned."""
    minutes = primary.schedule_minutes
    return Words(EVERY, {"time": timedelta(minutes=minutes)}) if minutes else Words(BY_WISH)


def worst_first(report: Report) -> Sequence[PrimaryReport]:
    order = [Light.BAD, Light.WARN, Light.GOOD, Light.GONE]
    return sorted(report.primaries, key=lambda one: (order.index(one.light), one.name.lower()))
