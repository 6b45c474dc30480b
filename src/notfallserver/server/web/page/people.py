"""Who may use this server, and what all must do: for administrators."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, Request
from fastapi.responses import Response

from notfallserver.server.records.people import Role
from notfallserver.server.web.api import people as api
from notfallserver.server.web.page.show import go, show
from notfallserver.server.web.peer import house_of
from notfallserver.server.web.people import Administrator
from notfallserver.server.web.words.roles import MAY, TITLES
from notfallserver.wire.errors import NotfallError

router = APIRouter()
Called = Annotated[str, Form(max_length=63)]
Secret = Annotated[str, Form(max_length=1000)]
Chosen = Annotated[Role, Form()]
_WORDS = {"titles": TITLES, "may": MAY, "roles": list(Role)}


@router.get("/people")
def people_page(request: Request, who: Administrator) -> Response:
    return _all(request, None)


@router.post("/people")
def add(
    request: Request, who: Administrator, role: Chosen, name: Called = "", password: Secret = ""
) -> Response:
    try:
        body = api.AddRequest(name=name.strip() or " ", role=role, password=password)
        made = api.add_person(request, body, who)
    except NotfallError as error:
        return _all(request, error, name, role)
    return _told(request, made)


@router.post("/people/rules")
def set_rules(
    request: Request, who: Administrator, second_factor_required: Annotated[bool, Form()]
) -> Response:
    try:
        body = api.RulesBody(second_factor_required=second_factor_required)
        api.set_rules(request, body, who)
    except NotfallError as error:
        return _all(request, error)
    return go(request, "/people")


@router.get("/people/{name}")
def person_page(request: Request, name: api.PersonName, who: Administrator) -> Response:
    return _one(request, name)


@router.post("/people/{name}/role")
def set_role(
    request: Request, name: api.PersonName, who: Administrator, role: Chosen, confirm: Called = ""
) -> Response:
    try:
        api.set_role(request, name, api.RoleRequest(role=role, confirm=confirm.strip()), who)
    except NotfallError as error:
        return _one(request, name, error)
    return go(request, "/people")


@router.post("/people/{name}/password")
def set_password(
    request: Request, name: api.PersonName, who: Administrator, password: Secret = ""
) -> Response:
    try:
        made = api.set_password(request, name, api.PasswordRequest(password=password), who)
    except NotfallError as error:
        return _one(request, name, error)
    return _told(request, made)


@router.post("/people/{name}/second-factor-off")
def second_factor_off(request: Request, name: api.PersonName, who: Administrator) -> Response:
    api.second_factor_off(request, name, who)
    return go(request, f"/people/{name}")


@router.post("/people/{name}/remove")
def remove(
    request: Request, name: api.PersonName, who: Administrator, confirm: Called = ""
) -> Response:
    try:
        api.remove_person(request, name, api.ConfirmRequest(confirm=confirm.strip()), who)
    except NotfallError as error:
        return _one(request, name, error)
    return go(request, "/people")


def _all(
    request: Request, error: NotfallError | None, name: str = "", role: Role = Role.VIEWER
) -> Response:
    """``name`` and ``role`` are what was typed for somebody new."""
    catalogue = house_of(request).catalogue
    values = {
        **_WORDS,
        "members": catalogue.people.all(),
        "required": catalogue.rules.second_factor_required,
        "error": error,
        "name": name,
        "role": role,
    }
    return show(request, "people.html", values, error.status if error else 200)


def _one(request: Request, name: str, error: NotfallError | None = None) -> Response:
    member = house_of(request).catalogue.people.find(name)
    values = {**_WORDS, "member": member, "error": error}
    return show(request, "person.html", values, error.status if error else 200)


def _told(request: Request, made: api.PasswordAnswer) -> Response:
    """A password that the server made is shown once; only its hash is kept."""
    if not made.password:
        return go(request, "/people")
    return show(request, "first-password.html", {"made": made})
