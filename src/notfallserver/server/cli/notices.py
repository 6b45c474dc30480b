"""``notfall notice``: who is told when something is the matter."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from notfallserver.server.cli.api import connect
from notfallserver.server.cli.show import ago, chosen, tell, tell_json, tell_table
from notfallserver.wire.errors import NotfallError

app = typer.Typer(help="Who is told when something is the matter.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="NAME", help="Who is told.")]
DEFAULT_KINDS = ["urgent", "warning"]


@app.command("list")
def list_receivers() -> None:
    """All who are told, by which way, and whether it gets through."""
    rows = connect().get("/notices")
    if chosen.as_json:
        tell_json(rows)
        return
    tell_table(
        ("NAME", "BY", "WHAT", "SUMMARY", "LANGUAGE", "LAST SENT", "PROBLEM"),
        (
            (
                row["name"],
                row["shown"],
                ", ".join(row["kinds"]),
                row["summary"],
                row["language"],
                ago(row["sent_at"]),
                _problem(row),
            )
            for row in rows
        ),
        "Nobody is told. Add somebody: notfall notice add NAME",
    )


def _problem(row: dict[str, Any]) -> str:
    return f"{ago(row['failing_since'])}: {row['problem']}" if row["failing_since"] else ""


@app.command()
def add(
    name: Name,
    kind: Annotated[
        list[str] | None, typer.Option(help="urgent, warning, good; several times for several.")
    ] = None,
    language: Annotated[str, typer.Option(help="en or de")] = "en",
    summary: Annotated[str, typer.Option(help="How everything stands: never, weekly, daily")] = (
        "never"
    ),
) -> None:
    """Tell somebody. The Apprise address is asked for, or read from standard input: it is secret,
    and a command line is not. mailto://, json://, ntfy://, tgram:// and many more."""
    if sys.stdin.isatty():
        address = typer.prompt("Address of Apprise", hide_input=True, err=True)
    else:
        address = sys.stdin.readline()
    body = {
        "name": name,
        "kinds": DEFAULT_KINDS if kind is None else kind,
        "language": language,
        "summary": summary,
        "way": {"kind": "other", "url": address.strip()},
    }
    row = connect().post("/notices", body)
    if chosen.as_json:
        tell_json(row)
    tell(f"{row['name']} is told from now on. Try it: notfall notice test {row['name']}")


@app.command()
def test(name: Name) -> None:
    """Send a test message now."""
    told = connect().post(f"/notices/{name}/test")
    if chosen.as_json:
        tell_json(told)
    if not told["sent"]:
        raise NotfallError(
            "not-sent",
            f"The test message did not get through: {told['answer'] or 'there was no answer'}.",
            "Compare the address with what the provider tells; is there a line out?",
        )
    tell("The other side took the test message. Look whether it has arrived.")


@app.command()
def remove(name: Name) -> None:
    """Tell somebody nothing any more."""
    connect().post(f"/notices/{name}/remove")
    if chosen.as_json:
        tell_json({"removed": name})
    tell(f"{name} is told nothing any more.")
