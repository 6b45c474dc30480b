"""The commands of the cycle: replicate, versions, files, activate, recover, switch-back, undo."""

from __future__ import annotations

import sys
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer

from notfallserver.server.cli.api import connect
from notfallserver.server.cli.following import begin_job
from notfallserver.server.cli.primaries import PrimaryName
from notfallserver.server.cli.retention import what_keeps
from notfallserver.server.cli.show import (
    ago,
    chosen,
    lasting,
    local,
    size,
    tell,
    tell_json,
    tell_table,
)
from notfallserver.wire.errors import NotfallError

rescue = typer.Typer(help="The rescue medium.", no_args_is_help=True)

Follow = Annotated[bool, typer.Option(help="Stay until the job is over.")]
Directory = Annotated[Path | None, typer.Option(metavar="DIR")]


def replicate(
    primary: PrimaryName,
    deep: Annotated[bool, typer.Option(help="Read all; tell what had changed unseen.")] = False,
    follow: Follow = False,
) -> None:
    """Make a new version now."""
    api = connect()
    begin_job(api, api.post(f"/primaries/{primary}/replicate", {"deep": deep}), follow)


def scrub(
    primary: PrimaryName,
    version: Annotated[str, typer.Option(metavar="V", help="Check only this version.")] = "",
    follow: Follow = False,
) -> None:
    """Read versions and compare them with their block index; repair what can be repaired."""
    api = connect()
    job = api.post(f"/primaries/{primary}/scrub", {"version": version or None})
    begin_job(api, job, follow)


def _soundness(damage: dict[str, Any]) -> str:
    """'2 h ago', or what is wrong."""
    if not damage["blocks"] and not damage["indexes"]:
        return ago(damage["checked_at"], "")
    what = f"{damage['blocks']} blocks DAMAGED"
    if damage["indexes"]:
        what += ", index DAMAGED"
    return what + (", lost" if damage["lost"] else "")


def _proof(row: dict[str, Any]) -> str:
    """'passed (serving)', or how far it got."""
    if row["proof"]:
        return f"{row['proof']} ({row['grade']})"
    return str(row["grade"]) if row["grade"] == "checked" else ""


_TITLES = (
    *("VERSION", "TAKEN", "AGE", "BY", "CONSISTENT", "DISKS", "SIZE", "USED", "PREPARED"),
    *("PROOF", "CHECKED", "APPLICATIONS"),
)


def versions(primary: PrimaryName) -> None:
    """List a primary's versions, the newest first."""
    rows = connect().get(f"/primaries/{primary}/versions")
    if chosen.as_json:
        tell_json(rows)
        return
    tell_table(
        _TITLES,
        (
            (
                row["stamp"],
                local(row["taken_at"]),
                ago(row["taken_at"]),
                row["source"],
                row["consistency"],
                str(row["disks"]),
                size(row["size"]),
                size(row["used"]),
                "yes" if row["prepared"] else "",
                _proof(row),
                f"{_soundness(row['damage'])}{' SUSPECT' if row['suspect'] else ''}".strip(),
                ", ".join(_application(one) for one in row["applications"]),
            )
            for row in rows
        ),
        "There is no version yet.",
    )
    for one in connect().get(f"/primaries/{primary}/retention")["versions"]:
        if one["pins"] or one["deletion"]:
            tell(f"{one['stamp']}: {what_keeps(one)}")
    for one in rows[0]["applications"] if rows else ():
        if one["error"]:
            tell(f"{one['name']} did not stand still in the newest version: {one['error']}")


def _application(one: dict[str, Any]) -> str:
    name = str(one["name"])
    return f"not {name}" if one["error"] else f"{name} ({one['held_ms'] / 1000:.1f} s)"


def files(
    primary: PrimaryName,
    mount: Directory = None,
    unmount: Directory = None,
    version: Annotated[str, typer.Option(help="A version's stamp; left out: the newest.")] = "",
) -> None:
    """Show a version's volumes read-only in a directory, and put them away again."""
    if (mount is None) == (unmount is None):
        raise typer.BadParameter("give either --mount DIR or --unmount DIR")
    api = connect()
    if unmount is not None:
        api.post("/files/unmount", {"directory": str(unmount.absolute())})
        tell(f"{unmount} is unmounted.")
        return
    directory = str(mount.absolute()) if mount else ""
    body = {"directory": directory, "version": version or None}
    shown = api.post(f"/primaries/{primary}/files", body)
    if chosen.as_json:
        tell_json(shown)
    tell(
        f"Version {shown['version']} is at {directory}, read-only. "
        f"Put it away: notfall files {primary} --unmount {directory}"
    )


def offers(primary: PrimaryName) -> None:
    """List the copies that a stand-in can be started from, the newest proven one first."""
    rows = connect().get(f"/primaries/{primary}/offers")
    if chosen.as_json:
        tell_json(rows)
        return
    tell_table(
        ("COPY", "TAKEN", "OFFERED AS", "OLDER BY", "PROVED", "READY", "STARTED UNLESS CHOSEN"),
        (
            (
                row["stamp"],
                local(row["taken_at"]),
                row["role"] + (" (ALARM)" if row["suspect"] else ""),
                lasting(row["behind_s"]) if row["behind_s"] >= 1 else "",
                f"{row['standing']} ({row['grade']})",
                "yes" if row["prepared"] else "",
                "yes" if row["taken"] else "",
            )
            for row in rows
        ),
        "There is no version yet.",
    )


def _tell_offers(rows: list[dict[str, Any]]) -> None:
    """Where there is a choice: what is started now, and how to have another."""
    for row in rows if len(rows) > 1 else ():
        older = f", {lasting(row['behind_s'])} older" if row["behind_s"] >= 1 else ""
        what = "Starting from" if row["taken"] else f"Instead, by --version {row['stamp']}:"
        marked = "; an ALARM marks it" if row["suspect"] else ""
        tell(f"{what} the {row['role']} copy of {local(row['taken_at'])}{older}{marked}")


def activate(
    primary: PrimaryName,
    overrule: Annotated[
        str, typer.Option(metavar="REASON", help="Start against the guard's advice, and why.")
    ] = "",
    switch_off: Annotated[
        bool, typer.Option("--switch-off", help="Switch the original off from afar first.")
    ] = False,
    version: Annotated[
        str, typer.Option(metavar="V", help="From this copy; left out: see 'notfall offers'.")
    ] = "",
    follow: Follow = True,
) -> None:
    """Start the stand-in, unless the guard sees a sign of life of the original."""
    api = connect()
    if not version and not chosen.as_json:
        _tell_offers(api.get(f"/primaries/{primary}/offers"))
    body = {
        "overrule_reason": overrule,
        "switch_off": switch_off,
        "version": version or None,
    }
    job = api.post(f"/primaries/{primary}/activate", body)
    begin_job(api, job, follow)


def targets() -> None:
    """List machines booted from the rescue medium. Each shows its code on its own screen."""
    rows = connect().get("/targets")
    if chosen.as_json:
        tell_json(rows)
        return
    tell_table(
        ("MACHINE", "ADDRESSES", "DISKS", "STATE", "HEARD OF"),
        (
            (
                f"{row['vendor']} {row['product']}".strip() or row["hostname"],
                ", ".join(row["addresses"]),
                ", ".join(f"{disk['name']} {size(disk['size'])}" for disk in row["disks"]),
                row["report"].get("state") or row["state"],
                ago(row["seen"]),
            )
            for row in rows
        ),
        "No target. Boot a machine from the rescue medium: notfall rescue build",
    )


def recover(
    primary: PrimaryName,
    to: Annotated[str, typer.Option(metavar="CODE", help="The code on the target's screen.")],
    disk: Annotated[
        list[str] | None, typer.Option(metavar="OLD=NEW", help="This old disk onto that new one.")
    ] = None,
    grow: Annotated[bool, typer.Option(help="Make filesystems as large as the new disks.")] = False,
    yes: Annotated[bool, typer.Option(help="Overwrite without asking.")] = False,
    follow: Follow = False,
) -> None:
    """Bring a primary back to a target: shows what will be overwritten, asks, then begins."""
    api = connect()
    wish: dict[str, Any] = {"code": to, "disks": _disk_map(disk) if disk else None, "grow": grow}
    plan = api.post(f"/primaries/{primary}/recovery-plan", wish)
    if not chosen.as_json:
        _show_plan(plan)
    if not yes:
        if chosen.as_json or not sys.stdin.isatty():
            if chosen.as_json:
                tell_json(plan)
            raise NotfallError(
                "not-confirmed", "Nothing was begun: it is not confirmed.", "Add --yes."
            )
        typer.confirm("Overwrite the new disks?", abort=True, err=True)
    job = api.post(f"/primaries/{primary}/recover", {**wish, "confirmed": plan["digest"]})
    begin_job(api, job, follow)


def _show_plan(plan: dict[str, Any]) -> None:
    tell_table(
        ("OLD DISK", "", "NEW DISK", "", "MODEL, SERIAL", "WHAT IS ON IT AND WILL BE LOST"),
        (
            (
                move["old_name"],
                size(move["old_size"]),
                move["new_name"],
                size(move["new_size"]),
                f"{move['new_model']} {move['new_serial']}".strip(),
                "; ".join(move["overwrites"]) or "nothing known",
            )
            for move in plan["moves"]
        ),
        "No disk.",
    )
    for move in plan["moves"]:
        for change in move["changes"]:
            tell(f"{move['new_name']}: {change}")
    if plan["can_grow"] and not plan["grow"]:
        tell("The new disks are larger; --grow makes the filesystems as large.")
    if plan["untouched"]:
        tell(f"Not touched: {', '.join(plan['untouched'])}")
    for warning in plan["warnings"]:
        tell(f"Warning: {warning}")


def _disk_map(pairs: list[str]) -> dict[str, str]:
    named: dict[str, str] = {}
    for pair in pairs:
        old, _, new = pair.partition("=")
        if not old or not new or old in named:
            raise typer.BadParameter(f"'{pair}' is not OLD=NEW, or OLD is named twice")
        named[old.removeprefix("/dev/")] = new.removeprefix("/dev/")
    return named


def switch_back(
    primary: PrimaryName,
    at: Annotated[
        str, typer.Option(metavar="TIME", help="'22:30', '2026-01-31 22:30'; left out: now.")
    ] = "",
    follow: Follow = True,
) -> None:
    """Stop the stand-in, bring the last changes to the target, start it from its own disks."""
    moment = read_time(at, datetime.now().astimezone()) if at else None
    api = connect()
    body = {"at": moment.isoformat() if moment else None}
    job = api.post(f"/primaries/{primary}/switch-back", body)
    begin_job(api, job, follow and moment is None)


def read_time(text: str, now: datetime) -> datetime:
    """A time of day (the next one), or date and time; local unless it has a zone."""
    try:
        day = datetime.strptime(text.strip(), "%H:%M")
        moment = now.replace(hour=day.hour, minute=day.minute, second=0, microsecond=0)
        return moment if moment > now else moment + timedelta(days=1)
    except ValueError:
        pass
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        raise typer.BadParameter(f"'{text}' is no time; write 22:30 or 2026-01-31 22:30") from None
    return moment if moment.tzinfo else moment.astimezone()


def undo(primary: PrimaryName, follow: Follow = True) -> None:
    """Go back one step: from a handover to the original, from the switch-back (and in the trial
    period after it) to the stand-in, from the stand-in to before it."""
    api = connect()
    job = api.post(f"/primaries/{primary}/undo")
    begin_job(api, job, follow, cancelling=job["cancel_requested"])


@rescue.command()
def build(follow: Follow = True) -> None:
    """Make the rescue medium: an ISO for BIOS and UEFI, kernel and initrd for PXE."""
    api = connect()
    begin_job(api, api.post("/rescue/build"), follow)


@rescue.callback()
def _rescue() -> None:
    """Keeps 'build' a command of its own while it is the only one."""


def add_to(app: typer.Typer) -> None:
    for command in (
        replicate,
        versions,
        scrub,
        files,
        offers,
        activate,
        targets,
        recover,
        switch_back,
        undo,
    ):
        app.command(command.__name__.replace("_", "-"))(command)
