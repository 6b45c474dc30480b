"""The people's API, ``/api/v1``: for the page, the command line, and whoever automates."""

from fastapi import APIRouter

from notfallserver.server.web.api import (
    account,
    actions,
    card,
    checks,
    fencing,
    files,
    handover,
    health,
    jobs,
    journal,
    notices,
    people,
    power,
    primaries,
    rehearsals,
    seeds,
    setting_up,
    start_plan,
    system,
)

router = APIRouter(prefix="/api/v1")
for part in (
    *(primaries, actions, handover, start_plan, power, fencing, checks, rehearsals, files, seeds),
    *(jobs, journal),
    *(people, account, notices, setting_up, card, health, system),
):
    router.include_router(part.router)
