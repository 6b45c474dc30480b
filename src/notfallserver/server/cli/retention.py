"""``notfall retention`` and ``notfall version``: how long versions stay."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from notfallserver.server.cli.api import connect
from notfallserver.server.cli.following import begin_job
from notfallserver.server.cli.primaries import PrimaryName
from notfallserver.server.cli.show import (
    chosen,
    local,
    size,
    tell,
    tell_json,
    tell_pairs,
    tell_table,
)
from notfallserver.wire.errors import NotfallError

app = typer.Typer(help="How long versions stay.", no_args_is_help=True)
version = typer.Typer(help="Pin or delete one version.", no_args_is_help=True)

VersionName = Annotated[str, typer.Argument(metavar="VERSION", help="As 'notfall versions' says.")]
Count = Annotated[int | None, typer.Option(min=0, metavar="N")]

_WORDS = {
    "all_hours": "every version of the last hours",
    "hourly": "hours, the last version of each",
    "daily": "days",
    "weekly": "weeks",
    "monthly": "months",
    "yearly": "years",
    "proven": "proven versions at least",
    "floor_days": "days, even when the pool is nearly full",
}


@app.command()
def show(primary: PrimaryName) -> None:
    """The rules of a primary, and what keeps each of its versions."""
    told = connect().get(f"/primaries/{primary}/retention")
    if chosen.as_json:
        tell_json(told)
        return
    _tell_rules(told)
    _tell_versions(told)


@app.command("set")
def set_rules(
    primary: PrimaryName,
    all_hours: Count = None,
    hourly: Count = None,
    daily: Count = None,
    weekly: Count = None,
    monthly: Count = None,
    yearly: Count = None,
    proven: Count = None,
    floor_days: Count = None,
    clear: Annotated[bool, typer.Option(help="Follow the server's settings again.")] = False,
) -> None:
    """Give a primary rules of its own; what is left out stays as it is."""
    wish = _wish(all_hours, hourly, daily, weekly, monthly, yearly, proven, floor_days)
    if not wish and not clear:
        raise NotfallError("nothing-to-do", "No rule is given.", "See --help.")
    told = connect().post(f"/primaries/{primary}/retention", {**wish, "clear": clear})
    if chosen.as_json:
        tell_json(told)
        return
    _tell_rules(told)
    tell(f"{told['going']} versions go by these rules.")


@app.command()
def preview(
    primary: PrimaryName,
    all_hours: Count = None,
    hourly: Count = None,
    daily: Count = None,
    weekly: Count = None,
    monthly: Count = None,
    yearly: Count = None,
    proven: Count = None,
    floor_days: Count = None,
    each: Annotated[bool, typer.Option(help="What each version alone occupies.")] = False,
) -> None:
    """What its rules, or those given here, would remove; nothing is changed."""
    wish = _wish(all_hours, hourly, daily, weekly, monthly, yearly, proven, floor_days)
    told = connect().post(f"/primaries/{primary}/retention/preview", {**wish, "each": each})
    if chosen.as_json:
        tell_json(told)
        return
    _tell_versions(told)
    tell(f"would delete {told['going']}, frees {size(told['frees'])}")


@app.command()
def run(
    primary: Annotated[str, typer.Argument(metavar="[PRIMARY]", help="Only this one.")] = "",
    follow: Annotated[bool, typer.Option(help="Stay until the job is over.")] = False,
) -> None:
    """Apply the rules now. The server does so by itself after each new version."""
    api = connect()
    begin_job(api, api.post("/retention/run", {"primary": primary}), follow)


@version.command()
def pin(
    primary: PrimaryName,
    stamp: VersionName,
    reason: Annotated[str, typer.Option(help="Why it must stay.")],
) -> None:
    """No rule and no hand removes it from now on."""
    connect().post(f"/primaries/{primary}/versions/{stamp}/pin", {"reason": reason})
    tell("It stays until it is unpinned.")


@version.command()
def unpin(
    primary: PrimaryName,
    stamp: VersionName,
    key: Annotated[str, typer.Option(help="Who holds it; a person, if left out.")] = "hand",
) -> None:
    """Rules count for it again."""
    connect().post(f"/primaries/{primary}/versions/{stamp}/unpin", {"key": key})
    tell("It is not held any more.")


@version.command()
def delete(
    primary: PrimaryName,
    stamp: VersionName,
    reason: Annotated[str, typer.Option(help="Why it shall go.")] = "",
) -> None:
    """Have it deleted later; until then any administrator can take that back."""
    told = connect().post(f"/primaries/{primary}/versions/{stamp}/delete", {"reason": reason})
    if chosen.as_json:
        tell_json(told)
    tell(_deletion(told))


@version.command()
def confirm(primary: PrimaryName, stamp: VersionName) -> None:
    """Confirm a deletion that another administrator ordered."""
    told = connect().post(f"/primaries/{primary}/versions/{stamp}/confirm-deletion", {})
    if chosen.as_json:
        tell_json(told)
    tell(_deletion(told))


@version.command()
def undelete(primary: PrimaryName, stamp: VersionName) -> None:
    """Take a deletion back."""
    connect().post(f"/primaries/{primary}/versions/{stamp}/undelete", {})
    tell("It stays.")


def _wish(*values: int | None) -> dict[str, int]:
    named = zip(_WORDS, values, strict=True)
    return {name: value for name, value in named if value is not None}


def _tell_rules(told: dict[str, Any]) -> None:
    tell_pairs(
        (
            name.replace("_", "-"),
            f"{told['rules'][name]}  {words}{' (its own)' if name in told['own'] else ''}",
        )
        for name, words in _WORDS.items()
    )


def _tell_versions(told: dict[str, Any]) -> None:
    sized = any(row["alone"] is not None for row in told["versions"])
    tell_table(
        ("VERSION", "TAKEN", *(["ALONE"] if sized else []), "STAYS BECAUSE"),
        (
            (
                row["stamp"],
                local(row["taken_at"]),
                *([size(row["alone"])] if sized else []),
                what_keeps(row),
            )
            for row in told["versions"]
        ),
        "No version yet.",
    )


def what_keeps(row: dict[str, Any]) -> str:
    """'daily, weekly', 'GOES', and what people have ordered."""
    told = "GOES" if row["goes"] else ", ".join(row["kept_by"])
    if row["used_by"]:
        told += f" ({', '.join(row['used_by'])})"
    told += "".join(f"; pinned by {one['who']}: {one['why']}" for one in row["pins"])
    return told + (f"; {_deletion(row['deletion'])}" if row["deletion"] else "")


def _deletion(told: dict[str, Any]) -> str:
    if told["awaits_second"]:
        return (
            f"will be deleted on {local(told['due'])} if another administrator confirms it "
            f"(ordered by {told['who']})"
        )
    return f"will be deleted on {local(told['due'])} (ordered by {told['who']})"
