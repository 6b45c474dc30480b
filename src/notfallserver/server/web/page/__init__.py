"""The pages: rendered here in the reader's language, kept at the present by small requests."""

from __future__ import annotations

from fastapi import APIRouter

from notfallserver.server.web.page import (
    account,
    adding,
    card,
    console,
    emergency,
    files,
    handover,
    home,
    jobs,
    journal,
    login,
    notices,
    people,
    primary,
    primary_settings,
    recovery,
    rehearsal,
    server,
    setting_up,
    settings,
    start_plan,
)

router = APIRouter(include_in_schema=False)
for _module in (
    *(login, home, start_plan, setting_up, adding, primary, emergency, console, recovery),
    *(rehearsal, files, handover),
    *(jobs, journal, server, people, account, card, notices, settings, primary_settings),
):
    router.include_router(_module.router)
