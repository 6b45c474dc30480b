"""The journal, filtered, and as a table for other programs."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from itertools import islice
from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response, StreamingResponse

from notfallserver.server.records.journal import Entry, Wanted
from notfallserver.server.web.api.journal import names_of, wanted_entries
from notfallserver.server.web.language import Speech
from notfallserver.server.web.page.show import show, speech_of
from notfallserver.server.web.peer import house_of
from notfallserver.server.web.people import Operator, Person
from notfallserver.server.web.words.history import EVENTS, GRAVE_ONLY, happening
from notfallserver.wire.errors import NotfallError

router = APIRouter()
ENTRIES = 100
LINES = 200
"""The table is sent in pieces of so many lines."""
HEAD = ("When", "Server", "What happened", "Why", "Who", "Event", "From", "To")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


@dataclass(frozen=True)
class Choice:
    """What the filter's fields hold, as a browser sends them; empty is all. Days are those of the
    server's place, both inclusive."""

    primary: str = ""
    event: str = ""
    by: str = ""
    since: str = ""
    until: str = ""

    def wanted(self, request: Request) -> Wanted:
        since, until = _day(self.since), _day(self.until)
        behind = until + timedelta(days=1) if until else None
        return wanted_entries(
            request, self.primary, self.event, self.by, _begin(since), _begin(behind)
        )

    def query(self, **more: object) -> str:
        """The part of an address that means this choice."""
        return urlencode({key: one for key, one in {**vars(self), **more}.items() if one})


def _choice(
    primary: Annotated[str, Query(max_length=80)] = "",
    event: Annotated[str, Query(max_length=64)] = "",
    by: Annotated[str, Query(max_length=128)] = "",
    since: Annotated[str, Query(max_length=10)] = "",
    until: Annotated[str, Query(max_length=10)] = "",
) -> Choice:
    return Choice(primary, event, by, since, until)


Chosen = Annotated[Choice, Depends(_choice)]


@router.get("/journal")
def journal(
    request: Request,
    who: Person,
    chosen: Chosen,
    before: Annotated[int | None, Query(ge=1, lt=1 << 63)] = None,
) -> Response:
    """Newest first; ``before`` goes on from an entry's id."""
    book = house_of(request).catalogue.journal
    entries = book.entries(None, ENTRIES + 1, before, chosen.wanted(request))
    names = names_of(request)
    occurring = book.events()
    events = {one for one in occurring if one in EVENTS} | (
        {"capture", "imported"} if "version" in occurring else set()
    )
    values = {
        "entries": [
            (names.get(one.primary or "", ""), happening(one)) for one in entries[:ENTRIES]
        ],
        "names": sorted(names.items(), key=lambda one: one[1].lower()),
        "events": sorted((speech_of(request).event(one), one) for one in events),
        "grave": GRAVE_ONLY,
        "people": book.people(),
        "chosen": chosen,
        "older": entries[ENTRIES - 1].id if len(entries) > ENTRIES else None,
    }
    return show(request, "journal.html", values)


@router.get("/journal.csv")
def export(request: Request, who: Operator, chosen: Chosen) -> StreamingResponse:
    """All entries that fit, as a table that spreadsheets open."""
    entries = house_of(request).catalogue.journal.all(chosen.wanted(request))
    lines = _table(entries, names_of(request), speech_of(request))
    return StreamingResponse(
        lines,
        media_type="text/csv; charset=utf-8",
        headers={"Content-Disposition": 'attachment; filename="notfall-journal.csv"'},
    )


def _table(entries: Iterator[Entry], names: Mapping[str, str], speech: Speech) -> Iterator[str]:
    """In pieces. The separator is the one that the language's spreadsheets expect."""
    separator = ";" if speech.language == "de" else ","
    yield "\ufeff"  # or Excel takes it for another encoding
    lines: Iterator[list[str]] = (
        _line(one, names.get(one.primary or "", ""), speech) for one in entries
    )
    head = [speech.say(one) for one in HEAD]
    while piece := list(islice(lines, LINES)):
        paper = io.StringIO()
        writer = csv.writer(paper, delimiter=separator)
        writer.writerows([head, *piece] if head else piece)
        head = []
        yield paper.getvalue()


def _line(one: Entry, name: str, speech: Speech) -> list[str]:
    told = happening(one)
    why = one.why if told.reasons is None else " ".join(speech.words(part) for part in told.reasons)
    at = one.at.astimezone().isoformat(" ", "seconds")
    cells = (name, speech.event(told.event), why, one.who, one.event, one.from_state, one.to_state)
    return [at, *(_harmless(cell) for cell in cells)]


def _harmless(cell: str) -> str:
    """A spreadsheet must not take for a formula what somebody typed."""
    return f"'{cell}" if cell.startswith(_FORMULA) else cell


def _day(text: str) -> date | None:
    try:
        return date.fromisoformat(text) if text else None
    except ValueError:
        raise NotfallError("bad-time", f"'{text}' is no day.", "Choose a day.") from None


def _begin(day: date | None) -> datetime | None:
    return datetime(day.year, day.month, day.day).astimezone() if day else None
