"""Settings of the emergency server: what may be changed while it runs; the file for the rest."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Form, Request
from fastapi.responses import Response

from notfallserver.server.cycle.retention.rules import NAMES, bounds
from notfallserver.server.settings import CHANGEABLE, settings_path
from notfallserver.server.web.api.health import SettingsRequest, change_settings
from notfallserver.server.web.page.show import go, show
from notfallserver.server.web.peer import house_of
from notfallserver.server.web.people import Administrator
from notfallserver.server.web.words.retention import RULES
from notfallserver.wire.errors import NotfallError

router = APIRouter(prefix="/settings")
Count = Annotated[int, Form(ge=0, le=1 << 24)]


def read_kept(
    keep_all_hours: Count,
    keep_hourly: Count,
    keep_daily: Count,
    keep_weekly: Count,
    keep_monthly: Count,
    keep_yearly: Count,
    keep_proven: Count,
    keep_floor_days: Count,
    make_room_percent: Count,
    deletion_hours: Count,
) -> dict[str, int]:
    """How long copies stay."""
    keys = (*(f"keep_{name}" for name in NAMES), "make_room_percent", "deletion_hours")
    values = (
        *(keep_all_hours, keep_hourly, keep_daily, keep_weekly, keep_monthly, keep_yearly),
        *(keep_proven, keep_floor_days, make_room_percent, deletion_hours),
    )
    return dict(zip(keys, values, strict=True))


@router.get("")
def settings_page(request: Request, who: Administrator, saved: bool = False) -> Response:
    return _page(request, saved=saved)


@router.post("")
def save(
    request: Request,
    who: Administrator,
    schedule_minutes: Count,
    capture_minutes: Count,
    scrub_days: Count,
    scrub_mib_s: Count,
    rehearsal_days: Count,
    trial_hours: Count,
    heartbeat_timeout_s: Count,
    kept: Annotated[dict[str, int], Depends(read_kept)],
    rehearse_each_copy: Count = 0,
    witnesses: Annotated[str, Form(max_length=1000)] = "",
    further_urls: Annotated[str, Form(max_length=1000)] = "",
) -> Response:
    """Only what differs from the file is kept, so that the file goes on to decide the rest."""
    house = house_of(request)
    wished: dict[str, Any] = {
        "witnesses": witnesses.replace(",", " ").split(),
        "further_urls": further_urls.replace(",", " ").split(),
        "schedule_minutes": schedule_minutes,
        "capture_minutes": capture_minutes,
        "scrub_days": scrub_days,
        "scrub_mib_s": scrub_mib_s,
        "rehearsal_days": rehearsal_days,
        "rehearse_each_copy": rehearse_each_copy,
        "trial_hours": trial_hours,
        "heartbeat_timeout_s": heartbeat_timeout_s,
        **kept,
    }
    in_file = _changeable(house.settings.model_dump(mode="json"))
    same = [key for key, value in wished.items() if value == in_file[key]]
    other = {key: value for key, value in wished.items() if key not in same}
    try:
        change_settings(request, SettingsRequest(**other, reset=same), who)
    except NotfallError as error:
        return _page(request, wished, error)
    return go(request, "/settings?saved=true")


def _page(
    request: Request,
    typed: dict[str, Any] | None = None,
    error: NotfallError | None = None,
    saved: bool = False,
) -> Response:
    house = house_of(request)
    in_file = house.settings.model_dump(mode="json")
    values = {
        "kept_rules": [(f"keep_{key}", text, *bounds(key)) for key, text in RULES],
        "typed": typed or _changeable(house.present().model_dump(mode="json")),
        "in_file": _changeable(in_file),
        "fixed": {key: one for key, one in in_file.items() if key not in (*CHANGEABLE, "guard")},
        "path": str(settings_path()),
        "error": error,
        "saved": saved,
    }
    return show(request, "settings.html", values, error.status if error else 200)


def _changeable(values: dict[str, Any]) -> dict[str, Any]:
    flat = {**values, "witnesses": values["guard"]["witnesses"]}
    return {key: flat[key] for key in CHANGEABLE}
