"""The monthly reports to take away, and the figures for a monitoring."""

from __future__ import annotations

from datetime import UTC, datetime

from fastapi import APIRouter, Request
from fastapi.responses import Response

from notfallserver.server.report.months import Month, local_zone, month_of
from notfallserver.server.report.reports import JOB
from notfallserver.server.report.shelf import papers_of
from notfallserver.server.web.answers import JobAnswer
from notfallserver.server.web.api.metrics import metrics_state
from notfallserver.server.web.api.reports import Month as MonthName
from notfallserver.server.web.api.reports import Name, file_answer
from notfallserver.server.web.page.show import go, show, speech_of
from notfallserver.server.web.peer import house_of
from notfallserver.server.web.people import Administrator, Operator, Person
from notfallserver.server.web.report_paper import month_name
from notfallserver.server.web.words.report import sentence, worst

router = APIRouter()


@router.get("/reports")
def reports_page(request: Request, who: Person) -> Response:
    return _show(request)


@router.post("/reports")
def make_now(request: Request, who: Operator) -> Response:
    """That of the present month, as far as it is."""
    house_of(request).reports.make(_present(), who)
    return go(request, "/reports")


@router.get("/reports/ca.pem")
def authority(request: Request, who: Person) -> Response:
    """What a PDF reader must know to trust the signature."""
    return Response(
        house_of(request).authority.ca_pem,
        media_type="application/x-pem-file",
        headers={"Content-Disposition": 'attachment; filename="notfallserver-ca.pem"'},
    )


@router.get("/reports/{month}/{name}")
def take(
    request: Request,
    month: MonthName,
    name: Name,
    who: Person,
) -> Response:
    return file_answer(request, month, name)


@router.post("/reports/token")
def make_token(request: Request, who: Administrator) -> Response:
    """It is shown in the answer, and never again."""
    return _show(request, house_of(request).catalogue.metrics_token.make(who))


@router.post("/reports/token/off")
def drop_token(request: Request, who: Administrator) -> Response:
    house_of(request).catalogue.metrics_token.drop(who)
    return go(request, "/reports")


def _present() -> Month:
    return month_of(datetime.now(UTC), local_zone()[1])


def _show(request: Request, token: str = "") -> Response:
    house, spoken = house_of(request), speech_of(request)
    jobs = house.catalogue.jobs.newest(kind=JOB, limit=1)
    values = {
        "reports": [
            (one, month_name(spoken, one.report.month)) for one in house.reports.shelf.all()
        ],
        "papers_of": papers_of,
        "sentence": sentence,
        "worst": worst,
        "job": JobAnswer.of(jobs[0]) if jobs else None,
        "fingerprint": house.authority.fingerprint,
        "address": f"{house.urls[0]}/metrics",
        "metrics": metrics_state(request),
        "token": token,
    }
    return show(request, "reports.html", values)
