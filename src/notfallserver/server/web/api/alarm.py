"""The ransomware alarm: what versions show, and what a person says of it."""

from __future__ import annotations

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from notfallserver.server.web.alarm_answers import AlarmAnswer, AlarmsAnswer
from notfallserver.server.web.api.primaries import Name
from notfallserver.server.web.peer import house_of
from notfallserver.server.web.people import Administrator, Operator, Person

router = APIRouter(tags=["alarm"])


class ClearRequest(BaseModel):
    """``why`` all is well: what was done on the server, or how the attack was ended."""

    model_config = ConfigDict(extra="forbid")

    why: str = Field(min_length=1, max_length=1000)


class ConfirmRequest(BaseModel):
    """``why``: what is known of the attack."""

    model_config = ConfigDict(extra="forbid")

    why: str = Field(default="", max_length=1000)


@router.get("/primaries/{name}/alarm")
def show_alarm(request: Request, name: Name, who: Person) -> AlarmsAnswer:
    """What its versions show of ransomware, and its alarms."""
    house = house_of(request)
    row = house.catalogue.primaries.find(name)
    return AlarmsAnswer.of(house.conductor.alarms.standing(row))


@router.post("/primaries/{name}/alarm/clear")
def clear_alarm(
    request: Request, name: Name, body: ClearRequest, who: Administrator
) -> AlarmAnswer:
    """All is well (again): nothing is held for it any more; what was seen counts as usual, unless
    it was called an attack."""
    house = house_of(request)
    row = house.catalogue.primaries.find(name)
    return AlarmAnswer.of(house.conductor.alarms.clear(row, body.why, who))


@router.post("/primaries/{name}/alarm/confirm")
def confirm_alarm(
    request: Request, name: Name, who: Operator, body: ConfirmRequest | None = None
) -> AlarmAnswer:
    """It was an attack: the clean version stays held, the others marked."""
    house = house_of(request)
    row = house.catalogue.primaries.find(name)
    why = body.why if body is not None else ""
    return AlarmAnswer.of(house.conductor.alarms.confirm(row, why, who))
