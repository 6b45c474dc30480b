"""Who may use this server, and what all must do: for administrators."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from notfallserver.server.records.passwords import make_password
from notfallserver.server.records.people import ROOT, Member, Role
from notfallserver.server.web.peer import house_of
from notfallserver.server.web.people import Administrator, entrance_of
from notfallserver.wire.errors import NotfallError

router = APIRouter(tags=["people"])

PersonName = Annotated[str, Path(max_length=63)]
Password = Annotated[str, Field(max_length=1000)]


class PersonAnswer(BaseModel):
    """``recovery_codes`` counts those that are left."""

    name: str
    role: Role
    second_factor: bool
    recovery_codes: int

    @classmethod
    def of(cls, member: Member) -> PersonAnswer:
        return cls.model_validate(vars(member))


class PasswordRequest(BaseModel):
    """``password``: left out, the server makes one."""

    model_config = ConfigDict(extra="forbid")

    password: Password = ""


class AddRequest(PasswordRequest):
    name: str = Field(min_length=1, max_length=63)
    role: Role


class PasswordAnswer(BaseModel):
    """``password``: the one that the server made, told only now; else empty."""

    name: str
    password: str


class ConfirmRequest(BaseModel):
    """``confirm``: the name once more, where somebody does it to himself."""

    model_config = ConfigDict(extra="forbid")

    confirm: str = Field(default="", max_length=63)


class RoleRequest(ConfirmRequest):
    role: Role


class RulesBody(BaseModel):
    model_config = ConfigDict(extra="forbid")

    second_factor_required: bool


@router.get("/people")
def list_people(request: Request, who: Administrator) -> list[PersonAnswer]:
    return [PersonAnswer.of(one) for one in house_of(request).catalogue.people.all()]


@router.post("/people", status_code=201)
def add_person(request: Request, body: AddRequest, who: Administrator) -> PasswordAnswer:
    made = "" if body.password else make_password()
    people = house_of(request).catalogue.people
    people.add(body.name, body.password or made, body.role, who)
    return PasswordAnswer(name=body.name, password=made)


@router.post("/people/{name}/role")
def set_role(
    request: Request, name: PersonName, body: RoleRequest, who: Administrator
) -> PersonAnswer:
    """The person's sessions end."""
    _require_confirmed(name, body, who)
    people = house_of(request).catalogue.people
    people.set_role(name, body.role, who)
    return PersonAnswer.of(people.find(name))


@router.post("/people/{name}/password")
def set_password(
    request: Request, name: PersonName, body: PasswordRequest, who: Administrator
) -> PasswordAnswer:
    """The person's sessions end."""
    made = "" if body.password else make_password()
    house_of(request).catalogue.people.set_password(name, body.password or made, who)
    entrance_of(request).brake.release(name)
    return PasswordAnswer(name=name, password=made)


@router.post("/people/{name}/second-factor-off")
def second_factor_off(request: Request, name: PersonName, who: Administrator) -> PersonAnswer:
    """For somebody who lost the telephone; the person's sessions end."""
    catalogue = house_of(request).catalogue
    catalogue.second_factor.switch_off(name, who)
    return PersonAnswer.of(catalogue.people.find(name))


@router.post("/people/{name}/remove", status_code=204)
def remove_person(
    request: Request, name: PersonName, body: ConfirmRequest, who: Administrator
) -> Response:
    _require_confirmed(name, body, who)
    house_of(request).catalogue.people.remove(name, who)
    return Response(status_code=204)


@router.get("/rules")
def read_rules(request: Request, who: Administrator) -> RulesBody:
    required = house_of(request).catalogue.rules.second_factor_required
    return RulesBody(second_factor_required=required)


@router.post("/rules")
def set_rules(request: Request, body: RulesBody, who: Administrator) -> RulesBody:
    """Whoever makes it a rule for all keeps it already."""
    catalogue = house_of(request).catalogue
    if body.second_factor_required and who != ROOT and not catalogue.second_factor.has(who):
        raise NotfallError(
            "second-factor-first",
            "You have no second factor yourself yet.",
            "Set up yours first.",
            status=409,
        )
    catalogue.rules.require_second_factor(body.second_factor_required, who)
    return body


def _require_confirmed(name: str, body: ConfirmRequest, who: str) -> None:
    if name == who and body.confirm != name:
        raise NotfallError(
            "yourself-not-confirmed",
            "This is about yourself.",
            "Repeat your name to confirm it.",
        )
