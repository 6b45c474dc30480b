"""All copies of a server: why each stays, what goes, pins and deletions; and the rules for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Depends, Form, Request
from fastapi.responses import Response

from notfallserver.server.cycle.retention.rules import NAMES, bounds
from notfallserver.server.web.answers import VersionAnswer
from notfallserver.server.web.api.primaries import Name, primary_answer
from notfallserver.server.web.api.retention import (
    DeleteRequest,
    PinRequest,
    PreviewAnswer,
    PreviewRequest,
    RetentionAnswer,
    RulesRequest,
    Stamp,
    UnpinRequest,
    confirm_deletion,
    delete_version,
    pin_version,
    preview_retention,
    set_retention,
    show_retention,
    take_deletion_back,
    unpin_version,
)
from notfallserver.server.web.page.show import go, show
from notfallserver.server.web.peer import house_of
from notfallserver.server.web.people import Administrator, Operator, Person
from notfallserver.server.web.words.retention import KEEPS, RULES, USES
from notfallserver.wire.errors import NotfallError

router = APIRouter(prefix="/p/{name}/kept")
Count = Annotated[int, Form(ge=0, le=100_000)]


@dataclass(frozen=True)
class TypedRules:
    """As they stand in the form."""

    rules: dict[str, int]


def _read(
    all_hours: Count,
    hourly: Count,
    daily: Count,
    weekly: Count,
    monthly: Count,
    yearly: Count,
    proven: Count,
    floor_days: Count,
) -> TypedRules:
    values = (all_hours, hourly, daily, weekly, monthly, yearly, proven, floor_days)
    return TypedRules(dict(zip(NAMES, values, strict=True)))


Typed = Annotated[TypedRules, Depends(_read)]


@router.get("")
def kept_page(request: Request, name: Name, who: Person, saved: bool = False) -> Response:
    return _page(request, name, show_retention(request, name, who), saved=saved)


@router.post("/rules")
def save_rules(request: Request, name: Name, who: Administrator, typed: Typed) -> Response:
    """What is as in the server's settings goes on to follow them."""
    try:
        present = house_of(request).present()
        own = {
            key: one for key, one in typed.rules.items() if one != getattr(present, f"keep_{key}")
        }
        set_retention(request, name, RulesRequest.model_validate({"clear": True, **own}), who)
    except NotfallError as error:
        return _page(request, name, show_retention(request, name, who), typed, error)
    return go(request, f"/p/{name}/kept?saved=true")


@router.post("/preview")
def preview(request: Request, name: Name, who: Administrator, typed: Typed) -> Response:
    """What the rules in the form would do; nothing is changed."""
    try:
        body = PreviewRequest.model_validate({"each": True, **typed.rules})
        return _page(request, name, preview_retention(request, name, body, who), typed)
    except NotfallError as error:
        return _page(request, name, show_retention(request, name, who), typed, error)


@router.post("/{stamp}/pin")
def pin(
    request: Request,
    name: Name,
    stamp: Stamp,
    who: Operator,
    reason: Annotated[str, Form(max_length=1000)] = "",
) -> Response:
    if not reason.strip():
        raise NotfallError("no-reason", "A pinned version needs a reason.", status=422)
    pin_version(request, name, stamp, PinRequest(reason=reason), who)
    return go(request, f"/p/{name}/kept")


@router.post("/{stamp}/unpin")
def unpin(
    request: Request,
    name: Name,
    stamp: Stamp,
    who: Administrator,
    key: Annotated[str, Form(min_length=1, max_length=80)],
) -> Response:
    unpin_version(request, name, stamp, UnpinRequest(key=key), who)
    return go(request, f"/p/{name}/kept")


@router.post("/{stamp}/delete")
def delete(
    request: Request,
    name: Name,
    stamp: Stamp,
    who: Administrator,
    reason: Annotated[str, Form(max_length=1000)] = "",
) -> Response:
    delete_version(request, name, stamp, DeleteRequest(reason=reason), who)
    return go(request, f"/p/{name}/kept")


@router.post("/{stamp}/confirm")
def confirm(request: Request, name: Name, stamp: Stamp, who: Administrator) -> Response:
    confirm_deletion(request, name, stamp, who)
    return go(request, f"/p/{name}/kept")


@router.post("/{stamp}/undelete")
def undelete(request: Request, name: Name, stamp: Stamp, who: Administrator) -> Response:
    take_deletion_back(request, name, stamp, who)
    return go(request, f"/p/{name}/kept")


def _page(
    request: Request,
    name: str,
    told: RetentionAnswer,
    typed: TypedRules | None = None,
    error: NotfallError | None = None,
    saved: bool = False,
) -> Response:
    house = house_of(request)
    primary = primary_answer(request, name)
    versions = {
        one.stamp: one for one in map(VersionAnswer.of, house.conductor.versions(primary.uuid))
    }
    rules = typed.rules if typed else told.rules
    values = {
        "primary": primary,
        "told": told,
        "previewed": isinstance(told, PreviewAnswer),
        "rows": [(one, versions.get(one.stamp)) for one in told.versions],
        "rules": [(key, text, rules[key], *bounds(key)) for key, text in RULES],
        "keeps": KEEPS,
        "uses": {str(key): text for key, text in USES.items()},
        "error": error,
        "saved": saved,
        "delay_s": house.present().deletion_hours * 3600,
        "protected": house.conductor.pool_state().protected,
    }
    return show(request, "kept.html", values, error.status if error else 200)
