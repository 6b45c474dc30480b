"""How everything stands, looked at for telling people, and the messages in their language."""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from notfallserver.server.health.judge import Finding, Grade, worst
from notfallserver.server.health.watch import HealthWatch
from notfallserver.server.records import Catalogue
from notfallserver.server.report.shelf import pdf_name, told_name
from notfallserver.server.tell.notice import How, Message, Notice, Seen
from notfallserver.server.web.answers import PrimaryAnswer
from notfallserver.server.web.language import Speech, speech
from notfallserver.server.web.page.overview import Overview, overview
from notfallserver.server.web.words import tidings as told
from notfallserver.server.web.words.health import TITLES, in_words
from notfallserver.server.web.words.history import EVENTS
from notfallserver.server.web.words.situation import Light


@dataclass(frozen=True)
class Present:
    """One look; ``shown`` by the primary's UUID."""

    seen: Sequence[Seen]
    hushed: frozenset[str]
    shown: Mapping[str, Overview]
    findings: Sequence[Finding]


class Tidings:
    """The reporter of :class:`~notfallserver.server.tell.teller.Teller`."""

    def __init__(self, catalogue: Catalogue, health: HealthWatch, url: str) -> None:
        self._catalogue = catalogue
        self._health = health
        self._url = url

    def look(self) -> Present | None:
        findings = self._health.findings
        if not findings:
            return None
        jobs = self._catalogue.jobs.unfinished()
        unmended = self._catalogue.jobs.unmended()
        shown = {
            row.uuid: overview(PrimaryAnswer.of(row, jobs), unmended)
            for row in self._catalogue.primaries.all()
        }
        seen = [one for view in shown.values() for one in told.troubles_of(_standing(view))]
        hushed = {key for view in shown.values() for key in told.hushed_of(view.primary)}
        return Present([*seen, *told.troubles_here(findings)], frozenset(hushed), shown, findings)

    def event(self, event: str) -> str:
        return EVENTS.get(event, event)

    def write(self, language: str, notices: Sequence[Notice], look: Present) -> Message:
        spoken = speech(language)
        parts = [
            "\n".join([_title(spoken, one), *self._lines(spoken, one, look)]) for one in notices
        ]
        title = _title(spoken, notices[0])
        if len(notices) > 1:
            values = {"first": title, "count": len(notices) - 1}
            title = spoken.say(told.MORE) % values
        pdf = pdf_name(language)
        months = [one.report for one in notices if one.report]
        papers = {f"{month}/{pdf}": told_name(month, pdf) for month in months}
        return Message(title, self._whole(spoken, parts), papers)

    def sum_up(self, language: str, look: Present) -> Message:
        spoken = speech(language)
        lights = [one.situation.light for one in look.shown.values()]
        well = worst(look.findings) is Grade.GOOD and not {Light.BAD, Light.WARN} & set(lights)
        parts = [
            "\n".join([view.primary.name, *_situation(spoken, view)])
            for view in look.shown.values()
        ]
        wrong = [one for one in look.findings if one.grade is not Grade.GOOD]
        parts += ["\n".join([_here(spoken, one), *_finding(spoken, one)]) for one in wrong]
        return Message(
            spoken.say(told.ALL_WELL if well else told.LOOK_NEEDED), self._whole(spoken, parts)
        )

    def greet(self, language: str) -> Message:
        spoken = speech(language)
        return Message(spoken.say(told.TEST), self._whole(spoken, [spoken.say(told.TEST_BODY)]))

    def _lines(self, spoken: Speech, notice: Notice, look: Present) -> list[str]:
        """How that which a notice is about stands now, and where its page is."""
        if notice.about in look.shown:
            view = look.shown[notice.about]
            page = f"{self._url}/p/{view.primary.name}"
            address = spoken.say(told.ITS_PAGE) % {"address": page}
            return [*_situation(spoken, view), address]
        if notice.report:
            return [spoken.say(told.ITS_PAGE) % {"address": f"{self._url}/reports"}]
        concerned = [] if notice.about else look.findings
        return [
            line
            for one in concerned
            if TITLES[one.key] == notice.what
            for line in _finding(spoken, one)
        ]

    def _whole(self, spoken: Speech, parts: Sequence[str]) -> str:
        values = {"name": socket.gethostname(), "time": spoken.moment(datetime.now(UTC))}
        end = [
            spoken.say(told.SENT_BY) % values,
            spoken.say(told.THE_PAGE) % {"address": f"{self._url}/"},
        ]
        return "\n\n".join([*parts, "\n".join(end)])


def _standing(view: Overview) -> told.Standing:
    return told.Standing(view.primary, view.situation, view.failed.kind if view.failed else "")


def _title(spoken: Speech, notice: Notice) -> str:
    name = notice.name or spoken.say(told.HERE)
    what = f"{name}: {spoken.say(notice.what)}"
    if notice.how in _FRAMES:
        return spoken.say(_FRAMES[notice.how]) % {"what": what}
    return what


_FRAMES = {How.OVER: told.OVER, How.STILL: told.STILL}


def _situation(spoken: Speech, view: Overview) -> list[str]:
    lines = [f"{spoken.say(view.situation.title)}."]
    lines += [spoken.words(one) for one in view.situation.words]
    if view.failed and view.failed.error:
        error = view.failed.error
        lines.append(spoken.problem(error.code, error.cause, error.remedy))
    return lines


def _here(spoken: Speech, finding: Finding) -> str:
    return f"{spoken.say(told.HERE)}: {spoken.say(TITLES[finding.key])}"


def _finding(spoken: Speech, finding: Finding) -> list[str]:
    one = in_words(finding)
    return [spoken.words(one.words), *([spoken.say(one.remedy)] if one.remedy else [])]
