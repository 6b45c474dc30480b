"""The server as a whole, and the targets that wait."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from datetime import UTC, datetime

from fastapi import APIRouter, Request

from notfallserver import VERSION
from notfallserver.server.web.answers import PoolAnswer, StatusAnswer, TargetAnswer
from notfallserver.server.web.peer import house_of
from notfallserver.server.web.people import Person

router = APIRouter(tags=["system"])

_STARTED = datetime.now(UTC)


@router.get("/status")
def status(request: Request, who: Person) -> StatusAnswer:
    house = house_of(request)
    primaries = house.catalogue.primaries.all()
    return StatusAnswer(
        version=VERSION,
        urls=list(house.urls),
        fingerprint=house.authority.fingerprint,
        started_at=_STARTED,
        pool=PoolAnswer.model_validate(asdict(house.conductor.pool_state())),
        states=dict(Counter(one.state for one in primaries)),
        running_jobs=len(house.catalogue.jobs.unfinished()),
        damaged_versions=sum(one.notes.get("damaged", 0) for one in primaries),
    )


@router.get("/targets")
def list_targets(request: Request, who: Person) -> list[TargetAnswer]:
    """Machines booted from the rescue medium, those heard of last first."""
    return [TargetAnswer.of(one) for one in house_of(request).catalogue.targets.all()]
