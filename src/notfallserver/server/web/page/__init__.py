"""The pages: rendered here in the reader's language, kept at the present by small requests."""

from __future__ import annotations

from fastapi import APIRouter

from notfallserver.server.web.page import (
    adding,
    emergency,
    home,
    login,
    notices,
    primary,
    primary_settings,
    records,
    recovery,
    server,
    settings,
)

router = APIRouter(include_in_schema=False)
for _module in (
    login,
    home,
    adding,
    primary,
    emergency,
    recovery,
    records,
    server,
    notices,
    settings,
    primary_settings,
):
    router.include_router(_module.router)
