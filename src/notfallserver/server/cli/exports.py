"""``notfall export``: versions as image files, and on disks to start from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from notfallserver.server.cli.actions import Follow
from notfallserver.server.cli.api import connect
from notfallserver.server.cli.following import begin_job
from notfallserver.server.cli.primaries import PrimaryName
from notfallserver.server.cli.show import chosen, size, tell, tell_json, tell_table

app = typer.Typer(
    help="Take a version along: as image files, or on a disk that a computer starts from.",
    no_args_is_help=True,
)

Version = Annotated[str, typer.Option(help="Its stamp; left out: the newest sound one.")]


@app.command("image")
def export_image(
    primary: PrimaryName,
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="On this machine.")],
    kind: Annotated[
        str, typer.Option("--as", metavar="raw|qcow2|vmdk|vhdx", help="The files' format.")
    ] = "qcow2",
    version: Version = "",
    adapt: Annotated[
        bool,
        typer.Option(
            "--adapt", help="Adapt a clone to QEMU/KVM, VMware (vmdk) or Hyper-V (vhdx) before."
        ),
    ] = False,
    follow: Follow = False,
) -> None:
    """Write all disks of a version as image files, with what another hypervisor must know."""
    api = connect()
    body = {"directory": str(directory.absolute()), "kind": kind, "version": version}
    begin_job(api, api.post(f"/primaries/{primary}/export", {**body, "adapt": adapt}), follow)
    tell("Never start it while the original or its stand-in is at work in the same network.")


@app.command("disks")
def disks() -> None:
    """This machine's disks: what is on them, and which may be written over."""
    rows = connect().get("/disks")
    if chosen.as_json:
        tell_json(rows)
        return
    tell_table(
        ("DISK", "SIZE", "MODEL", "REMOVABLE", "CONFIRM WITH", "HOLDS", "IN USE"),
        (
            (
                row["path"],
                size(row["size"]),
                row["model"],
                "yes" if row["removable"] else "no",
                row["confirmation"],
                _holds(row),
                row["busy"],
            )
            for row in rows
        ),
        "There is no disk.",
    )


@app.command("disk")
def export_disk(
    primary: PrimaryName,
    devices: Annotated[
        list[str],
        typer.Argument(metavar="DEVICE...", help="One for each of its disks, in their order."),
    ],
    confirm: Annotated[
        list[str] | None,
        typer.Option(help="What 'export disks' shows of each device, in the same order."),
    ] = None,
    only: Annotated[
        list[int] | None, typer.Option(help="Only this disk of the server, counted from 0.")
    ] = None,
    version: Version = "",
    adapt: Annotated[
        bool, typer.Option("--adapt", help="Adapt a clone to any computer before.")
    ] = False,
    internal: Annotated[
        bool, typer.Option("--internal", help="Also a disk that can't be pulled out.")
    ] = False,
    follow: Follow = False,
) -> None:
    """Write a version onto whole disks from which a computer starts.

    ALL that is on them is lost. Without --confirm each is shown, and its serial number asked for.
    """
    api = connect()
    words = list(confirm or [])
    if not words:
        known = {row["path"]: row for row in api.get("/disks")}
        words = [_ask(known.get(str(Path(one).resolve())), one) for one in devices]
    targets = [
        {"path": str(Path(one).absolute()), "confirm": word, "internal": internal}
        for one, word in zip(devices, [*words, *[""] * len(devices)], strict=False)
    ]
    body = {"targets": targets, "disks": only or [], "version": version, "adapt": adapt}
    begin_job(api, api.post(f"/primaries/{primary}/export/disk", body), follow)


def _ask(row: dict[str, Any] | None, device: str) -> str:
    if row is None:
        return ""  # the server says that it knows no such disk
    print(f"{device}: {row['model'] or 'no model'}, {size(row['size'])}, holds {_holds(row)}")
    if row["busy"]:
        print(f"It is in use: {row['busy']}")
    answer: str = typer.prompt(
        f"ALL of this is lost. Compare with the disk itself, then type {row['confirmation']}"
    )
    return answer


def _holds(row: dict[str, Any]) -> str:
    parts = [
        f"{one['name']} {one['filesystem']} {one['label']}".strip()
        for one in row["parts"]
        if one["filesystem"]
    ]
    return ", ".join(parts) or (f"table {row['table']}" if row["table"] else "nothing known")
