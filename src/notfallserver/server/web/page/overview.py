"""What every page of one primary shows of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from fastapi import Request

from notfallserver.server.cycle.state import State
from notfallserver.server.records.jobs import Job
from notfallserver.server.web.answers import JobAnswer, PrimaryAnswer
from notfallserver.server.web.api.primaries import primary_answer
from notfallserver.server.web.peer import house_of
from notfallserver.server.web.words.alarm import with_alarm
from notfallserver.server.web.words.situation import CONCERNS, Situation, situation


@dataclass(frozen=True)
class Overview:
    """A primary and how it stands now."""

    primary: PrimaryAnswer
    situation: Situation
    failed: JobAnswer | None
    """The newest job that failed and was not made good, if it matters now."""

    def job(self, *kinds: str) -> JobAnswer | None:
        """The job of one of these kinds that is under way."""
        return next((one for one in self.primary.jobs if one.kind in kinds), None)

    def failure(self, *kinds: str) -> JobAnswer | None:
        """What failed, if it is of one of these kinds."""
        return self.failed if self.failed and self.failed.kind in kinds else None

    def values(self) -> dict[str, object]:
        """For the template."""
        return vars(self)


def overview_of(request: Request, name: str) -> Overview:
    """Raises where there is no such primary."""
    primary = primary_answer(request, name)
    return overview(primary, house_of(request).catalogue.jobs.unmended(primary.uuid))


def overview(primary: PrimaryAnswer, unmended: Sequence[Job]) -> Overview:
    """``unmended``: jobs that failed, newest first, also of other primaries."""
    mine = [one for one in unmended if one.primary == primary.uuid]
    kinds = CONCERNS.get(State(primary.state), ())
    failed = next((one for kind in kinds for one in mine if one.kind == kind), None)
    told = situation(primary, datetime.now(UTC), failed.kind if failed else "")
    told = with_alarm(told, State(primary.state), primary.alarm)
    return Overview(primary, told, JobAnswer.of(failed) if failed else None)


def mark(part: str, failed: JobAnswer | None) -> str:
    """Which ``part`` of a page is shown, and with which failure: it is told a moment after the
    state in which it leaves the primary."""
    return f"{part} {failed.id}" if failed else part
