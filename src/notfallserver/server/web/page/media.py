"""Tapes and other media: writing and reading them, which one is asked for, what lies on which."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

from fastapi import APIRouter, Form, Request
from fastapi.responses import Response
from pydantic import ValidationError

from notfallserver.server.records.people import Role
from notfallserver.server.web.answers import JobAnswer, version_time
from notfallserver.server.web.api.jobs import JobId
from notfallserver.server.web.api.tapes import (
    ChosenVersion,
    GoOnRequest,
    RestoreRequest,
    WriteRequest,
    go_on,
    list_sets,
    list_waiting,
    restore_tape,
    write_tape,
)
from notfallserver.server.web.page.show import go, show
from notfallserver.server.web.peer import house_of
from notfallserver.server.web.people import Administrator, Operator, require_role
from notfallserver.wire.errors import NotfallError

router = APIRouter(prefix="/media")


Long = Annotated[str, Form(max_length=4096)]
Several = Annotated[Sequence[str], Form(max_length=1000)]
EMPTY = {"to": "", "label": "", "recipient": "", "servers": (), "source": "", "identity": ""}
"""What stands in the forms."""


@router.get("")
def media(request: Request, who: Operator) -> Response:
    return _page(request, who)


@router.get("/present")
def present(request: Request, who: Operator) -> Response:
    """The part of the page that changes."""
    return show(request, "parts/media.html", _present(request, who))


@router.post("/write")
def write(
    request: Request,
    who: Administrator,
    to: Long = "",
    servers: Several = (),
    label: Annotated[str, Form(max_length=60)] = "",
    recipient: Annotated[str, Form(max_length=100)] = "",
) -> Response:
    """The newest copies of the servers that are ticked; none ticked: of all that have one."""
    rows = [one for one in house_of(request).catalogue.primaries.all() if one.newest_version]
    wanted = [one.uuid for one in rows if not servers or one.uuid in servers]
    typed = {"to": to, "label": label, "recipient": recipient, "servers": servers}
    try:
        body = WriteRequest(
            to=to.strip(),
            versions=[ChosenVersion(primary=one) for one in wanted],
            label=label.strip(),
            recipients=[recipient.strip()] if recipient.strip() else [],
        )
        write_tape(request, body, who)
    except ValidationError:
        none = NotfallError("no-version", "There is no copy to write.", "Copy a server first.")
        return _page(request, who, none, typed)
    except NotfallError as error:
        return _page(request, who, error, typed)
    return go(request, "/media")


@router.post("/read")
def read(request: Request, who: Administrator, source: Long = "", identity: Long = "") -> Response:
    """All that the set holds, back into the pool."""
    try:
        body = RestoreRequest(source=source.strip(), identity=identity.strip())
        restore_tape(request, body, who)
    except NotfallError as error:
        return _page(request, who, error, {"source": source, "identity": identity})
    return go(request, "/media")


@router.post("/{job}/go-on")
def medium_is_there(
    request: Request,
    job: JobId,
    who: Operator,
    give_up: Annotated[bool, Form()] = False,
    overwrite: Annotated[str, Form(max_length=80)] = "",
) -> Response:
    if overwrite:
        require_role(request, Role.ADMINISTRATOR)
    go_on(request, job, GoOnRequest(give_up=give_up, overwrite=overwrite), who)
    return go(request, "/media")


def _page(
    request: Request,
    who: str,
    error: NotfallError | None = None,
    typed: Mapping[str, object] | None = None,
) -> Response:
    """``typed``: what stands in the form that was not taken."""
    rows = house_of(request).catalogue.primaries.all()
    values = {
        **_present(request, who),
        "servers": [one for one in rows if one.newest_version],
        "typed": {**EMPTY, **(typed or {})},
        "error": error,
    }
    return show(request, "media.html", values, error.status if error else 200)


def _present(request: Request, who: str) -> dict[str, object]:
    jobs = house_of(request).catalogue.jobs.unfinished()
    waiting = list_waiting(request, who)
    asked = {one.job.id for one in waiting}
    sets = list_sets(request, who)
    for one in sets:
        for version in one["versions"]:
            version["at"] = version_time(version["version"])
    return {
        "waiting": [(one, NotfallError(one.code, one.cause)) for one in waiting],
        "under_way": [
            JobAnswer.of(one)
            for one in jobs
            if one.kind in ("tape_write", "tape_restore") and one.id not in asked
        ],
        "sets": sets,
    }
