"""The command for the power of a stand-in."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from notfallserver.server.cli.api import connect
from notfallserver.server.cli.primaries import PrimaryName
from notfallserver.server.cli.show import chosen, tell, tell_json
from notfallserver.server.cycle.power_order import Order

_DONE = {
    Order.SHUT_DOWN: "The stand-in was asked to shut down.",
    Order.RESTART: "The stand-in was asked to restart.",
    Order.SWITCH_OFF: "The stand-in is off.",
    Order.START: "The stand-in is on.",
}


def power(
    primary: PrimaryName,
    order: Annotated[Order | None, typer.Argument(help="Left out: tells how it is.")] = None,
    overrule: Annotated[
        str, typer.Option(metavar="REASON", help="Start against the guard's advice, and why.")
    ] = "",
    yes: Annotated[bool, typer.Option(help="Switch off at once without asking.")] = False,
) -> None:
    """Shut down, restart, switch off or start a stand-in that is at work."""
    api = connect()
    path = f"/primaries/{primary}/power"
    if order is None:
        told = api.get(path)
        tell(f"The stand-in is {told['machine']}.")
    else:
        sure = yes
        ask = not yes and not chosen.as_json and sys.stdin.isatty()
        if order is Order.SWITCH_OFF and ask:
            sure = typer.confirm("What is not saved is lost. Switch off?", abort=True, err=True)
        body = {"order": order, "confirmed": sure, "overrule_reason": overrule}
        told = api.post(path, body)
        tell(_DONE[order])
    if chosen.as_json:
        tell_json(told)


def add_to(app: typer.Typer) -> None:
    app.command()(power)
