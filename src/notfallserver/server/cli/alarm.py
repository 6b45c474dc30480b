"""``notfall alarm``: what versions show of ransomware, and what a person says of it."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from notfallserver.server.cli.api import connect
from notfallserver.server.cli.primaries import PrimaryName
from notfallserver.server.cli.show import ago, chosen, tell, tell_json, tell_table

app = typer.Typer(help="The ransomware alarm.", no_args_is_help=True)

REASONS = {
    "scrambled": "{count} of {compared} watched files can't be recognised any more: {examples}",
    "renamed": "{count} of {compared} watched files have a new ending .{extension}: {examples}",
    "strange": "{count} of {seen} watched files hold nothing but random bytes",
    "turned": "{mib} MiB ({percent} %) turned into random bytes within {days} days",
    "moved": "{mib} MiB ({percent} %) vanished and as much came that is random, within {days} days",
    "rate": "{percent} % changed at once; usual are {usual} %",
}


@app.command()
def show(primary: PrimaryName) -> None:
    """Its alarm, and what each version shows against the one before."""
    told = connect().get(f"/primaries/{primary}/alarm")
    if chosen.as_json:
        tell_json(told)
        return
    tell(in_words(told["standing"]) if told["standing"] else "No alarm.")
    if told["usual_rate"] is not None:
        tell(f"A change rate above {100 * told['usual_rate']:.1f} % would be unusual.")
    tell_table(
        ("VERSION", "CHANGED", "TURNED RANDOM", "WERE RANDOM", "FILES", "RENAMED", "LOST", "MARK"),
        (
            (
                one["stamp"],
                f"{100 * one['change_rate']:.1f} %",
                f"{100 * one['turned']:.0f} %",
                f"{100 * one['dark']:.0f} %",
                str(one["compared"]),
                str(one["renamed"]),
                str(one["scrambled"]),
                "SUSPECT" if one["suspect"] else "" if one["there"] else "gone",
            )
            for one in told["measured"][:30]
        ),
        "Nothing was measured yet.",
    )


@app.command()
def clear(
    primary: PrimaryName,
    reason: Annotated[str, typer.Option(help="Why all is well; kept in the journal.")],
) -> None:
    """All is well (again): nothing is held for the alarm any more."""
    _answer(primary, "clear", reason)


@app.command()
def confirm(
    primary: PrimaryName,
    reason: Annotated[str, typer.Option(help="What is known; kept in the journal.")] = "",
) -> None:
    """It was an attack: the last clean version stays held, those after it marked."""
    _answer(primary, "confirm", reason)


def _answer(primary: str, what: str, reason: str) -> None:
    told = connect().post(f"/primaries/{primary}/alarm/{what}", {"why": reason})
    if chosen.as_json:
        tell_json(told)
        return
    tell("Kept in the journal.")


def in_words(alarm: dict[str, Any]) -> str:
    """Why, since when, and what is held."""
    what = "ATTACK" if alarm["answer"] == "attack" else "ALARM"
    held = f"held is {alarm['clean']}" if alarm["clean"] else "no older version is without a trace"
    lines = [f"{what} since version {alarm['since']}, raised {ago(alarm['raised_at'])}; {held}"]
    for one in alarm["reasons"]:
        if one["key"] in REASONS:
            lines.append("  " + REASONS[one["key"]].format(**one))
    return "\n".join(lines)
