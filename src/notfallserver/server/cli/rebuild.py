"""``notfall server rebuild``: a lost emergency server made again on this machine."""

from __future__ import annotations

import getpass
import os
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from notfallserver.server.cli.offload import read_lines
from notfallserver.server.cli.show import chosen, tell_json, tell_pairs
from notfallserver.server.settings import settings_path
from notfallserver.wire.errors import NotfallError

Text = Annotated[str | None, typer.Option()]


def add_to(app: typer.Typer) -> None:
    app.command()(rebuild)


def rebuild(
    source: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="PLACE",
            help="Where it was off-loaded to: a directory, disk:UUID, sftp://USER@HOST/PATH, "
            "s3:https://HOST/BUCKET, rest:https://HOST/PATH",
        ),
    ] = None,
    from_pool: Annotated[
        bool, typer.Option("--from-pool", help="The pool's disks survived: from what is on them.")
    ] = False,
    key_file: Annotated[
        Path | None, typer.Option(help="A file with the place's key; else it is asked for.")
    ] = None,
    secrets_file: Annotated[
        Path | None,
        typer.Option(
            help="Lines NAME=VALUE: access_key, secret_key of S3; user_name, password of REST."
        ),
    ] = None,
    ssh_key: Annotated[
        Path | None, typer.Option(help="A private key that the SFTP server lets in.")
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option(help="Bring only this primary back now; several times.")
    ] = None,
    data_dir: Annotated[Path | None, typer.Option()] = None,
    pool_path: Annotated[Path | None, typer.Option()] = None,
    pool_image_gib: Annotated[int | None, typer.Option(min=1)] = None,
    listen_host: Text = None,
    listen_port: Annotated[int | None, typer.Option(min=1)] = None,
    lan_bridge: Text = None,
    accelerator: Text = None,
    libvirt_uri: Text = None,
    although_alive: Annotated[
        bool, typer.Option(help="Even if the lost server answers. Know what you do.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask: the lost server is off.")] = False,
) -> None:
    """Make a lost emergency server again, on an empty machine: same identity, same primaries.

    Options that are left out are as on the lost server. The newest version of each primary is
    brought back when the server runs, one after another.
    """
    from notfallserver.server.cli.rebuilding import (
        read_source,
        rebuild_from_place,
        rebuild_from_pool,
    )

    if from_pool == (source is not None):
        raise typer.BadParameter("say either --from PLACE or --from-pool")
    wished: Mapping[str, Any] = {
        "data_dir": data_dir.absolute() if data_dir else None,
        "pool_path": pool_path.absolute() if pool_path else None,
        "pool_image_gib": pool_image_gib,
        "listen_host": listen_host,
        "listen_port": listen_port,
        "lan_bridge": lan_bridge,
        "accelerator": accelerator,
        "libvirt_uri": libvirt_uri,
    }

    def ask(question: str) -> bool:
        return yes or typer.confirm(question, err=True)

    path = settings_path(chosen.config)
    if os.geteuid() != 0:
        raise NotfallError("not-root", "A server is made by root.", "Run it as root.")
    if source is None:
        made = rebuild_from_pool(path, wished, although_alive, ask)
    else:
        known = read_source(
            source, read_lines(secrets_file) if secrets_file else {}, _read_key(key_file), ssh_key
        )
        made = rebuild_from_place(path, wished, known, only or (), although_alive, ask)
    if chosen.as_json:
        tell_json(asdict(made))
        return
    tell_pairs(
        (
            ("settings", made.settings_file),
            ("page", ", ".join(made.urls)),
            ("agents call", ", ".join(made.agents_call) or "not known"),
            ("primaries", ", ".join(made.primaries) or "none"),
            ("brought back when it runs", ", ".join(made.queued) or "nothing"),
            ("WITHOUT stand-in now", ", ".join(made.outage) or "none"),
        )
    )
    lines = ["Start the server: systemctl enable --now notfallserver"]
    if not made.known:
        lines.append(
            "Only names were left: set the administrator's password (notfall server init "
            "--new-password), and invite every agent again (notfall primary invite NAME --again)."
        )
    elif not set(made.agents_call) & set(made.urls):
        lines.append(
            "The agents call none of this machine's addresses: give it one that they call, or let "
            "the name in it lead here. They know this server by its certificate and go on by "
            "themselves."
        )
    for line in lines:
        typer.echo(line, err=True)


def _read_key(path: Path | None) -> str:
    if path is not None:
        try:
            return path.read_text().strip()
        except OSError as error:
            raise NotfallError(
                "no-key", f"{path} can't be read: {error.strerror}.", "Name the file with the key."
            ) from None
    if not sys.stdin.isatty():
        raise NotfallError("no-key", "The place's key is missing.", "Name it: --key-file FILE")
    return getpass.getpass("The place's key: ")
