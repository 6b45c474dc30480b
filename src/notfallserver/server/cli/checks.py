"""``notfall check``: own checks of a server's services, made in its rehearsals."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from notfallserver.server.cli.api import connect
from notfallserver.server.cli.primaries import PrimaryName
from notfallserver.server.cli.show import chosen, tell, tell_json, tell_table
from notfallserver.wire.errors import NotfallError

app = typer.Typer(
    help="Own checks of a server's services, made in its rehearsals.", no_args_is_help=True
)


@app.command("list")
def list_checks(primary: PrimaryName) -> None:
    """What must be so when its copy runs; and the scripts that can be named."""
    told = connect().get(f"/primaries/{primary}/checks")
    if chosen.as_json:
        tell_json(told)
        return
    tell_table(
        ("CHECK", "STATUS", "CONTAINS", "WITHIN"),
        (
            (
                row["name"],
                str(row["status"]) if row["kind"] == "http" else "",
                row["contains"],
                f"{row['within_s']} s",
            )
            for row in told["checks"]
        ),
        f"No check of its own: notfall check add {primary} http https://...",
    )
    if told["scripts"]:
        tell(f"Scripts here: {', '.join(told['scripts'])}")


@app.command()
def add(
    primary: PrimaryName,
    what: Annotated[
        str, typer.Argument(metavar="WHAT", help="A port, the address of a page, or script/NAME.")
    ],
    status: Annotated[int, typer.Option(help="What the page must answer.")] = 200,
    contains: Annotated[str, typer.Option(help="A text that the page must contain.")] = "",
    within: Annotated[int, typer.Option(help="Seconds after the copy answered.")] = 60,
) -> None:
    """Check this, too: a port takes connections, a page answers, a script ends with 0.

    Scripts are programs in the directory 'checks' of the server's data, with $ADDRESS, $ADDRESSES
    and $NAME of the copy: psql -h "$ADDRESS" ... They run in the network that only the copy is in.
    """
    api = connect()
    body = {**_what(what), "within_s": within}
    if body["kind"] == "http":
        body |= {"status": status, "contains": contains}
    known = _wishes(api.get(f"/primaries/{primary}/checks"))
    told = api.post(f"/primaries/{primary}/checks", {"checks": [*known, body]})
    if chosen.as_json:
        tell_json(told)
    tell(f"Checked in the next rehearsal: notfall rehearse {primary}")


def _what(text: str) -> dict[str, Any]:
    if text.isdecimal():
        return {"kind": "tcp", "port": int(text)}
    if text.startswith("script/"):
        return {"kind": "script", "script": text}
    return {"kind": "http", "url": text}


@app.command()
def remove(
    primary: PrimaryName,
    what: Annotated[str, typer.Argument(metavar="CHECK", help="As 'notfall check list' names it.")],
) -> None:
    """Don't check this any more."""
    api = connect()
    known = api.get(f"/primaries/{primary}/checks")
    names = {what, f"port {what}"}
    left = {**known, "checks": [one for one in known["checks"] if one["name"] not in names]}
    if len(left["checks"]) == len(known["checks"]):
        raise NotfallError(
            "no-such-check", f"There is no check '{what}'.", "See 'notfall check list'."
        )
    told = api.post(f"/primaries/{primary}/checks", {"checks": _wishes(left)})
    if chosen.as_json:
        tell_json(told)
    tell("It is not checked any more.")


def _wishes(known: dict[str, Any]) -> list[dict[str, Any]]:
    return [{key: told for key, told in one.items() if key != "name"} for one in known["checks"]]
