"""``notfall primary``: invite, list, show, schedule, limit, remove."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from notfallserver.server.cli.api import connect
from notfallserver.server.cli.following import figures
from notfallserver.server.cli.show import (
    ago,
    chosen,
    local,
    size,
    tell,
    tell_json,
    tell_pairs,
    tell_table,
)
from notfallserver.server.cycle.normal.limit_text import line_text, rate_text
from notfallserver.wire.errors import NotfallError

app = typer.Typer(help="The servers that are protected.", no_args_is_help=True)

PrimaryName = Annotated[str, typer.Argument(metavar="PRIMARY", help="Name or UUID.")]


@app.command()
def invite(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What it shall be called.")],
    again: Annotated[bool, typer.Option(help="Install a known primary's agent anew.")] = False,
    url: Annotated[str, typer.Option(help="How it reaches this server: https://HOST:PORT")] = "",
    windows: Annotated[bool, typer.Option("--windows", help="The line for Windows.")] = False,
) -> None:
    """Print one line to paste as root on the server that shall be protected."""
    invited = connect().post("/invites", {"name": name, "again": again, "url": url})
    if chosen.as_json:
        tell_json(invited)
        return
    if windows and not invited["windows_line"]:
        raise NotfallError(
            "no-windows-agent",
            "The agent for Windows is not on this emergency server.",
            "Build it with 'make windows-agent', and copy it into the data directory.",
        )
    place = "at an administrator's prompt" if windows else "as root"
    typer.echo(f"Paste this line {place} on {name} (good once, until {_until(invited)}):", err=True)
    print(invited["windows_line" if windows else "line"])


def _until(invited: dict[str, Any]) -> str:
    return local(invited["expires_at"])


@app.command("list")
def list_primaries() -> None:
    """All primaries with state, age of the newest version, and what is under way."""
    rows = connect().get("/primaries")
    if chosen.as_json:
        tell_json(rows)
        return
    tell_table(
        ("NAME", "STATE", "NEWEST VERSION", "LAST HEARD OF", "UNDER WAY"),
        (
            (
                row["name"],
                row["state"],
                ago(row["newest_version_at"], "none yet"),
                "no agent" if row["agentless"] else ago(row["last_seen"]),
                "; ".join(_job(job) for job in row["jobs"]),
            )
            for row in rows
        ),
        "No primary yet. Invite one: notfall primary invite NAME",
    )


def _job(job: dict[str, Any]) -> str:
    return " ".join(
        part for part in (job["progress"]["phase"] or job["kind"], figures(job["progress"])) if part
    )


@app.command()
def show(primary: PrimaryName) -> None:
    """One primary."""
    api = connect()
    row = api.get(f"/primaries/{primary}")
    findings = api.get(f"/primaries/{primary}/readiness")
    if chosen.as_json:
        tell_json({**row, "readiness": findings})
        return
    tell_pairs(
        (
            ("name", row["name"]),
            ("UUID", row["uuid"]),
            ("state", row["state"]),
            ("system", f"{row['system']} ({row['hostname']})"),
            ("addresses", ", ".join(row["addresses"])),
            ("newest version", f"{row['newest_version']} {ago(row['newest_version_at'], 'none')}"),
            ("last heard of", "no agent" if row["agentless"] else ago(row["last_seen"])),
            *(
                ("comes back to", " or ".join(one.upper() for one in row["boots_by"]))
                for _ in row["boots_by"][:1]
            ),
            ("agent", f"{row['agent_version']} as {row['agent_role']}".strip(" as")),
            ("replication", _every(row["schedule_minutes"])),
            ("capture of a stand-in", _every(row["capture_minutes"])),
            *(
                ("DAMAGED versions", f"{row['damaged_versions']}; see 'notfall versions'")
                for _ in [0]
                if row["damaged_versions"]
            ),
            ("deep run", _deep(row["deep"])),
            *(("UNSEEN CHANGES", row["deep"]["words"]) for _ in [0] if row["deep"]["words"]),
            *_line_pairs(row),
            *(("recovery", _closeness(row["recovery"])) for _ in [0] if row["recovery"]),
            *(("trial period", _trial(row["trial"])) for _ in [0] if row["trial"]),
            *(("under way", _job(job)) for job in row["jobs"]),
            *((one["severity"].upper(), f"{one['words']} {one['remedy']}") for one in findings),
        )
    )


def _line_pairs(row: dict[str, Any]) -> list[tuple[str, str]]:
    """Limits, what the line gave, and what that means for the age of the newest version."""
    words = row["limits"]["words"] or ["none"]
    pairs = [("limits" if one is words[0] else "", one) for one in words]
    if row["limits"]["windows"]:
        pairs.append(("limit of the line now", rate_text(row["limits"]["rate_now"])))
    if line := row["line"]:
        held = "at least " if line["limited"] else ""
        pairs.append(("line", f"{held}{line_text(line['rate'])}, measured {ago(line['at'])}"))
    if forecast := row["forecast"]:
        pairs.append(("forecast", forecast["words"]))
    return pairs


def _trial(trial: dict[str, Any]) -> str:
    return f"until {local(trial['until'])} 'notfall undo' leads back to the stand-in"


def _closeness(recovery: dict[str, Any]) -> str:
    if not recovery["rounds"]:
        return "the first round copies everything"
    told = f"last delta {size(recovery['last_delta'])}, {size(int(recovery['rate']))}/s"
    if recovery["ready"]:
        return f"READY to switch back; {told}; downtime about {recovery['predicted_downtime_s']} s"
    return f"getting closer; {told}"


def _deep(deep: dict[str, Any]) -> str:
    often = f"every {deep['days']} days" if deep["days"] else "on request only"
    return f"{often}, the last {ago(deep['at'], 'never')}"


def _every(minutes: int) -> str:
    return f"every {minutes} min" if minutes else "on request only"


@app.command()
def schedule(
    primary: PrimaryName,
    minutes: Annotated[
        int | None, typer.Option(min=0, help="Between replications; 0 = on request only.")
    ] = None,
    capture_minutes: Annotated[
        int | None, typer.Option(min=0, help="Between captures of a stand-in; 0 = on request.")
    ] = None,
    deep_days: Annotated[
        int | None,
        typer.Option(min=0, max=365, help="Between runs that read all; 0 = on request."),
    ] = None,
) -> None:
    """Set how often a primary replicates, and how often its stand-in is captured."""
    if minutes is None and capture_minutes is None and deep_days is None:
        raise typer.BadParameter("give --minutes, --capture-minutes or --deep-days")
    body = {
        "schedule_minutes": minutes,
        "capture_minutes": capture_minutes,
        "deep_days": deep_days,
    }
    row = connect().post(f"/primaries/{primary}/schedule", body)
    if chosen.as_json:
        tell_json(row)
    tell(
        f"{row['name']}: replication {_every(row['schedule_minutes'])}, "
        f"capture {_every(row['capture_minutes'])}, deep run {_deep(row['deep'])}."
    )


@app.command()
def limit(
    primary: PrimaryName,
    rate: Annotated[
        str | None, typer.Option(help="Most on the line: 10Mbit (bits), 2MB (bytes), none.")
    ] = None,
    window: Annotated[
        list[str] | None,
        typer.Option(
            help='Another rate at some hours: "Mon-Fri 08:00-18:00=2Mbit". May be given several '
            'times and replaces all windows; "none" removes them. Times are this server\'s.'
        ),
    ] = None,
    read_rate: Annotated[
        str | None, typer.Option(help="Most read from the disks: 100MB, none.")
    ] = None,
    pause_load: Annotated[
        str | None, typer.Option(help="Pause while the primary's load is above this: 8, none.")
    ] = None,
    pause_pressure: Annotated[
        str | None,
        typer.Option(help="Pause while others wait for disks more than so many percent: 20, none."),
    ] = None,
    pause_minutes: Annotated[
        int | None, typer.Option(min=1, max=1440, help="Most minutes that one run pauses.")
    ] = None,
    no_limits: Annotated[
        bool, typer.Option("--no-limits", help="Take all limits away; others given here then hold.")
    ] = False,
) -> None:
    """Limit what replication takes of line and disks, also a run under way. No option: show."""
    body: dict[str, Any] = {
        "rate": rate,
        "windows": window or None,
        "read_rate": read_rate,
        "pause_load": pause_load,
        "pause_pressure": pause_pressure,
        "pause_minutes": pause_minutes,
    }
    api = connect()
    if no_limits or any(one is not None for one in body.values()):
        row = api.post(f"/primaries/{primary}/limits", {**body, "clear": no_limits})
    else:
        row = api.get(f"/primaries/{primary}")
    if chosen.as_json:
        tell_json(row["limits"])
        return
    tell_pairs([("primary", row["name"]), *_line_pairs(row)])


@app.command()
def remove(
    primary: PrimaryName,
    yes: Annotated[bool, typer.Option(help="Don't ask.")] = False,
) -> None:
    """Forget a primary and delete ALL its versions."""
    api = connect()
    row = api.get(f"/primaries/{primary}")
    name = row["name"]
    if not yes:
        typer.echo(
            f"All versions of '{name}' will be deleted. This cannot be taken back.", err=True
        )
        if typer.prompt("Repeat its name", err=True) != name:
            raise NotfallError("not-confirmed", "Nothing was removed.", "Repeat the name exactly.")
    api.post(f"/primaries/{row['uuid']}/remove", {"confirm": name})
    if chosen.as_json:
        tell_json({"removed": name})
    tell(f"'{name}' is removed. The agent stays on that server: remove it there.")
