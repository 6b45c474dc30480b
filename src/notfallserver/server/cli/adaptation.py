"""``notfall adaptation``: what would be changed in a copy for other hardware."""

from __future__ import annotations

from typing import Annotated

import typer

from notfallserver.server.cli.api import connect
from notfallserver.server.cli.following import result_of
from notfallserver.server.cli.primaries import PrimaryName
from notfallserver.server.cli.show import chosen, tell


def add_to(app: typer.Typer) -> None:
    app.command()(adaptation)


def adaptation(
    primary: PrimaryName,
    to: Annotated[
        str, typer.Option(metavar="CODE", help="For this target; left out: for the stand-in.")
    ] = "",
    version: Annotated[str, typer.Option(metavar="V", help="Of this version.")] = "",
) -> None:
    """Show what would be changed in a copy so that it starts on other hardware; changes nothing."""
    api = connect()
    body = {"code": to or None, "version": version or None}
    job = api.post(f"/primaries/{primary}/adaptation", body)
    told = result_of(api, job["id"])
    if chosen.as_json:
        return
    tell(f"{told['system'] or 'A system'}, version {told['version']}:")
    for change in told["changes"]:
        tell(f"- {change}")
    if not told["changes"]:
        tell("- nothing is to be changed")
    for warning in told["warnings"]:
        tell(f"! {warning['text']}")
