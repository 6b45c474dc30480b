"""Settings of one server: how often it is copied, what that may take of its line and disks, and
its removal. Plain forms over what the API takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Annotated

from fastapi import APIRouter, Depends, Form, Request
from fastapi.responses import Response

from notfallserver.server.cycle.normal.limit_text import window_text
from notfallserver.server.cycle.normal.limits import LIMITS, Limits, read_limits
from notfallserver.server.cycle.rehearsal.checks import MOST
from notfallserver.server.web.api.checks import set_checks, show_checks
from notfallserver.server.web.api.fencing import fence_of, forget_fence, set_fence, test_fence
from notfallserver.server.web.api.primaries import (
    LimitsRequest,
    Name,
    RemoveRequest,
    ScheduleRequest,
    primary_answer,
    remove_primary,
    set_limits,
    set_schedule,
)
from notfallserver.server.web.page.checks_form import KINDS, TypedCheck, read_check, without
from notfallserver.server.web.page.fence_form import DEVICES, TypedDevice, read_form
from notfallserver.server.web.page.show import go, show
from notfallserver.server.web.peer import house_of
from notfallserver.server.web.people import Administrator
from notfallserver.wire.errors import NotfallError

router = APIRouter(prefix="/p/{name}/settings")
Figure = Annotated[str, Form(max_length=12)]
Figures = Annotated[Sequence[str], Form(max_length=40)]
OFTEN = (0, 5, 10, 15, 30, 60, 120, 240, 480, 720, 1440)
"""Minutes offered between copies; 0 is only on request."""
DEEP = (0, 7, 14, 30, 90)
SPARE_ROWS = 2
BIT_S, BYTE_S = 125_000, 1_000_000
"""Bytes a second in one Mbit/s and in one MB/s."""


@dataclass(frozen=True)
class Row:
    """A window of time as it is typed; ``rate`` in Mbit/s, empty: no limit."""

    days: str = ""
    begin: str = ""
    end: str = ""
    rate: str = ""

    def text(self) -> str:
        """As on the command line; empty for a row nobody filled in."""
        if not (self.begin or self.end or self.rate):
            return ""
        rate = f"{self.rate}Mbit" if self.rate.strip() else "none"
        return f"{self.days} {self.begin}-{self.end}={rate}".strip()


@dataclass(frozen=True)
class Typed:
    """The limits as they stand in the form; empty is no limit."""

    rate: str = ""
    read_rate: str = ""
    pause_load: str = ""
    pause_pressure: str = ""
    pause_minutes: str = ""
    rows: list[Row] = field(default_factory=list)

    @classmethod
    def of(cls, limits: Limits) -> Typed:
        rows = []
        for one in limits.windows:
            days, _, times = window_text(one).partition("=")[0].rpartition(" ")
            begin, _, end = times.partition("-")
            rows.append(Row(days, begin, end, _figure(one.rate / BIT_S)))
        return cls(
            _figure(limits.rate / BIT_S),
            _figure(limits.read_rate / BYTE_S),
            _figure(limits.pause_load),
            _figure(limits.pause_pressure),
            str(limits.pause_minutes),
            rows,
        )

    def request(self) -> LimitsRequest:
        """All limits as the API takes them; what is empty is none."""
        minutes = self.pause_minutes.strip()
        if minutes and not (minutes.isdecimal() and 1 <= int(minutes) <= 1440):
            raise NotfallError("bad-limits", "A run pauses 1 to 1440 minutes.", status=422)
        return LimitsRequest(
            clear=True,
            rate=_rate(self.rate, "Mbit"),
            windows=[text for row in self.rows if (text := row.text())],
            read_rate=_rate(self.read_rate, "MB"),
            pause_load=self.pause_load.strip() or "none",
            pause_pressure=self.pause_pressure.strip() or "none",
            pause_minutes=int(minutes) if minutes else None,
        )


def _read(
    rate: Figure = "",
    read_rate: Figure = "",
    pause_load: Figure = "",
    pause_pressure: Figure = "",
    pause_minutes: Figure = "",
    days: Figures = (),
    begin: Figures = (),
    end: Figures = (),
    window_rate: Figures = (),
) -> Typed:
    columns = [[one[:40] for one in column] for column in (days, begin, end, window_rate)]
    rows = [Row(*cells) for cells in zip_longest(*columns, fillvalue="")]
    return Typed(rate, read_rate, pause_load, pause_pressure, pause_minutes, rows)


@router.get("")
def settings_page(
    request: Request, name: Name, who: Administrator, saved: bool = False
) -> Response:
    return _page(request, name, saved=saved)


@router.post("/schedule")
def save_schedule(
    request: Request,
    name: Name,
    who: Administrator,
    schedule_minutes: Annotated[int, Form(ge=0, le=525600)],
    capture_minutes: Annotated[int, Form(ge=0, le=525600)],
    deep_days: Annotated[int, Form(ge=0, le=365)],
) -> Response:
    body = ScheduleRequest(
        schedule_minutes=schedule_minutes, capture_minutes=capture_minutes, deep_days=deep_days
    )
    set_schedule(request, name, body, who)
    return go(request, f"/p/{name}/settings?saved=true")


@router.post("/limits")
def save_limits(
    request: Request, name: Name, who: Administrator, typed: Annotated[Typed, Depends(_read)]
) -> Response:
    try:
        set_limits(request, name, typed.request(), who)
    except NotfallError as error:
        return _page(request, name, typed, error)
    return go(request, f"/p/{name}/settings?saved=true")


@router.post("/fence")
def save_fence(
    request: Request,
    name: Name,
    who: Administrator,
    typed: Annotated[TypedDevice, Depends(read_form)],
) -> Response:
    try:
        set_fence(request, name, typed.request(), who)
    except NotfallError as error:
        return _page(request, name, device=typed, fencing=error)
    return go(request, f"/p/{name}/settings?saved=true#fence")


@router.post("/fence/test")
def ask_fence(request: Request, name: Name, who: Administrator) -> Response:
    try:
        told = test_fence(request, name, who)
    except NotfallError as error:
        return _page(request, name, fencing=error)
    return _page(request, name, asked=told.power)


@router.post("/fence/forget")
def forget(request: Request, name: Name, who: Administrator) -> Response:
    forget_fence(request, name, who)
    return go(request, f"/p/{name}/settings?saved=true#fence")


@router.post("/checks")
def add_check(
    request: Request,
    name: Name,
    who: Administrator,
    typed: Annotated[TypedCheck, Depends(read_check)],
) -> Response:
    known = show_checks(request, name, who).checks
    try:
        if len(known) >= MOST:
            raise NotfallError("bad-check", f"There can be at most {MOST} checks.", status=422)
        set_checks(request, name, typed.request(known), who)
    except NotfallError as error:
        return _page(request, name, check=typed, checking=error)
    return go(request, f"/p/{name}/settings?saved=true#checks")


@router.post("/checks/remove")
def remove_check(
    request: Request, name: Name, who: Administrator, check: Annotated[str, Form(max_length=520)]
) -> Response:
    known = show_checks(request, name, who).checks
    set_checks(request, name, without(known, check), who)
    return go(request, f"/p/{name}/settings?saved=true#checks")


@router.post("/remove")
def remove(
    request: Request,
    name: Name,
    who: Administrator,
    confirm: Annotated[str, Form(max_length=80)] = "",
) -> Response:
    try:
        remove_primary(request, name, RemoveRequest(confirm=confirm.strip()), who)
    except NotfallError as error:
        return _page(request, name, removal=error)
    return go(request, "/")


def _page(
    request: Request,
    name: str,
    typed: Typed | None = None,
    error: NotfallError | None = None,
    removal: NotfallError | None = None,
    saved: bool = False,
    device: TypedDevice | None = None,
    fencing: NotfallError | None = None,
    asked: str = "",
    check: TypedCheck | None = None,
    checking: NotfallError | None = None,
) -> Response:
    primary = primary_answer(request, name)
    if typed is None:
        row = house_of(request).catalogue.primaries.find(primary.uuid)
        typed = Typed.of(read_limits(row.notes.get(LIMITS)))
    filled = [one for one in typed.rows if one.text()]
    fencing_agents = house_of(request).conductor.fencing.agents()
    values = {
        "primary": primary,
        "typed": typed,
        "rows": [*filled, *([Row()] * SPARE_ROWS)],
        "often": _offered(OFTEN, primary.schedule_minutes),
        "capture_often": _offered(OFTEN, primary.capture_minutes),
        "deep": _offered(DEEP, primary.deep.days),
        "error": error,
        "removal": removal,
        "saved": saved,
        "device": device or TypedDevice.of(fence_of(request, name)),
        "devices": DEVICES,
        "agents": [one for one in fencing_agents if one not in dict(DEVICES)],
        "fencing": fencing,
        "asked": asked,
        "checks": show_checks(request, name, ""),
        "check": check or TypedCheck(),
        "check_kinds": KINDS,
        "checking": checking,
    }
    problem = error or removal or fencing or checking
    return show(request, "primary_settings.html", values, problem.status if problem else 200)


def _offered(usual: tuple[int, ...], now: int) -> list[int]:
    return sorted({*usual, now})


def _rate(text: str, unit: str) -> str:
    return f"{text.strip()}{unit}" if text.strip() else "none"


def _figure(value: float) -> str:
    return f"{value:.6f}".rstrip("0").rstrip(".") if value else ""
