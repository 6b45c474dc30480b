"""The command tree, and what becomes of errors: cause and remedy on stderr, exit code 1."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from notfallserver import VERSION
from notfallserver.server.cli import (
    actions,
    adaptation,
    alarm,
    checks,
    drivers,
    exports,
    fencing,
    handover,
    imports,
    jobs,
    metrics,
    notices,
    offload,
    people,
    plan,
    power,
    primaries,
    rehearsals,
    reports,
    retention,
    seeds,
    server,
    show,
    tapes,
)
from notfallserver.wire.errors import NotfallError

app = typer.Typer(
    help="Keeps bootable copies of servers, starts one when its original dies, brings it back.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.add_typer(server.app, name="server")
app.add_typer(primaries.app, name="primary")
app.add_typer(actions.rescue, name="rescue")
app.add_typer(seeds.app, name="seed")
app.add_typer(people.app, name="people")
app.add_typer(notices.app, name="notice")
app.add_typer(offload.app, name="offload")
app.add_typer(fencing.app, name="fence")
app.add_typer(plan.app, name="plan")
app.add_typer(checks.app, name="check")
app.add_typer(drivers.app, name="drivers")
app.add_typer(retention.app, name="retention")
app.add_typer(retention.version, name="version")
app.add_typer(exports.app, name="export")
app.add_typer(tapes.app, name="tape")
app.add_typer(reports.app, name="report")
app.add_typer(metrics.app, name="metrics")
app.add_typer(alarm.app, name="alarm")
actions.add_to(app)
adaptation.add_to(app)
handover.add_to(app)
imports.add_to(app)
power.add_to(app)
rehearsals.add_to(app)
jobs.add_to(app)

ANYWHERE = ("--json", "--config")
"""Options that may stand anywhere in the line."""


@app.callback()
def begin(
    as_json: Annotated[bool, typer.Option("--json", help="Answer in JSON.")] = False,
    config: Annotated[
        Path | None, typer.Option("--config", help="The settings file.", metavar="FILE")
    ] = None,
) -> None:
    show.begin(as_json, config)


def _in_front(arguments: list[str]) -> list[str]:
    """Bring the options of :data:`ANYWHERE` to where the parser expects them."""
    front, rest = [], []
    waiting = list(arguments)
    while waiting:
        one = waiting.pop(0)
        if one == "--":
            rest += [one, *waiting]
            break
        if one == "--config" and waiting:
            front += [one, waiting.pop(0)]
        elif one == "--json" or one.startswith("--config="):
            front.append(one)
        else:
            rest.append(one)
    return front + rest


def main() -> None:
    arguments = sys.argv[1:]
    if arguments == ["--version"]:
        print(VERSION)
        return
    try:
        app(args=_in_front(arguments), prog_name="notfall")
    except NotfallError as error:
        show.tell_error(error)
        sys.exit(1)
