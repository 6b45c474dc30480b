"""How the emergency server itself is, and its settings as they hold now."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from notfallserver.server.addresses import as_url
from notfallserver.server.health.judge import Grade, worst
from notfallserver.server.settings import CHANGEABLE
from notfallserver.server.web.language import speech
from notfallserver.server.web.peer import house_of
from notfallserver.server.web.people import Administrator, Person
from notfallserver.server.web.words.health import in_words

router = APIRouter(tags=["system"])
monitoring = APIRouter(include_in_schema=False)
"""For a monitoring that has no login."""

FIRST_LOOK_S = 10.0
"""Right after a start the first look is waited for so long."""
NOT_WELL = 503


class FindingAnswer(BaseModel):
    """``grade`` is good, warn or bad; ``case`` is stable, the words are English."""

    key: str
    grade: Grade
    case: str
    title: str
    words: str
    remedy: str


class HealthAnswer(BaseModel):
    """``grade`` is the worst of all; ``looked_at`` is None before the first look."""

    grade: Grade
    looked_at: datetime | None
    findings: list[FindingAnswer]


class SettingsAnswer(BaseModel):
    """``values`` hold now; ``changed`` are those that were changed while the server runs."""

    values: dict[str, Any]
    changed: list[str]
    changeable: list[str]


class SettingsRequest(BaseModel):
    """Left out: as it was. ``reset``: these follow the settings file again."""

    model_config = ConfigDict(extra="forbid")

    witnesses: Annotated[list[str] | None, Field(max_length=16)] = None
    further_urls: Annotated[list[str] | None, Field(max_length=8)] = None
    schedule_minutes: int | None = None
    capture_minutes: int | None = None
    scrub_days: int | None = None
    scrub_mib_s: int | None = None
    rehearsal_days: int | None = None
    rehearse_each_copy: int | None = None
    trial_hours: int | None = None
    heartbeat_timeout_s: int | None = None
    keep_all_hours: int | None = None
    keep_hourly: int | None = None
    keep_daily: int | None = None
    keep_weekly: int | None = None
    keep_monthly: int | None = None
    keep_yearly: int | None = None
    keep_proven: int | None = None
    keep_floor_days: int | None = None
    make_room_percent: int | None = None
    deletion_hours: int | None = None
    reset: list[str] = Field(default=[], max_length=len(CHANGEABLE))


@router.get("/health", responses={NOT_WELL: {"model": HealthAnswer}})
def show_health(request: Request, response: Response, who: Person) -> HealthAnswer:
    """503 when something is bad, so that a monitoring needs to look at nothing else."""
    told = health_answer(request)
    response.status_code = NOT_WELL if told.grade is Grade.BAD else 200
    return told


@monitoring.get("/health")
def tell_monitoring(request: Request, response: Response) -> dict[str, str]:
    """The grade alone, without a login; 503 when it is bad."""
    grade = health_answer(request).grade
    response.status_code = NOT_WELL if grade is Grade.BAD else 200
    return {"grade": grade}


def health_answer(request: Request) -> HealthAnswer:
    watch = house_of(request).health
    watch.await_first(FIRST_LOOK_S)
    findings, spoken = watch.findings, speech("en")
    rows = []
    for one in findings:
        told = in_words(one)
        rows.append(
            FindingAnswer(
                key=one.key,
                grade=one.grade,
                case=one.case,
                title=told.title,
                words=spoken.words(told.words),
                remedy=told.remedy,
            )
        )
    # A server that could not look at itself is not well.
    grade = worst(findings) if findings else Grade.BAD
    return HealthAnswer(grade=grade, looked_at=watch.looked_at, findings=rows)


@router.get("/settings")
def show_settings(request: Request, who: Administrator) -> SettingsAnswer:
    house = house_of(request)
    return SettingsAnswer(
        values=house.present().model_dump(mode="json"),
        changed=sorted(house.catalogue.preferences.all()),
        changeable=list(CHANGEABLE),
    )


@router.post("/settings")
def change_settings(request: Request, body: SettingsRequest, who: Administrator) -> SettingsAnswer:
    """Acts at once; the file stays as it is."""
    house = house_of(request)
    told = body.model_dump(exclude={"reset"}, exclude_none=True)
    if further := told.get("further_urls"):
        told["further_urls"] = [as_url(one, house.settings.listen_port) for one in further]
    known = house.catalogue.preferences.all()
    wished = {key: one for key, one in {**known, **told}.items() if key not in body.reset}
    house.settings.changed(wished)  # refused as a whole
    gone = {key: None for key in body.reset if key in known}
    house.catalogue.preferences.set({**told, **gone}, who)
    return show_settings(request, who)
