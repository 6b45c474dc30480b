"""``notfall seed``: first copies by removable disk."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from notfallserver.server.cli.actions import Follow
from notfallserver.server.cli.api import connect
from notfallserver.server.cli.following import begin_job
from notfallserver.server.cli.primaries import PrimaryName
from notfallserver.server.cli.show import chosen, tell, tell_json

app = typer.Typer(
    help="First copy by removable disk. On the primary: agent.pyz seed --to DIR",
    no_args_is_help=True,
)

Directory = Annotated[Path, typer.Argument(metavar="DIR", help="On this machine.")]


@app.command("import")
def import_seed(
    directory: Directory,
    primary: Annotated[
        str, typer.Option(help="Whose it is, where this server knows it by another UUID.")
    ] = "",
    code: Annotated[str, typer.Option(help="The code that 'seed export' told.")] = "",
    follow: Follow = False,
) -> None:
    """Make a version of a seed; the next replication sends what was written since."""
    api = connect()
    body = {"directory": str(directory.absolute()), "primary": primary, "code": code}
    begin_job(api, api.post("/seeds/import", body), follow)
    tell("When it is imported, erase the seed: it holds everything that is on the primary's disks.")


@app.command("export")
def export_seed(
    primary: PrimaryName,
    directory: Directory,
    version: Annotated[str, typer.Option(help="A version's stamp; left out: the newest.")] = "",
    follow: Follow = False,
) -> None:
    """Write a version as a seed, for another emergency server of the same primary."""
    api = connect()
    body = {"directory": str(directory.absolute()), "version": version or None}
    begun = api.post(f"/primaries/{primary}/seed/export", body)
    if chosen.as_json and not follow:
        tell_json(begun)
        return
    tell(f"The import needs this code: {begun['code']}")
    tell("The seed is NOT encrypted: take an encrypted (LUKS) disk and keep it locked away.")
    begin_job(api, begun["job"], follow)


@app.command("forget")
def forget_seed(primary: PrimaryName) -> None:
    """Don't wait any longer for a seed that was made: replications over the line begin again."""
    connect().post(f"/primaries/{primary}/seed/forget")
    tell("It is forgotten.")
