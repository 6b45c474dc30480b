"""The pages: rendered here in the reader's language, kept at the present by small requests."""

from __future__ import annotations

from fastapi import APIRouter

from notfallserver.server.web.page import (
    account,
    adding,
    console,
    emergency,
    files,
    home,
    login,
    people,
    primary,
    records,
    recovery,
    rehearsal,
    server,
)

router = APIRouter(include_in_schema=False)
for _module in (
    *(login, home, adding, primary, emergency, console, recovery, rehearsal, files),
    *(records, server, people, account),
):
    router.include_router(_module.router)
