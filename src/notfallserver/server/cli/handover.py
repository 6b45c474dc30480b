"""``notfall handover`` and ``notfall accept``."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from notfallserver.server.cli.api import connect
from notfallserver.server.cli.following import begin_job
from notfallserver.server.cli.primaries import PrimaryName
from notfallserver.server.cli.show import chosen, lasting, tell, tell_json
from notfallserver.wire.errors import NotfallError


def handover(
    primary: PrimaryName,
    plan: Annotated[bool, typer.Option("--plan", help="Only tell what it would be like.")] = False,
    yes: Annotated[bool, typer.Option(help="Begin without asking.")] = False,
    follow: Annotated[bool, typer.Option(help="Stay until the job is over.")] = True,
) -> None:
    """Hand a living primary over to its stand-in: shut down, last changes, start; nothing is lost.

    Until the primary switches itself off 'notfall undo' takes it back.
    """
    api = connect()
    path = f"/primaries/{primary}/hand-over"
    told = api.get(path)
    if plan and chosen.as_json:
        tell_json(told)
        return
    if told["obstacle"] is not None:
        raise NotfallError.from_json(told["obstacle"], 409)
    if not chosen.as_json:
        tell(in_words(told))
    if plan:
        return
    if not yes:
        if chosen.as_json or not sys.stdin.isatty():
            raise NotfallError(
                "not-confirmed", "Nothing was begun: it is not confirmed.", "Add --yes."
            )
        typer.confirm("Shut it down and start its stand-in?", abort=True, err=True)
    begin_job(api, api.post(path), follow)


def in_words(told: dict[str, Any]) -> str:
    """'Nobody can work on it for about 2 min (shutting down 30 s, ...).'"""
    parts = (
        ("shutting down", "shut_down_s"),
        ("last changes", "last_delta_s"),
        ("adapting", "adapt_s"),
        ("starting", "boot_s"),
    )
    named = ", ".join(f"{name} {lasting(told[key])}" for name, key in parts)
    return f"Nobody can work on it for about {lasting(told['predicted_downtime_s'])} ({named})."


def accept(primary: PrimaryName) -> None:
    """All is well after a switch-back: end its trial period now."""
    connect().post(f"/primaries/{primary}/accept")
    tell(f"The trial period of {primary} is over.")


def add_to(app: typer.Typer) -> None:
    app.command()(handover)
    app.command()(accept)
