"""Makes reports: one job for a month, begun by itself when a month is over, or by somebody's wish.

A job that is interrupted begins again; the report comes to its place at its end. A month that
passed while the server was off is made up for. Which was the last that came by itself is kept in
the notes of the server.
"""

from __future__ import annotations

import hashlib
import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

from notfallserver.server.authority import Authority
from notfallserver.server.cycle.means import Means
from notfallserver.server.cycle.runner import JobContext, JobRunner
from notfallserver.server.host.files import replace_file
from notfallserver.server.records.jobs import Job
from notfallserver.server.records.journal import Entry
from notfallserver.server.report.gather import Gathered, Gatherer
from notfallserver.server.report.judge import alone
from notfallserver.server.report.months import (
    Month,
    due_months,
    local_zone,
    month_of,
    read_month,
)
from notfallserver.server.report.press import Order, print_pages
from notfallserver.server.report.shelf import SIGNATURE, TREE, Shelf, pdf_name
from notfallserver.server.report.sign import Signer, sign_beside
from notfallserver.server.report.tree import Light, Report
from notfallserver.wire.errors import NotfallError

log = logging.getLogger(__name__)

JOB = "report"
NOTE = "reports"
FIRST_LOOK_S, LOOK_S = 2.0, 30.0
"""After a start, and from then on so often, it is looked whether a month is over."""
AGAIN_AFTER = timedelta(hours=1)
"""One that failed is tried again then."""
SCHEDULE = "schedule"


@dataclass(frozen=True)
class Paper:
    """A report in a language: HTML, and why it is signed."""

    html: str
    reason: str


class Words(Protocol):
    """What the web knows: languages, and what is grave."""

    @property
    def languages(self) -> Sequence[str]: ...

    @property
    def events(self) -> Sequence[str]:
        """The journal's events among which the grave ones are."""

    def grave(self, entry: Entry) -> str:
        """What is told of it; empty where it is not grave."""

    def paper(self, report: Report, language: str, server: str) -> Paper:
        """``server``: the name of the one that the report is about; empty: about all."""


class Reports:
    """One per server. Thread-safe."""

    def __init__(self, means: Means, runner: JobRunner, authority: Authority, words: Words) -> None:
        self._means = means
        self._runner = runner
        self._authority = authority
        self._words = words
        self._gatherer = Gatherer(means, authority, words.grave, words.events)
        self.shelf = Shelf(means.settings.data_dir / "reports")
        self._began: datetime | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="reports", daemon=True)
        runner.register(JOB, self._make)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout=5)

    # -- beginning -------------------------------------------------------------------------------

    def make(self, month: Month, who: str, again: bool = False) -> Job:
        """Make the report of a month that has begun; a whole one that is there needs ``again``."""
        if not again and month in self.shelf.months() and self.shelf.need(month).report.complete:
            raise NotfallError(
                "report-there",
                f"The report of {month} is there already.",
                "Make it again if you really want another one in its place "
                f"(notfall report make {month} --again).",
                status=409,
            )
        if month > month_of(_now(), local_zone()[1]):
            raise NotfallError(
                "month-not-begun",
                f"{month} has not begun yet.",
                "Choose this month or an earlier one.",
                status=409,
            )
        job = self._runner.submit(JOB, None, {"month": str(month)}, who, join=True)
        if job.parameters.get("month") != str(month):
            raise NotfallError(
                "report-under-way",
                f"The report of {job.parameters.get('month')} is just being made.",
                "Wait for its end, then try again.",
                retry=True,
                status=409,
            )
        return job

    def look(self) -> None:
        """Begin what is due, the oldest first; one at a time."""
        if self._means.catalogue.jobs.unfinished(kind=JOB):
            return
        for month in self._due():
            if not self._failed_lately(month):
                log.info("the report of %s is due", month)
                self._runner.submit(JOB, None, {"month": str(month)}, SCHEDULE, join=True)
                return

    def _due(self) -> list[Month]:
        _, zone = local_zone()
        self._began = began = self._began or self._gatherer.began()
        through = str(self._means.catalogue.notes.read(NOTE).get("through", ""))
        whole = [one.month for one in self.shelf.all() if one.report.complete]
        return due_months(
            month_of(_now(), zone),
            month_of(began, zone) if began else None,
            read_month(through) if through else None,
            whole,
        )

    def _failed_lately(self, month: Month) -> bool:
        for one in self._means.catalogue.jobs.newest(kind=JOB, limit=20):
            if one.parameters.get("month") == str(month) and one.finished_at:
                return one.state != "done" and _now() - one.finished_at < AGAIN_AFTER
        return False

    def _loop(self) -> None:
        wait = FIRST_LOOK_S
        while not self._stopping.wait(wait):
            wait = LOOK_S
            try:
                self.look()
            except Exception:
                log.exception("looking for reports that are due failed")

    # -- the job ---------------------------------------------------------------------------------

    def _make(self, ctx: JobContext) -> dict[str, Any]:
        month = read_month(str(ctx.parameters.get("month", "")))
        ctx.progress("gathering the month")
        name, zone = local_zone()
        gathered = self._gatherer.gather(month, name, zone, _now())
        self._authority.ensure_signer(gathered.report.server)
        place = self.shelf.begin(month)
        content = gathered.report.to_json()
        replace_file(place / TREE, content)
        replace_file(place / SIGNATURE, sign_beside(content, self._signer()))
        self._print(ctx, gathered, place)
        ctx.check()
        hashes = {one.name: hashlib.sha256(one.read_bytes()).hexdigest() for one in place.iterdir()}
        self.shelf.put(month)
        self._tell(ctx, gathered.report, hashes)
        return {"month": str(month), "complete": gathered.report.complete, "sha256": hashes}

    def _print(self, ctx: JobContext, gathered: Gathered, place: Path) -> None:
        """The report of all, and of each primary that is still there."""
        report = gathered.report
        there = [one for one in report.primaries if one.light is not Light.GONE]
        for name, told in [("", report), *((one.name, alone(report, one)) for one in there)]:
            ctx.check()
            ctx.progress("printing the report")
            papers = [self._words.paper(told, one, name) for one in self._words.languages]
            printed = self._printed(gathered, papers)
            for language, pdf in zip(self._words.languages, printed, strict=True):
                replace_file(place / pdf_name(language, name), pdf)

    def _printed(self, gathered: Gathered, papers: Sequence[Paper]) -> list[bytes]:
        signer = self._signer()
        return print_pages(
            Order(
                pages=[(one.html, one.reason) for one in papers],
                pictures={key: str(path) for key, path in gathered.pictures.items()},
                name=f"Notfallserver {gathered.report.server}",
                key=str(signer.key),
                certificate=str(signer.certificate),
                ca=str(signer.ca),
            )
        )

    def _signer(self) -> Signer:
        own = self._authority
        return Signer(own.signer_key, own.signer_certificate, own.ca_file)

    def _tell(self, ctx: JobContext, report: Report, hashes: dict[str, str]) -> None:
        """The journal knows what was made, so that another one in its place would show."""
        catalogue, details = self._means.catalogue, {"month": report.month, "sha256": hashes}
        if ctx.job.who != SCHEDULE:
            catalogue.journal.write(None, "report-made", ctx.job.who, details=details)
            return
        through = {"through": report.month}
        catalogue.notes.keep(NOTE, through, "month-reported", SCHEDULE, details)


def _now() -> datetime:
    return datetime.now(UTC)
