"""The monthly report on paper: a page of HTML for the press, in a reader's language.

It shows nothing that is not in the report's tree. Moments are written in the report's time zone,
whatever this machine's is today.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta, tzinfo
from math import ceil
from typing import Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from babel.dates import LOCALTZ, format_date, format_datetime, format_skeleton
from babel.numbers import format_percent
from babel.units import format_unit

from notfallserver.server.records.journal import Entry
from notfallserver.server.report.press import SCHEME
from notfallserver.server.report.reports import Paper
from notfallserver.server.report.tree import Report
from notfallserver.server.web.language import LANGUAGES, Speech, speech
from notfallserver.server.web.words import report as told
from notfallserver.server.web.words.history import GRAVE, happening
from notfallserver.server.web.words.situation import Exact, Value, Words

TITLE = "Report of %(month)s"
ONE_TITLE = "Report of %(month)s: %(server)s"
REASON = "Monthly report, signed by the emergency server that made it"
TEXTS = (TITLE, ONE_TITLE, REASON)


@dataclass(frozen=True)
class Writing:
    """Ways to write in one language and one time zone."""

    speech: Speech
    zone: str

    def moment(self, moment: datetime) -> str:
        return format_datetime(moment, "medium", self._zone(), locale=self.speech.language)

    def day(self, moment: datetime) -> str:
        local = moment.astimezone(self._zone())
        return format_date(local.date(), "medium", locale=self.speech.language)

    def last_day(self, end: datetime) -> str:
        """The day that ends then."""
        return self.day(end - timedelta(seconds=1))

    def words(self, words: Words) -> str:
        """As on the page, but moments in the report's zone."""
        return self.speech.words(
            Words(words.text, {key: self._value(one) for key, one in words.values.items()})
        )

    def _value(self, value: Value) -> Value:
        if isinstance(value, Exact):
            return self.moment(value.at)
        return self.lasting(value.total_seconds()) if isinstance(value, timedelta) else value

    def lasting(self, seconds: float, length: Literal["long", "short"] = "long") -> str:
        """In two units at most, rounded up: what is told as the most must not be exceeded."""
        minutes, hours = ceil(seconds / 60), ceil(seconds / 3600)
        if seconds < 60:
            parts = [("second", ceil(seconds))]
        elif minutes < 60:
            parts = [("minute", minutes)]
        elif minutes < 24 * 60:
            parts = [("hour", minutes // 60), ("minute", minutes % 60)]
        else:
            parts = [("day", hours // 24), ("hour", hours % 24)]
        return ", ".join(
            format_unit(count, f"duration-{unit}", length, locale=self.speech.language)
            for at, (unit, count) in enumerate(parts)
            if count or not at
        )

    def share(self, share: float) -> str:
        """Never rounded up to all of it."""
        cut = int(share * 1000) / 1000
        return format_percent(cut, "#,##0.0 %", locale=self.speech.language)

    def _zone(self) -> tzinfo:
        try:
            return ZoneInfo(self.zone)
        except (ZoneInfoNotFoundError, ValueError):
            return LOCALTZ


def month_name(speech: Speech, month: str) -> str:
    """'October 2026'."""
    year, number = (int(one) for one in month.split("-"))
    return format_skeleton("yMMMM", date(year, number, 1), locale=speech.language)


class PaperWords:
    """What :class:`~notfallserver.server.report.reports.Reports` asks the web."""

    languages: Sequence[str] = LANGUAGES
    events: Sequence[str] = sorted(GRAVE | {"rehearsal_ended"})

    def grave(self, entry: Entry) -> str:
        one = happening(entry)
        return one.event if one.grave else ""

    def paper(self, report: Report, language: str, server: str) -> Paper:
        spoken = speech(language)
        values = {"month": month_name(spoken, report.month), "server": server}
        title = spoken.say(ONE_TITLE if server else TITLE) % values
        html = spoken.page(
            "report/report.html",
            title=title,
            report=report,
            server=server,
            writing=Writing(spoken, report.time_zone),
            told=told,
            scheme=SCHEME,
        )
        return Paper(html, spoken.say(REASON))
