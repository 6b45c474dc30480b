"""Monthly reports: which there are, their files, and making one."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Path, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field

from notfallserver.server.report.months import read_month
from notfallserver.server.report.shelf import NAME, Kept, told_name
from notfallserver.server.report.tree import Light, Report, Summary
from notfallserver.server.web.answers import JobAnswer
from notfallserver.server.web.language import speech
from notfallserver.server.web.peer import house_of
from notfallserver.server.web.people import Operator, Person
from notfallserver.server.web.words.report import sentence, worst

router = APIRouter(tags=["reports"])

Month = Annotated[str, Path(max_length=10, description="as 2026-10")]
Name = Annotated[str, Path(pattern=NAME, description="as report-de.pdf; see the list's files")]
TYPES = {
    ".pdf": "application/pdf",
    ".json": "application/json",
    ".p7s": "application/pkcs7-signature",
}


class ReportRow(BaseModel):
    """A report that is there. ``complete``: it is of the whole month. ``sentence`` is English;
    ``files`` are the names to ask for."""

    month: str
    complete: bool
    until: datetime
    made_at: datetime
    light: Light
    sentence: str
    summary: Summary
    files: list[str]

    @classmethod
    def of(cls, kept: Kept) -> ReportRow:
        report = kept.report
        return cls(
            month=report.month,
            complete=report.complete,
            until=report.until,
            made_at=report.made_at,
            light=worst(report.summary),
            sentence=speech("en").words(sentence(report.summary)),
            summary=report.summary,
            files=list(kept.files),
        )


class ReportRequest(BaseModel):
    """``again``: make it even if the report of the whole month is there."""

    model_config = ConfigDict(extra="forbid")

    month: str = Field(max_length=10)
    again: bool = False


@router.get("/reports")
def list_reports(request: Request, who: Person) -> list[ReportRow]:
    """The newest first."""
    return [ReportRow.of(one) for one in house_of(request).reports.shelf.all()]


@router.post("/reports", status_code=202)
def make_report(request: Request, body: ReportRequest, who: Operator) -> JobAnswer:
    """Make the report of a month; of the present one as far as it is."""
    job = house_of(request).reports.make(read_month(body.month), who, body.again)
    return JobAnswer.of(job)


@router.get("/reports/{month}")
def show_report(request: Request, month: Month, who: Person) -> Report:
    """The whole tree, as it is signed in report.json."""
    return house_of(request).reports.shelf.need(read_month(month)).report


@router.get("/reports/{month}/{name}", response_class=Response)
def report_file(request: Request, month: Month, name: Name, who: Person) -> Response:
    """One file, byte by byte as it was signed."""
    return file_answer(request, month, name)


def file_answer(request: Request, month: str, name: str) -> Response:
    wanted = read_month(month)
    content = house_of(request).reports.shelf.read(wanted, name)
    kind = next(kind for end, kind in TYPES.items() if name.endswith(end))
    shown = told_name(str(wanted), name)
    headers = {"Content-Disposition": f'attachment; filename="{shown}"'}
    return Response(content, media_type=kind, headers=headers)
