"""Following a job to its end, with rate and time left."""

from __future__ import annotations

import json
import sys
from typing import Any

import typer
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

from notfallserver.server.cli.api import Api
from notfallserver.server.cli.show import (
    chosen,
    console,
    lasting,
    size,
    tell,
    tell_json,
)
from notfallserver.wire.errors import NotfallError

COUNTED = 4096
"""Up to here what is told is a number of things, and no bytes."""


def begin_job(api: Api, job: dict[str, Any], follow: bool, cancelling: bool = False) -> None:
    """Tell of a job that was just begun, or follow it.

    ``cancelling``: the command itself has cancelled the job, so that end is a success.
    """
    if follow:
        follow_job(api, job["id"], cancelling)
    elif chosen.as_json:
        tell_json(job)
    else:
        tell(f"Job {job['id']} ({job['kind']}) has begun.")
        tell(f"Follow it: notfall jobs --follow {job['id']}")


def follow_job(api: Api, job: str, cancelling: bool = False) -> None:
    """Show a job until it is over, and its result; one that failed becomes this command's error."""
    for key, value in result_of(api, job, cancelling).items():
        tell(f"{key.replace('_', ' ')}: {value}")


def result_of(api: Api, job: str, cancelling: bool = False) -> dict[str, Any]:
    """The result of a job that is shown until it is over; as JSON it was among what was shown."""
    try:
        last = _follow_lines(api, job) if chosen.as_json else _follow_bar(api, job)
    except KeyboardInterrupt:
        print(f"The job {job} goes on without you watching.", file=sys.stderr)
        raise typer.Exit(130) from None
    if last["state"] == "failed":
        raise NotfallError.from_json(last["error"] or {}, 500)
    if last["state"] == "cancelled" and not cancelling:
        raise NotfallError("job-cancelled", f"The job {job} was cancelled.")
    return last["result"] or {}


def _follow_lines(api: Api, job: str) -> dict[str, Any]:
    """JSON: one line for each change."""
    last: dict[str, Any] = {}
    for last in api.follow(job):
        print(json.dumps(last, ensure_ascii=False), flush=True)
    return last


def _follow_bar(api: Api, job: str) -> dict[str, Any]:
    last: dict[str, Any] = {}
    out = console()
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        TextColumn("{task.fields[figures]}"),
    )
    if not out.is_terminal:
        phase = ""
        for last in api.follow(job):
            if last["progress"]["phase"] != phase:
                phase = last["progress"]["phase"]
                tell(f"{last['kind']}: {phase}")
        tell(f"{last['kind']}: {last['state']}")
        return last
    with Progress(*columns, console=out) as bar:
        task = bar.add_task("", total=None, figures="")
        for last in api.follow(job):
            progress = last["progress"]
            name = f"{last['name']}: " if last["name"] else ""
            bar.update(
                task,
                description=f"{name}{progress['phase'] or last['kind']}",
                total=progress["total"] or None,
                completed=progress["done"],
                figures=figures(progress),
            )
        bar.update(task, description=f"{last['kind']}: {last['state']}", total=1, completed=1)
    return last


def figures(progress: dict[str, Any]) -> str:
    """'1.2 GB of 4.0 GB, 120.0 MB/s, 23 s left'."""
    told = []
    if progress["total"] > COUNTED:
        told.append(f"{size(progress['done'])} of {size(progress['total'])}")
    if progress["rate"] > COUNTED:
        told.append(f"{size(progress['rate'])}/s")
    if progress["seconds_left"] is not None:
        told.append(f"{lasting(progress['seconds_left'])} left")
    return ", ".join(told)
