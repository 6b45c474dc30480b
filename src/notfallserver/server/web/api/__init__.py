"""The people's API, ``/api/v1``: for the page, the command line, and whoever automates."""

from fastapi import APIRouter

from notfallserver.server.web.api import (
    actions,
    health,
    jobs,
    notices,
    primaries,
    seeds,
    system,
)

router = APIRouter(prefix="/api/v1")
for part in (primaries, actions, seeds, jobs, system, health, notices):
    router.include_router(part.router)
