"""``notfall people``: who may use the page.

Root's way back as well, when the last administrator has lost password or telephone.
"""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import quote

import typer

from notfallserver.server.cli.api import connect
from notfallserver.server.cli.show import chosen, tell, tell_json, tell_table
from notfallserver.wire.errors import NotfallError

app = typer.Typer(help="Who may use the page, and what each may do.", no_args_is_help=True)

PersonName = Annotated[str, typer.Argument(metavar="NAME", help="As typed at the login.")]
RoleName = Annotated[
    str,
    typer.Argument(
        metavar="ROLE", help="viewer (looks), operator (acts in an emergency) or administrator."
    ),
]
Ask = Annotated[bool, typer.Option("--ask", help="Type the password; else the server makes one.")]


@app.command("list")
def list_people() -> None:
    """Everybody who may log in."""
    api = connect()
    rows = api.get("/people")
    if chosen.as_json:
        tell_json(rows)
        return
    tell_table(
        ("NAME", "ROLE", "SECOND FACTOR"),
        ((row["name"], row["role"], _factor(row)) for row in rows),
        "Nobody yet. Make an administrator: notfall server init",
    )
    if api.get("/rules")["second_factor_required"]:
        tell("Everybody must have a second factor.")


def _factor(row: dict[str, Any]) -> str:
    return f"on, {row['recovery_codes']} written codes left" if row["second_factor"] else "none"


@app.command()
def add(name: PersonName, role: RoleName, ask: Ask = False) -> None:
    """Somebody new; prints the first password, once."""
    body = {"name": name, "role": role, "password": _asked(ask)}
    _tell_password(connect().post("/people", body))


@app.command("role")
def set_role(name: PersonName, role: RoleName) -> None:
    """What somebody may do; ends that person's sessions."""
    row = connect().post(f"/people/{quote(name, safe='')}/role", {"role": role})
    if chosen.as_json:
        tell_json(row)
    tell(f"{row['name']} is {row['role']} now.")


@app.command("password")
def set_password(name: PersonName, ask: Ask = False) -> None:
    """A new password; ends that person's sessions."""
    path = f"/people/{quote(name, safe='')}/password"
    _tell_password(connect().post(path, {"password": _asked(ask)}))


@app.command("second-factor-off")
def second_factor_off(name: PersonName) -> None:
    """For somebody who has lost the telephone; ends that person's sessions."""
    row = connect().post(f"/people/{quote(name, safe='')}/second-factor-off")
    if chosen.as_json:
        tell_json(row)
    tell(f"{row['name']} logs in with the password alone now.")


@app.command("require-second-factor")
def require_second_factor(
    required: Annotated[
        bool, typer.Argument(metavar="yes|no", help="yes: whoever has none must set it up.")
    ],
) -> None:
    """Whether everybody must have a second factor."""
    rules = connect().post("/rules", {"second_factor_required": required})
    if chosen.as_json:
        tell_json(rules)
    tell(f"A second factor is {'required from everybody' if required else 'up to each person'}.")


@app.command()
def remove(name: PersonName, yes: Annotated[bool, typer.Option(help="Don't ask.")] = False) -> None:
    """Somebody may not log in any more."""
    if not yes and not typer.confirm(f"Remove '{name}'?", err=True):
        raise NotfallError("not-confirmed", "Nobody was removed.", "Answer y to remove.")
    connect().post(f"/people/{quote(name, safe='')}/remove", {})
    if chosen.as_json:
        tell_json({"removed": name})
    tell(f"'{name}' is removed.")


def _asked(ask: bool) -> str:
    if not ask:
        return ""
    password: str = typer.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
    return password


def _tell_password(made: dict[str, Any]) -> None:
    if chosen.as_json:
        tell_json(made)
        return
    if made["password"]:
        tell(f"Password for {made['name']}, not shown again: {made['password']}")
    else:
        tell(f"The password of {made['name']} is set.")
