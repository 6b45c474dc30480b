"""``notfall fence``: what can switch an original off from afar."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from notfallserver.server.cli.api import connect
from notfallserver.server.cli.primaries import PrimaryName
from notfallserver.server.cli.show import chosen, tell, tell_json
from notfallserver.server.fence.order import agents
from notfallserver.wire.errors import NotfallError

app = typer.Typer(help="What can switch an original off from afar.", no_args_is_help=True)


@app.command("agents")
def list_agents() -> None:
    """All fence agents that are installed here; 'man fence_NAME' tells their options."""
    known = agents()
    if chosen.as_json:
        tell_json(known)
        return
    tell("\n".join(known) or "None. Install the package fence-agents.")


@app.command()
def show(primary: PrimaryName) -> None:
    """The device of a server; secrets are masked."""
    told = connect().get(f"/primaries/{primary}/fence")
    if chosen.as_json:
        tell_json(told)
        return
    tell(
        "\n".join([told["agent"], *(f"  {key}={value}" for key, value in told["options"].items())])
    )


@app.command("set")
def set_device(
    primary: PrimaryName,
    agent: Annotated[str, typer.Argument(help="ipmilan, redfish, script/NAME ...")],
    option: Annotated[
        list[str] | None,
        typer.Argument(metavar="NAME=VALUE", help="ip=192.0.2.9 username=admin lanplus=1 ..."),
    ] = None,
    password: Annotated[bool, typer.Option(help="The device wants a password.")] = True,
) -> None:
    """Name the management board or power strip of a server. The password is asked for, or read from
    standard input: it is secret, and a command line is not."""
    options: dict[str, str] = {}
    for one in option or []:
        key, equals, value = one.partition("=")
        if not equals:
            raise NotfallError("bad-option", f"'{one}' is no option.", "Write it as NAME=VALUE.")
        options[key] = value
    if password:
        if sys.stdin.isatty():
            options["password"] = typer.prompt("Password", hide_input=True, err=True)
        else:
            options["password"] = sys.stdin.readline().rstrip("\n")
    told = connect().post(f"/primaries/{primary}/fence", {"agent": agent, "options": options})
    if chosen.as_json:
        tell_json(told)
    tell(f"Kept. Ask it now: notfall fence test {primary}")


@app.command()
def test(primary: PrimaryName) -> None:
    """Ask the device whether the server is on. Changes nothing."""
    told = connect().post(f"/primaries/{primary}/fence/test")
    if chosen.as_json:
        tell_json(told)
    tell(f"The device answers: {primary} is {told['power']}.")


@app.command()
def forget(primary: PrimaryName) -> None:
    """Nothing switches this server off from afar any more."""
    connect().post(f"/primaries/{primary}/fence/forget")
    if chosen.as_json:
        tell_json({"forgotten": primary})
    tell(f"Nothing switches {primary} off from afar any more.")
