"""``notfall jobs`` and ``notfall journal``."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import typer

from notfallserver.server.cli.api import connect
from notfallserver.server.cli.following import figures, follow_job
from notfallserver.server.cli.show import ago, chosen, local, tell, tell_json, tell_table


def jobs(
    follow: Annotated[str, typer.Option(metavar="JOB", help="Show one until it is over.")] = "",
    cancel: Annotated[str, typer.Option(metavar="JOB", help="Cancel one.")] = "",
    primary: Annotated[str, typer.Option(help="Only those of one primary.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 20,
) -> None:
    """List jobs, the newest first; follow or cancel one."""
    api = connect()
    if cancel:
        job = api.post(f"/jobs/{cancel}/cancel")
        if chosen.as_json and not follow:
            tell_json(job)
        tell(f"Job {cancel} is being cancelled.")
    if follow:
        follow_job(api, follow)
    if follow or cancel:
        return
    rows = api.get("/jobs", primary=primary or None, limit=limit)
    if chosen.as_json:
        tell_json(rows)
        return
    tell_table(
        ("JOB", "KIND", "PRIMARY", "STATE", "BEGUN", "HOW FAR"),
        (
            (
                row["id"],
                row["kind"],
                row["name"],
                row["state"],
                ago(row["created_at"]),
                row["error"]["cause"]
                if row["error"]
                else ""
                if row["finished_at"]
                else f"{row['progress']['phase']} {figures(row['progress'])}",
            )
            for row in rows
        ),
        "No job has run yet.",
    )


def journal(
    primary: Annotated[str, typer.Argument(help="Only of this primary.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 50,
    event: Annotated[str, typer.Option(help="Only this kind, or 'grave' for all that are.")] = "",
    by: Annotated[str, typer.Option(help="Only what this person did.")] = "",
    since: Annotated[datetime | None, typer.Option(help="From this moment on.")] = None,
    until: Annotated[datetime | None, typer.Option(help="Up to this moment.")] = None,
) -> None:
    """What happened, when, by whom and why; the newest last."""
    rows = connect().get(
        "/journal",
        primary=primary or None,
        limit=limit,
        event=event or None,
        by=by or None,
        since=since.astimezone().isoformat() if since else None,
        until=until.astimezone().isoformat() if until else None,
    )
    if chosen.as_json:
        tell_json(rows)
        return
    tell_table(
        ("WHEN", "PRIMARY", "WHAT", "STATE", "WHO", "WHY"),
        (
            (
                local(row["at"]),
                row["name"] or row["details"].get("name", ""),
                row["event"],
                f"{row['from_state']} -> {row['to_state']}" if row["to_state"] else "",
                row["who"],
                row["why"],
            )
            for row in reversed(rows)
        ),
        "Nothing has happened yet.",
    )


def add_to(app: typer.Typer) -> None:
    app.command()(jobs)
    app.command()(journal)
