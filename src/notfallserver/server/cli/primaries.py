"""``notfall primary``: invite, list, show, schedule, remove."""

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
from notfallserver.wire.errors import NotfallError

app = typer.Typer(help="The servers that are protected.", no_args_is_help=True)

PrimaryName = Annotated[str, typer.Argument(metavar="PRIMARY", help="Name or UUID.")]


@app.command()
def invite(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What it shall be called.")],
    again: Annotated[bool, typer.Option(help="Install a known primary's agent anew.")] = False,
    url: Annotated[str, typer.Option(help="How it reaches this server: https://HOST:PORT")] = "",
) -> None:
    """Print one line to paste as root on the server that shall be protected."""
    invited = connect().post("/invites", {"name": name, "again": again, "url": url})
    if chosen.as_json:
        tell_json(invited)
        return
    typer.echo(f"Paste this line as root on {name} (good once, until {_until(invited)}):", err=True)
    print(invited["line"])


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
                ago(row["last_seen"]),
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
    row = connect().get(f"/primaries/{primary}")
    if chosen.as_json:
        tell_json(row)
        return
    tell_pairs(
        (
            ("name", row["name"]),
            ("UUID", row["uuid"]),
            ("state", row["state"]),
            ("system", f"{row['system']} ({row['hostname']})"),
            ("addresses", ", ".join(row["addresses"])),
            ("newest version", f"{row['newest_version']} {ago(row['newest_version_at'], 'none')}"),
            ("last heard of", ago(row["last_seen"])),
            ("agent", f"{row['agent_version']} as {row['agent_role']}".strip(" as")),
            ("replication", _every(row["schedule_minutes"])),
            ("capture of a stand-in", _every(row["capture_minutes"])),
            *(("recovery", _closeness(row["recovery"])) for _ in [0] if row["recovery"]),
            *(("under way", _job(job)) for job in row["jobs"]),
        )
    )


def _closeness(recovery: dict[str, Any]) -> str:
    if not recovery["rounds"]:
        return "the first round copies everything"
    told = f"last delta {size(recovery['last_delta'])}, {size(int(recovery['rate']))}/s"
    if recovery["ready"]:
        return f"READY to switch back; {told}; downtime about {recovery['predicted_downtime_s']} s"
    return f"getting closer; {told}"


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
) -> None:
    """Set how often a primary replicates, and how often its stand-in is captured."""
    if minutes is None and capture_minutes is None:
        raise typer.BadParameter("give --minutes or --capture-minutes")
    body = {"schedule_minutes": minutes, "capture_minutes": capture_minutes}
    row = connect().post(f"/primaries/{primary}/schedule", body)
    if chosen.as_json:
        tell_json(row)
    tell(
        f"{row['name']}: replication {_every(row['schedule_minutes'])}, "
        f"capture {_every(row['capture_minutes'])}."
    )


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
