"""``notfall metrics``: figures for a monitoring such as Prometheus."""

from __future__ import annotations

from typing import Annotated

import typer

from notfallserver.server.cli.api import connect
from notfallserver.server.cli.show import ago, chosen, tell, tell_json

app = typer.Typer(help="Figures for a monitoring such as Prometheus.", no_args_is_help=True)


@app.command()
def token(
    off: Annotated[bool, typer.Option("--off", help="From now on nobody may ask.")] = False,
    state: Annotated[bool, typer.Option("--state", help="Only say whether there is one.")] = False,
) -> None:
    """Make the token with which /metrics may be asked; the one before holds no more."""
    api = connect()
    if state:
        row = api.get("/metrics")
        if chosen.as_json:
            tell_json(row)
        else:
            tell(f"made {ago(row['since'])}" if row["since"] else "There is none.")
        return
    if off:
        api.delete("/metrics/token")
        tell("Nobody may ask for figures any more.")
        return
    row = api.post("/metrics/token")
    if chosen.as_json:
        tell_json(row)
    else:
        typer.echo(row["token"])


@app.command()
def show() -> None:
    """Print what a monitoring gets."""
    typer.echo(connect().get_bytes("/metrics/figures").decode(), nl=False)
