"""``notfall drivers``: the customer's drivers for Windows."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from notfallserver.server.cli.api import connect
from notfallserver.server.cli.show import chosen, tell, tell_json, tell_table

app = typer.Typer(
    help="Drivers of disk controllers and network cards, for Windows on other hardware.",
    no_args_is_help=True,
)
_SHOWN = 3


@app.command("list")
def list_drivers(
    every: Annotated[
        bool, typer.Option("--all", help="With all hardware that each serves.")
    ] = False,
) -> None:
    """Which Windows and which hardware each serves; what is no use, and why."""
    told = connect().get("/drivers")
    if chosen.as_json:
        tell_json(told)
        return
    _show(told, every)


@app.command("add")
def add_drivers(
    path: Annotated[
        Path, typer.Argument(metavar="FOLDER|ISO", help="On this machine, unpacked; or an ISO.")
    ],
    name: Annotated[str, typer.Option(help="Of the set; left out: the folder's.")] = "",
) -> None:
    """Keep what is of use of a maker's drivers, or of virtio-win; a set of the name is replaced."""
    told = connect().post("/drivers", {"path": str(path.absolute()), "name": name})
    if chosen.as_json:
        tell_json(told)
        return
    _show(told, False)
    tell("They are used where a Windows needs them, with the next copy or recovery.")


@app.command("remove")
def remove_drivers(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Of the set.")],
) -> None:
    """Remove a set; images that were made with it keep what they have."""
    connect().delete(f"/drivers/{name}")
    tell("Removed.")


def _show(told: dict[str, Any], every: bool) -> None:
    rows = []
    for one in told["drivers"]:
        known = one["hardware"] if every else one["hardware"][:_SHOWN]
        more = len(one["hardware"]) - len(known)
        hardware = ", ".join(known) + (f", {more} more" if more else "")
        rows.append([one["name"], one["path"], one["kind"], one["version"]])
        rows[-1] += [", ".join(one["systems"]), hardware]
    titles = ("SET", "FILE", "KIND", "VERSION", "WINDOWS FROM", "HARDWARE")
    tell_table(titles, rows, f"There are no drivers in {told['directory']}.")
    for one in told["refused"]:
        tell(f"no use: {one['path']}: {one['why']}")
