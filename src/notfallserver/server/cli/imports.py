"""``notfall import``: image files of servers on which no agent can run."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from notfallserver.server.cli.actions import Follow
from notfallserver.server.cli.api import connect
from notfallserver.server.cli.following import begin_job

Files = Annotated[
    list[Path] | None,
    typer.Argument(
        metavar="[FILE]...",
        help="On this machine: raw, VHD, VHDX, VMDK or qcow2; one for each disk, the first first.",
    ),
]


def import_image(
    name: Annotated[str, typer.Argument(metavar="NAME", help="New, or without an agent.")],
    files: Files = None,
    code: Annotated[
        str,
        typer.Option("--from", metavar="CODE", help="Of a machine at the rescue medium instead."),
    ] = "",
    disk: Annotated[
        list[str] | None,
        typer.Option(help="A disk of that machine; left out: all that hold anything."),
    ] = None,
    memory: Annotated[int, typer.Option(metavar="MIB", help="Its memory.")] = 0,
    cpus: Annotated[int, typer.Option(metavar="N", help="Its processors.")] = 0,
    firmware: Annotated[str, typer.Option(metavar="bios|uefi", help="How it starts.")] = "",
    mac: Annotated[list[str] | None, typer.Option(help="Of each card, in their order.")] = None,
    address: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ADDRESS/LENGTH", help="Of the first card; of another one: MAC=ADDRESS/LENGTH."
        ),
    ] = None,
    gateway: Annotated[str, typer.Option(metavar="ADDRESS", help="Its way out.")] = "",
    port: Annotated[list[int] | None, typer.Option(help="A port that it serves.")] = None,
    taken_at: Annotated[
        datetime | None,
        typer.Option(help="Whose moment's state it is; left out: when the file was written."),
    ] = None,
    follow: Follow = False,
) -> None:
    """Make a version of image files, or of a machine at the rescue medium (--from): of servers on
    which no agent can run.

    What is not said is found in the images where that can be, or as it was before.
    """
    api = connect()
    body = {
        "name": name,
        "files": [str(one.absolute()) for one in files or []],
        "code": code,
        "disks": disk or [],
        "memory_mib": memory,
        "cpus": cpus,
        "firmware": firmware,
        "macs": mac or [],
        "addresses": address or [],
        "gateway": gateway,
        "ports": port or [],
        "taken_at": taken_at.astimezone().isoformat() if taken_at else None,
    }
    begin_job(api, api.post("/imports", body), follow)


def add_to(app: typer.Typer) -> None:
    app.command("import")(import_image)
