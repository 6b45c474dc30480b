"""The journal: what happened, when, by whom and why; newest first."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Query, Request
from pydantic import AwareDatetime

from notfallserver.server.records.journal import Wanted
from notfallserver.server.web.answers import EntryAnswer
from notfallserver.server.web.peer import house_of
from notfallserver.server.web.people import Person
from notfallserver.server.web.words.history import wanted_events

router = APIRouter(tags=["jobs"])


@router.get("/journal")
def read_journal(
    request: Request,
    who: Person,
    primary: Annotated[
        str | None, Query(max_length=80, description="A primary's name or UUID")
    ] = None,
    event: Annotated[
        str, Query(max_length=64, description="A kind of event, or 'grave' for all that are")
    ] = "",
    by: Annotated[str, Query(max_length=128, description="Who did it")] = "",
    since: AwareDatetime | None = None,
    until: AwareDatetime | None = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    before: Annotated[int | None, Query(ge=1, lt=1 << 63)] = None,
) -> list[EntryAnswer]:
    """Newest first; ``before`` goes on from an entry's id."""
    catalogue = house_of(request).catalogue
    wanted = wanted_entries(request, primary or "", event, by, since, until)
    names = names_of(request)
    return [
        EntryAnswer.of(one, names.get(one.primary or "", ""))
        for one in catalogue.journal.entries(None, limit, before, wanted)
    ]


def wanted_entries(
    request: Request,
    primary: str,
    event: str,
    by: str,
    since: datetime | None,
    until: datetime | None,
) -> Wanted:
    """The filter; a primary that isn't known is an error, unless the journal still has its UUID."""
    chosen = wanted_events(event)
    return Wanted(
        primary=_uuid(request, primary) if primary else None,
        events=chosen.events,
        kind=chosen.kind,
        who=by,
        since=since,
        until=until,
    )


def names_of(request: Request) -> dict[str, str]:
    """What primaries are called, also those that are gone, by UUID."""
    catalogue = house_of(request).catalogue
    return {**catalogue.journal.names_of_removed(), **catalogue.primaries.names()}


def _uuid(request: Request, primary: str) -> str:
    if primary in house_of(request).catalogue.journal.names_of_removed():
        return primary
    return house_of(request).catalogue.primaries.find(primary).uuid
