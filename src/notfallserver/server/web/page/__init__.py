"""The pages: rendered here in the reader's language, kept at the present by small requests."""

from __future__ import annotations

from fastapi import APIRouter

from notfallserver.server.web.page import (
    account,
    adding,
    alarm,
    card,
    console,
    emergency,
    files,
    handover,
    home,
    importing,
    jobs,
    journal,
    kept,
    login,
    media,
    notices,
    offloads,
    people,
    primary,
    primary_settings,
    recovery,
    rehearsal,
    reports,
    server,
    setting_up,
    settings,
    start_plan,
    take_along,
)

router = APIRouter(include_in_schema=False)
for _module in (
    *(
        login,
        home,
        start_plan,
        setting_up,
        adding,
        importing,
        primary,
        emergency,
        console,
        recovery,
    ),
    *(rehearsal, files, handover, kept, alarm, take_along, media, offloads),
    *(jobs, journal, reports, server, people, account, card, notices, settings, primary_settings),
):
    router.include_router(_module.router)
