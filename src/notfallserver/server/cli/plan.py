"""``notfall plan``: in which order servers start when several are down, and starting them."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from notfallserver.server.cli.api import Api, connect
from notfallserver.server.cli.following import begin_job
from notfallserver.server.cli.primaries import PrimaryName
from notfallserver.server.cli.show import chosen, lasting, size, tell, tell_json, tell_table
from notfallserver.server.records.start_place import Begins, IfFails
from notfallserver.wire.errors import NotfallError

app = typer.Typer(
    help="Which server starts first when several are down, and starting them.",
    no_args_is_help=True,
)
_MARKS = {True: "yes", False: "NO", None: ""}


@app.command()
def show() -> None:
    """The plan, which stand-ins fit on this server together, and the last run."""
    _show(connect().get("/start-plan"))


@app.command()
def order(
    primaries: Annotated[
        list[str], typer.Argument(help="First to last; 'a+b' start together.", metavar="NAME...")
    ],
) -> None:
    """Let these servers start first, in this order; the others follow as they were."""
    groups = [[name for name in one.split("+") if name] for one in primaries]
    if not all(groups):
        raise NotfallError("bad-start-plan", "A name is missing.", "Write NAME, or NAME+NAME.")
    _show(connect().post("/start-plan/order", {"groups": groups}))


@app.command("set")
def set_place(
    primary: PrimaryName,
    place: Annotated[int | None, typer.Option(help="Its place, from 1.")] = None,
    begins: Annotated[
        Begins | None,
        typer.Option(help="With the one before, some time after its start, or when it works."),
    ] = None,
    delay: Annotated[int | None, typer.Option(help="Seconds after that.", metavar="S")] = None,
    limit: Annotated[
        int | None,
        typer.Option(help="Seconds to wait at most until the one before works.", metavar="S"),
    ] = None,
    if_fails: Annotated[
        IfFails | None, typer.Option(help="What becomes of those after it.")
    ] = None,
    memory: Annotated[
        int | None,
        typer.Option(help="MiB that its stand-in gets at most; 0: as usual.", metavar="MIB"),
    ] = None,
) -> None:
    """Change when one server starts, and how much memory its stand-in gets."""
    body = {
        "place": place,
        "begins": begins,
        "delay_s": delay,
        "limit_s": limit,
        "if_fails": if_fails,
        "memory_mib": memory,
    }
    _show(connect().post(f"/start-plan/places/{primary}", body))


@app.command()
def check() -> None:
    """Ask the guard about all that are down. Changes nothing."""
    told = connect().post("/start-plan/check")
    if chosen.as_json:
        tell_json(told)
        return
    _show_candidates(told)


@app.command()
def start(
    primaries: Annotated[
        list[str] | None,
        typer.Argument(help="Left out: all that are down and may start.", metavar="[NAME...]"),
    ] = None,
    yes: Annotated[bool, typer.Option(help="Start without asking.")] = False,
    follow: Annotated[bool, typer.Option(help="Stay until the job is over.")] = True,
) -> None:
    """Start several stand-ins in the plan's order; the guard is asked about each."""
    api = connect()
    if not yes:
        told = api.post("/start-plan/check")
        if not chosen.as_json:
            _show_candidates(told)
        if chosen.as_json or not sys.stdin.isatty():
            raise NotfallError(
                "not-confirmed", "Nothing was started: it is not confirmed.", "Add --yes."
            )
        typer.confirm("Start their stand-ins?", abort=True, err=True)
    job = api.post("/start-plan/start", {"primaries": primaries or None})
    try:
        begin_job(api, job, follow)
    finally:
        if follow and not chosen.as_json:
            _show_run(api)


def _show(plan: dict[str, Any]) -> None:
    if chosen.as_json:
        tell_json(plan)
        return
    tell_table(
        ("STEP", "SERVER", "STATE", "BEGINS", "IF IT FAILS", "MEMORY", "FITS"),
        (
            (
                str(one["step"]),
                one["name"],
                one["state"],
                _begins(one, number == 0),
                one["if_fails"],
                "" if one["memory"] is None else size(one["memory"]),
                _MARKS[one["fits"]],
            )
            for number, one in enumerate(plan["entries"])
        ),
        "No server is protected yet.",
    )
    _show_capacity(plan["capacity"])
    if plan["down"]:
        tell(f"Down: {', '.join(plan['down'])}. Start them: notfall plan start")


def _begins(one: dict[str, Any], first: bool) -> str:
    if first:
        return "at once"
    if one["begins"] == Begins.TOGETHER:
        return "together with the one before"
    after = f"{lasting(one['delay_s'])} after" if one["delay_s"] else "when"
    if one["begins"] == Begins.DELAY:
        return f"{lasting(one['delay_s'])} after the one before was started"
    return f"{after} the one before works, at most {lasting(one['limit_s'])}"


def _show_capacity(capacity: dict[str, Any]) -> None:
    fits, rest = capacity["fits"], capacity["rest"]
    if not fits and not rest:
        return
    whole = len(fits) + len(rest)
    tell(f"{len(fits)} of {whole} fit together: {', '.join(fits) or 'none'}.")
    if rest:
        missing = capacity["missing_memory"] or capacity["missing_disk"]
        what = "memory" if capacity["missing_memory"] else "space in the pool"
        tell(f"No room for {', '.join(rest)}: {size(missing)} of {what} are missing.")
        tell("Leave one out, or give a stand-in less: notfall plan set NAME --memory MIB")
    if capacity["cpus_wanted"] > capacity["cpus"]:
        tell(f"They want {capacity['cpus_wanted']} processors, there are {capacity['cpus']}.")
    if capacity["scarce"]:
        tell(f"Little space is left for what they write: {size(capacity['free_disk'])}.")


def _show_candidates(told: dict[str, Any]) -> None:
    tell_table(
        ("SERVER", "MAY START", "FITS", "WHY"),
        (
            (
                one["name"],
                _MARKS[one["verdict"]["allowed"]],
                _MARKS[one["fits"] if one["verdict"]["allowed"] else None],
                one["verdict"]["text"],
            )
            for one in told["candidates"]
        ),
        "No server is down.",
    )
    _show_capacity(told["capacity"])


def _show_run(api: Api) -> None:
    run = api.get("/start-plan")["run"]
    tell_table(
        ("SERVER", "OUTCOME", "WHY"),
        (
            (one["name"], one["outcome"], one["error"]["cause"] if one["error"] else "")
            for one in (run["stands"] if run else ())
        ),
        "",
    )
