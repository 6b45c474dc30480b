"""How long versions stay: rules, previews, pins, and deletion by hand."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Path, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from notfallserver.server.cycle.retention.deletions import Deletion
from notfallserver.server.cycle.retention.keeper import HAND, Preview, Retention
from notfallserver.server.cycle.retention.plan import Keep
from notfallserver.server.cycle.retention.rules import own_rules
from notfallserver.server.cycle.retention.survey import View
from notfallserver.server.pool.layout import stamp_time
from notfallserver.server.records.primaries import Primary
from notfallserver.server.web.answers import JobAnswer
from notfallserver.server.web.api.primaries import Name
from notfallserver.server.web.peer import house_of
from notfallserver.server.web.people import Administrator, Operator, Person

router = APIRouter(tags=["retention"])
Stamp = Annotated[str, Path(max_length=64, description="A version")]
Count = Annotated[int | None, Field(ge=0, le=100_000)]


class RulesRequest(BaseModel):
    """Left out: as it was. Every version of ``all_hours`` stays; of so many hours, days, ... the
    last one of each; at least ``proven`` that are proven to start; of ``floor_days`` the last one
    of each even when the pool is nearly full. ``reset``: these follow the server's settings again,
    ``clear``: all."""

    model_config = ConfigDict(extra="forbid")

    all_hours: Count = None
    hourly: Count = None
    daily: Count = None
    weekly: Count = None
    monthly: Count = None
    yearly: Count = None
    proven: Count = None
    floor_days: Count = None
    reset: list[str] = Field(default=[], max_length=16)
    clear: bool = False

    def wish(self) -> dict[str, int]:
        return self.model_dump(exclude={"reset", "clear"}, exclude_none=True)


class PreviewRequest(RulesRequest):
    """Rules to try; ``each``: tell of each version what it alone occupies, which takes longer."""

    each: bool = False

    def wish(self) -> dict[str, int]:
        return self.model_dump(exclude={"reset", "clear", "each"}, exclude_none=True)


class PinRequest(BaseModel):
    model_config = ConfigDict(extra="forbid")

    reason: str = Field(min_length=1, max_length=1000)


class UnpinRequest(BaseModel):
    """``key``: who holds it, as it is listed; left out: a person."""

    model_config = ConfigDict(extra="forbid")

    key: str = Field(default=HAND, min_length=1, max_length=80)


class DeleteRequest(BaseModel):
    model_config = ConfigDict(extra="forbid")

    reason: str = Field(default="", max_length=1000)


class RunRequest(BaseModel):
    """``primary``: only this one; left out: all."""

    model_config = ConfigDict(extra="forbid")

    primary: str = Field(default="", max_length=80)


class PinAnswer(BaseModel):
    key: str
    why: str
    who: str
    at: datetime


class DeletionAnswer(BaseModel):
    """It is deleted when ``due``, unless it ``awaits_second``: somebody else's confirmation."""

    who: str
    at: datetime
    due: datetime
    why: str
    confirmed_by: str
    awaits_second: bool

    @classmethod
    def of(cls, one: Deletion, administrators: int) -> DeletionAnswer:
        awaits = one.awaits(administrators)
        return cls.model_validate({**vars(one), "awaits_second": awaits})


class KeptAnswer(BaseModel):
    """One version: ``goes``, or what keeps it (``kept_by``, stable keys). ``alone``: bytes that
    nothing else in the pool holds; None where that was not asked for."""

    stamp: str
    taken_at: datetime
    goes: bool
    kept_by: list[Keep]
    used_by: list[str]
    pins: list[PinAnswer]
    deletion: DeletionAnswer | None
    alone: int | None = None


class RetentionAnswer(BaseModel):
    """``rules`` hold for it, of which ``own`` are not the server's. ``versions`` newest first."""

    rules: dict[str, int]
    own: list[str]
    going: int
    versions: list[KeptAnswer]


class PreviewAnswer(RetentionAnswer):
    """``frees``: bytes that are free when all that goes has gone."""

    frees: int


@router.get("/primaries/{name}/retention")
def show_retention(request: Request, name: Name, who: Person) -> RetentionAnswer:
    """Its rules, and what keeps each version."""
    keeper, row = _keeper(request), _row(request, name)
    return RetentionAnswer.model_validate(_told(keeper, row, keeper.view(row), {}))


@router.post("/primaries/{name}/retention")
def set_retention(
    request: Request, name: Name, body: RulesRequest, who: Administrator
) -> RetentionAnswer:
    """Rules of its own. They act within a minute."""
    _keeper(request).set_rules(_row(request, name), body.wish(), body.reset, body.clear, who)
    return show_retention(request, name, who)


@router.post("/primaries/{name}/retention/preview")
def preview_retention(
    request: Request, name: Name, body: PreviewRequest, who: Person
) -> PreviewAnswer:
    """What its rules, or others, would remove, and what that frees. Changes nothing.

    Asks all files of the pool where they lie: usually seconds, in a large pool minutes.
    """
    keeper, row = _keeper(request), _row(request, name)
    found: Preview = keeper.preview(row, body.wish(), body.each)
    told = _told(keeper, row, found.view, found.alone)
    return PreviewAnswer.model_validate({**told, "frees": found.frees})


@router.post("/retention/run", status_code=202)
def run_retention(request: Request, body: RunRequest, who: Administrator) -> JobAnswer:
    """Apply the rules now."""
    row = _row(request, body.primary) if body.primary else None
    return JobAnswer.of(_keeper(request).run(who, row), "")


@router.post("/primaries/{name}/versions/{stamp}/pin", status_code=204)
def pin_version(
    request: Request, name: Name, stamp: Stamp, body: PinRequest, who: Operator
) -> Response:
    """It stays until somebody unpins it."""
    _keeper(request).pin(_row(request, name), stamp, body.reason, who)
    return Response(status_code=204)


@router.post("/primaries/{name}/versions/{stamp}/unpin", status_code=204)
def unpin_version(
    request: Request, name: Name, stamp: Stamp, body: UnpinRequest, who: Administrator
) -> Response:
    _keeper(request).unpin(_row(request, name), stamp, body.key, who)
    return Response(status_code=204)


@router.post("/primaries/{name}/versions/{stamp}/delete", status_code=202)
def delete_version(
    request: Request, name: Name, stamp: Stamp, body: DeleteRequest, who: Administrator
) -> DeletionAnswer:
    """Have it deleted later; until then it can be taken back. Where there are two administrators,
    another one has to confirm it."""
    keeper = _keeper(request)
    one = keeper.delete(_row(request, name), stamp, who, body.reason.strip())
    return DeletionAnswer.of(one, keeper.administrators())


@router.post("/primaries/{name}/versions/{stamp}/confirm-deletion", status_code=202)
def confirm_deletion(
    request: Request, name: Name, stamp: Stamp, who: Administrator
) -> DeletionAnswer:
    keeper = _keeper(request)
    one = keeper.confirm(_row(request, name), stamp, who)
    return DeletionAnswer.of(one, keeper.administrators())


@router.post("/primaries/{name}/versions/{stamp}/undelete", status_code=204)
def take_deletion_back(request: Request, name: Name, stamp: Stamp, who: Administrator) -> Response:
    _keeper(request).take_back(_row(request, name), stamp, who)
    return Response(status_code=204)


def _told(
    keeper: Retention, row: Primary, view: View, alone: Mapping[str, int]
) -> dict[str, object]:
    administrators = keeper.administrators()
    going = set(view.plan.going)
    versions = [
        KeptAnswer(
            stamp=stamp,
            taken_at=stamp_time(stamp),
            goes=stamp in going,
            kept_by=list(view.plan.kept.get(stamp, ())),
            used_by=sorted(view.uses.get(stamp, ())),
            pins=[
                PinAnswer.model_validate({"key": key, **vars(pin)})
                for key, pin in view.pins.get(stamp, {}).items()
            ],
            deletion=DeletionAnswer.of(view.deletions[stamp], administrators)
            if stamp in view.deletions
            else None,
            alone=alone.get(stamp),
        )
        for stamp in view.stamps
    ]
    return {
        "rules": view.rules.to_json(),
        "own": sorted(own_rules(row.notes)),
        "going": len(going),
        "versions": versions,
    }


def _keeper(request: Request) -> Retention:
    return house_of(request).conductor.retention


def _row(request: Request, name: str) -> Primary:
    return house_of(request).catalogue.primaries.find(name)
