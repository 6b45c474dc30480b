"""The people's API, ``/api/v1``: for the page, the command line, and whoever automates."""

from fastapi import APIRouter

from notfallserver.server.web.api import (
    account,
    actions,
    adaptation,
    alarm,
    card,
    checks,
    drivers,
    exports,
    fencing,
    files,
    handover,
    health,
    imports,
    jobs,
    journal,
    metrics,
    notices,
    offloads,
    people,
    power,
    primaries,
    rehearsals,
    reports,
    retention,
    seeds,
    setting_up,
    start_plan,
    system,
    tapes,
)

router = APIRouter(prefix="/api/v1")
for part in (
    *(primaries, actions, handover, start_plan, power, fencing, checks, rehearsals, files, seeds),
    *(adaptation, imports, drivers, retention, alarm, offloads, exports, tapes),
    *(jobs, journal, reports, metrics),
    *(people, account, notices, setting_up, card, health, system),
):
    router.include_router(part.router)
