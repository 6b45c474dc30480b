"""``notfall server``: set up, run, look after this machine.

The server's own rooms are imported only where they are needed: they take a second to load, and all
other commands only talk to the running server.
"""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from notfallserver.server.cli import rebuild
from notfallserver.server.cli.api import connect
from notfallserver.server.cli.show import (
    ago,
    chosen,
    size,
    tell,
    tell_json,
    tell_pairs,
    tell_table,
)
from notfallserver.server.settings import load_settings, settings_path
from notfallserver.wire.errors import NotfallError

app = typer.Typer(help="This emergency server itself.", no_args_is_help=True)
rebuild.add_to(app)

Text = Annotated[str | None, typer.Option()]
Number = Annotated[int | None, typer.Option(min=1)]


@app.callback()
def begin() -> None:
    """Images and keys are for root; directories may be passed by libvirt's QEMU."""
    os.umask(0o066)


@app.command()
def init(
    data_dir: Annotated[
        Path | None, typer.Option(help="Where all of the server's data is.")
    ] = None,
    pool_path: Annotated[Path | None, typer.Option(help="Where the images are.")] = None,
    pool_image_gib: Annotated[
        int | None, typer.Option(min=1, help="Size of the pool where it must be made as a file.")
    ] = None,
    listen_host: Text = None,
    listen_port: Number = None,
    lan_bridge: Annotated[str | None, typer.Option(help="The bridge stand-ins are on.")] = None,
    accelerator: Annotated[str | None, typer.Option(help="kvm or tcg")] = None,
    libvirt_uri: Text = None,
    protect_versions: Annotated[
        bool | None, typer.Option(help="Keep versions from being changed by mistake.")
    ] = None,
    new_password: Annotated[
        bool, typer.Option(help="Make a new administrator's password.")
    ] = False,
) -> None:
    """Set this machine up as an emergency server; run again, it makes only what is missing.

    The options go into the settings file, where everything else can be set as well.
    """
    from notfallserver.server.cli.install import set_up, write_settings

    path = settings_path(chosen.config)
    data = data_dir.absolute() if data_dir else None
    pool = pool_path.absolute() if pool_path else data / "pool" if data else None
    wished = {
        "data_dir": data,
        "pool_path": pool,
        "pool_image_gib": pool_image_gib,
        "listen_host": listen_host,
        "listen_port": listen_port,
        "lan_bridge": lan_bridge,
        "accelerator": accelerator,
        "libvirt_uri": libvirt_uri,
        "protect_versions": protect_versions,
    }
    try:
        settings = write_settings(path, {k: v for k, v in wished.items() if v is not None})
        made = set_up(path, settings, new_password)
    except PermissionError as error:
        raise NotfallError(
            "not-root", f"{error.filename}: {error.strerror}.", "Run it as root."
        ) from None
    if chosen.as_json:
        tell_json(asdict(made))
        return
    tell_pairs(
        (
            ("settings", made.settings_file),
            ("data", made.data_dir),
            ("pool", f"{made.pool} ({'with' if made.reflink else 'WITHOUT'} reflink)"),
            ("page", ", ".join(made.urls)),
            ("CA's fingerprint", made.fingerprint),
            ("administrator", made.administrator),
            ("password", made.password or "as it was (a new one: --new-password)"),
        )
    )
    typer.echo("Start the server: systemctl enable --now notfallserver", err=True)


@app.command()
def run() -> None:
    """Run the server in the foreground until SIGTERM."""
    from notfallserver.server.main import run as run_server

    run_server(load_settings(chosen.config))


@app.command()
def check() -> None:
    """What this machine still lacks: the steps of the set-up, each with its remedy."""
    row = connect().get("/setup")
    if chosen.as_json:
        tell_json(row)
        return
    marks = {"good": "ok", "busy": "under way", "warn": "LOOK", "bad": "MISSING"}
    tell_pairs(
        (
            f"{step['title']}: {marks[step['light']]}",
            "\n".join([*step["words"], *step["remedy"], *_lines(step["lines"][:1])]),
        )
        for step in row["steps"]
    )


def _lines(lines: list[dict[str, Any]]) -> list[str]:
    """What is to be written where."""
    return [f"\n# {file or 'as root:'}\n{text}" for one in lines for file, text in one["parts"]]


@app.command()
def card(
    to: Annotated[Path, typer.Option(metavar="FILE", help="Where the PDF is written.")],
    language: Annotated[str, typer.Option(help="en or de")] = "en",
) -> None:
    """Write the emergency card: a page to be printed and hung up."""
    if language not in ("en", "de"):
        raise typer.BadParameter("the language is en or de")
    content = connect().get_bytes("/card.pdf", language=language)
    to.write_bytes(content)
    tell(f"The card is in {to}. Print it and hang it up.")


@app.command()
def status() -> None:
    """The running server: pool, primaries by state, jobs."""
    row = connect().get("/status")
    if chosen.as_json:
        tell_json(row)
        return
    pool = row["pool"]
    states = ", ".join(f"{count} {state}" for state, count in sorted(row["states"].items()))
    tell_pairs(
        (
            ("version", row["version"]),
            ("started", ago(row["started_at"])),
            ("page", ", ".join(row["urls"])),
            ("pool", f"{pool['path']}: {size(pool['free'])} of {size(pool['size'])} free"),
            ("filesystem", f"{pool['filesystem']}, reflink: {'yes' if pool['reflink'] else 'NO'}"),
            (
                "versions",
                "protected against change" if pool["protected"] else "NOT protected against change",
            ),
            ("primaries", states or "none"),
            ("running jobs", str(row["running_jobs"])),
            *(
                ("DAMAGED versions", str(row["damaged_versions"]))
                for _ in [0]
                if row["damaged_versions"]
            ),
            ("CA's fingerprint", row["fingerprint"]),
        )
    )


EXIT_CODES = {"good": 0, "warn": 1, "bad": 2}


@app.command()
def health() -> None:
    """Whether this server is ready for the worst day. Exit code: 0 good, 1 look at it, 2 bad."""
    row = connect().get_whatever("/health", 503)
    if chosen.as_json:
        tell_json(row)
    else:
        marks = {"good": "ok", "warn": "LOOK", "bad": "BAD"}
        tell_table(
            ("", "WHAT", "FOUND", "WHAT TO DO"),
            (
                (marks[one["grade"]], one["title"], one["words"], one["remedy"])
                for one in row["findings"]
            ),
            "Nothing was looked at yet.",
        )
    raise typer.Exit(EXIT_CODES[row["grade"]])


@app.command()
def settings(
    witness: Annotated[
        list[str] | None,
        typer.Option(help="An address that always answers; replaces all; several times."),
    ] = None,
    further_url: Annotated[
        list[str] | None,
        typer.Option(
            help="https://HOST:PORT, where agents look for this server as well, such as a machine "
            "that is to replace it; replaces all; several times."
        ),
    ] = None,
    reset: Annotated[
        list[str] | None, typer.Option(metavar="KEY", help="Follow the settings file again.")
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=NUMBER", help="scrub_days=14")
    ] = None,
) -> None:
    """What may be changed while the server runs; no option: show. The file stays as it is."""
    body: dict[str, object] = {}
    for one in set_ or []:
        key, _, value = one.partition("=")
        if not value.isdecimal():
            raise typer.BadParameter(f"'{one}' is not KEY=NUMBER")
        body[key] = int(value)
    if witness:
        body["witnesses"] = witness
    if further_url:
        body["further_urls"] = further_url
    if reset:
        body["reset"] = reset
    api = connect()
    row = api.post("/settings", body) if body else api.get("/settings")
    if chosen.as_json:
        tell_json(row)
        return
    values = {
        **row["values"],
        "witnesses": ", ".join(row["values"]["guard"]["witnesses"]),
        "further_urls": ", ".join(row["values"]["further_urls"]),
    }
    tell_pairs(
        (key, f"{values[key]}{' (changed)' if key in row['changed'] else ''}")
        for key in row["changeable"]
    )
