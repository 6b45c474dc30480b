"""``notfall rehearse`` and ``notfall rehearsals``."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from notfallserver.server.cli.api import connect
from notfallserver.server.cli.following import begin_job
from notfallserver.server.cli.primaries import PrimaryName
from notfallserver.server.cli.show import ago, chosen, lasting, local, tell, tell_json, tell_table


def rehearse(
    primary: PrimaryName,
    keep_running: Annotated[
        bool, typer.Option(help="Leave it running, to look at it, until its time is over.")
    ] = False,
    end: Annotated[bool, typer.Option("--end", help="End the one that runs.")] = False,
) -> None:
    """Start the newest copy in a network without a way out; fails unless it answers as it should.

    The original works on, and nobody notices anything of it.
    """
    api = connect()
    if end:
        begin_job(api, api.post(f"/primaries/{primary}/rehearse/end"), False)
        return
    job = api.post(f"/primaries/{primary}/rehearse", {"keep_running": keep_running})
    begin_job(api, job, not keep_running)
    if keep_running and not chosen.as_json:
        tell(f"End it: notfall rehearse {primary} --end")


def rehearsals(primary: PrimaryName) -> None:
    """List what came of rehearsals, the newest first."""
    rows = connect().get(f"/primaries/{primary}/rehearsals")
    if chosen.as_json:
        tell_json(rows)
        return
    tell_table(
        (
            *("BEGAN", "AGE", "BY", "VERSION", "OUTCOME", "ANSWERED AFTER", "PORTS"),
            *("FILE SYSTEMS", "SYSTEM", "FILES", "WHY"),
        ),
        (
            (
                local(row["began_at"]),
                ago(row["began_at"]),
                row["who"],
                row["version"],
                row["outcome"],
                "" if row["answered_s"] is None else lasting(row["answered_s"]),
                _ports(row),
                _filesystems(row["evidence"]),
                _system(row["evidence"]),
                _files(row["evidence"]),
                row["error"]["cause"] if row["error"] else "",
            )
            for row in rows
        ),
        f"There was no rehearsal yet: notfall rehearse {primary}",
    )


def _ports(row: dict[str, Any]) -> str:
    told = [str(one) for one in row["ports"]] + [f"not {one}" for one in row["silent"]]
    return ", ".join(told)


def _filesystems(evidence: dict[str, Any] | None) -> str:
    """'2 clean, 1 skipped'."""
    states = [one["state"] for one in evidence["volumes"]] if evidence else []
    return ", ".join(
        f"{states.count(one)} {one.upper() if one == 'damaged' else one}"
        for one in ("damaged", "clean", "skipped")
        if one in states
    )


def _system(evidence: dict[str, Any] | None) -> str:
    """'degraded, login screen; failed in it alone: a.service'."""
    if not evidence:
        return ""
    screen = "login screen" if evidence["login"] else "NO login screen"
    shown = screen if evidence["login"] or evidence["lacks_login"] else ""
    known = evidence["failed_before"] is not None
    units = {
        "failed": [] if known else evidence["failed_units"],
        "failed in it alone": evidence["newly_failed"],
        "failed as on the original": evidence["failed_before"] or [],
    }
    told = [", ".join(one for one in (evidence["system"], shown) if one)]
    told += [f"{what}: {', '.join(names)}" for what, names in units.items() if names]
    return "; ".join(one for one in told if one)


def _files(evidence: dict[str, Any] | None) -> str:
    """'19 equal, 1 DIFFERS'."""
    if not evidence or not evidence["compared"]:
        return ""
    differing = len(evidence["differing"])
    return f"{evidence['compared'] - differing} equal" + (
        f", {differing} DIFFERING" if differing else ""
    )


def add_to(app: typer.Typer) -> None:
    app.command()(rehearse)
    app.command()(rehearsals)
