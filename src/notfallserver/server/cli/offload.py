"""``notfall offload``: copies carried to other places, checked there, brought back."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from notfallserver.server.cli.actions import Follow
from notfallserver.server.cli.api import connect
from notfallserver.server.cli.following import begin_job
from notfallserver.server.cli.show import ago, chosen, tell, tell_json, tell_table

app = typer.Typer(help="Copies carried to other places, encrypted.", no_args_is_help=True)
places = typer.Typer(help="Where copies are carried to.", no_args_is_help=True)
app.add_typer(places, name="place")

Name = Annotated[str, typer.Argument(metavar="PLACE", help="See 'notfall offload place list'.")]
Only = Annotated[
    list[str] | None, typer.Option("--primary", help="Only this primary; several times.")
]
Times = Annotated[
    list[str] | None, typer.Option("--at", metavar="HH:MM", help="Each day; several times.")
]
Keep = Annotated[
    list[str] | None,
    typer.Option(metavar="RULE=NUMBER", help="last, daily, weekly, monthly, yearly; several times"),
]
Disk = Annotated[str, typer.Option(help="The UUID of the disk, where there are several.")]
Version = Annotated[str, typer.Option(help="A version's stamp; left out: the newest.")]


@places.command("list")
def list_places() -> None:
    """All places, and how they stand."""
    rows = connect().get("/offload/places")
    if chosen.as_json:
        tell_json(rows)
        return
    table = [
        (
            one["name"],
            one["shown"],
            one["standing"].upper() if one["standing"] in _BAD else one["standing"],
            ago(one["done_at"]) if one["done_at"] else "never",
            one["next_at"] or ("when plugged in" if one["kind"] == "disk" else "by hand"),
        )
        for one in rows
    ]
    tell_table(("PLACE", "WHERE", "STANDS", "LAST", "NEXT"), table, "There is no place yet.")
    for one in rows:
        for medium in one["media"]:
            if medium["problem"] or medium["check_problem"]:
                tell(f"{one['name']} {medium['disk']}: {medium['told']}")
        if not one["key_kept"]:
            tell(f"{one['name']}: print its key and put it away: notfall offload place key")


_BAD = ("failed", "damaged", "overdue")


@places.command()
def add(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What you call it.")],
    directory: Annotated[Path | None, typer.Option(help="A directory, such as a mount.")] = None,
    disk: Annotated[
        list[str] | None,
        typer.Option(help="UUID of a removable disk's filesystem (blkid); several in rotation."),
    ] = None,
    sftp: Annotated[
        str | None, typer.Option(metavar="USER@HOST[:PORT]", help="With --path.")
    ] = None,
    s3: Annotated[
        str | None, typer.Option(metavar="URL", help="With --path BUCKET/FOLDER.")
    ] = None,
    rest: Annotated[
        str | None, typer.Option(metavar="URL", help="A REST server of restic.")
    ] = None,
    path: Annotated[str, typer.Option(help="The folder there.")] = "",
    region: Annotated[str, typer.Option(help="Of S3.")] = "",
    secrets_file: Annotated[
        Path | None,
        typer.Option(
            help="Lines NAME=VALUE: access_key, secret_key of S3; user_name, password of REST."
        ),
    ] = None,
    key_file: Annotated[
        Path | None, typer.Option(help="The key of what lies there already; else one is made.")
    ] = None,
    primary: Only = None,
    at: Times = None,
    keep: Keep = None,
    every_version: Annotated[bool, typer.Option(help="All versions, not only the newest.")] = False,
    append_only: Annotated[bool, typer.Option(help="It lets nothing be removed.")] = False,
    check_days: Annotated[int, typer.Option(min=0, help="Check it so often; 0: by hand.")] = 7,
) -> None:
    """Add a place. Its key is told once: print it and put it away, far from this machine."""
    body: dict[str, Any] = {"name": name, "path": path, "region": region}
    kinds = {"directory": directory, "disk": disk, "sftp": sftp, "s3": s3, "rest": rest}
    named = [kind for kind, value in kinds.items() if value]
    if len(named) != 1:
        raise typer.BadParameter("say one of --directory, --disk, --sftp, --s3, --rest")
    body["kind"] = named[0]
    if directory:
        body["path"] = str(directory.absolute())
    if disk:
        body["disks"] = disk
    if sftp:
        user, _, rest_of = sftp.rpartition("@")
        host, _, port = rest_of.partition(":")
        body |= {"user": user, "host": host, "port": int(port) if port.isdecimal() else 22}
    if s3 or rest:
        body["url"] = s3 or rest
    if secrets_file:
        body["secrets"] = read_lines(secrets_file)
    if key_file:
        body["key"] = key_file.read_text().strip()
    body |= _rules(primary, at, keep, every_version, append_only, check_days)
    made = connect().post("/offload/places", body)
    if chosen.as_json:
        tell_json(made)
        return
    tell(f"The place {name} is added. Its key, told this once:\n\n    {made['key']}\n")
    tell("Print it and put it away, not on this machine: without it nobody reads what lies there.")
    tell(f"When it lies safe: notfall offload place key {name} --kept")
    if made["place"]["public_key"]:
        tell(f"The SFTP server must let in this key:\n{made['place']['public_key']}")
        tell(f"Then: notfall offload place trust {name}")


@places.command()
def change(
    name: Name,
    primary: Only = None,
    at: Times = None,
    keep: Keep = None,
    every_version: Annotated[bool, typer.Option(help="All versions, not only the newest.")] = False,
    append_only: Annotated[bool, typer.Option(help="It lets nothing be removed.")] = False,
    check_days: Annotated[int, typer.Option(min=0, help="Check it so often; 0: by hand.")] = 7,
) -> None:
    """Other rules for a place: those that are given here replace all that were."""
    body = _rules(primary, at, keep, every_version, append_only, check_days)
    row = connect().post(f"/offload/places/{name}", body)
    if chosen.as_json:
        tell_json(row)
        return
    tell(f"{name} has these rules now.")


@places.command()
def remove(name: Name) -> None:
    """Forget a place and its key; what lies there stays."""
    connect().post(f"/offload/places/{name}/remove")
    tell(f"{name} is forgotten. What lies there can be read with its printed key.")


@places.command()
def key(
    name: Name,
    kept: Annotated[bool, typer.Option("--kept", help="It was printed and put away.")] = False,
) -> None:
    """Show the key, or say that it is kept."""
    api = connect()
    if kept:
        api.post(f"/offload/places/{name}/key-kept")
        tell("It is not shown on the page any more.")
        return
    told = api.post(f"/offload/places/{name}/key")
    if chosen.as_json:
        tell_json(told)
        return
    print(told["key"])


@places.command()
def trust(name: Name) -> None:
    """Trust the keys that an SFTP server shows now; compare them with its own."""
    told = connect().post(f"/offload/places/{name}/trust")
    if chosen.as_json:
        tell_json(told)
        return
    tell(told["known_host"])


@app.command()
def run(
    name: Name,
    primary: Only = None,
    version: Version = "",
    every: Annotated[bool, typer.Option("--all-versions", help="Not only the newest.")] = False,
    deep: Annotated[bool, typer.Option(help="Read all, whatever is known.")] = False,
    disk: Disk = "",
    follow: Follow = False,
) -> None:
    """Carry copies there now; what lies there already is not carried again."""
    api = connect()
    body = {"primaries": primary or [], "version": version, "every": every, "deep": deep}
    begin_job(api, api.post(f"/offload/places/{name}/run", {**body, "disk": disk}), follow)


@app.command("list")
def list_contents(
    name: Name,
    disk: Disk = "",
    fresh: Annotated[bool, typer.Option(help="Ask the place now.")] = False,
) -> None:
    """What a place holds."""
    wanted = {"disk": disk, "fresh": "true" if fresh else "false"}
    rows = connect().get(f"/offload/places/{name}/contents", **wanted)
    if chosen.as_json:
        tell_json(rows)
        return
    table = [
        (one["name"] or "the server itself", one["version"] or one["taken_at"]) for one in rows
    ]
    tell_table(("PRIMARY", "VERSION"), table, "It holds nothing, as far as is known.")


@app.command()
def check(
    name: Name,
    whole: Annotated[bool, typer.Option(help="Read all that lies there.")] = False,
    disk: Disk = "",
    follow: Follow = False,
) -> None:
    """Read a part of what lies there, and bring samples back."""
    api = connect()
    body = {"whole": whole, "disk": disk}
    begin_job(api, api.post(f"/offload/places/{name}/check", body), follow)


@app.command()
def restore(
    name: Name,
    primary: Annotated[str, typer.Argument(metavar="PRIMARY")],
    version: Version = "",
    number: Annotated[
        int | None, typer.Option("--disk-number", min=0, help="Only this disk, from 0; with --to.")
    ] = None,
    to: Annotated[Path | None, typer.Option(help="A new raw file on this machine.")] = None,
    disk: Disk = "",
    follow: Follow = False,
) -> None:
    """Bring a version back into the pool; or one disk of it as a file."""
    if (number is None) != (to is None):
        raise typer.BadParameter("--disk-number and --to belong together")
    api = connect()
    body: dict[str, Any] = {"primary": primary, "version": version, "disk": disk}
    if to is not None:
        body |= {"number": number, "to": str(to.absolute())}
        begin_job(api, api.post(f"/offload/places/{name}/fetch", body), follow)
        return
    begin_job(api, api.post(f"/offload/places/{name}/restore", body), follow)


def _rules(
    primary: list[str] | None,
    at: list[str] | None,
    keep: list[str] | None,
    every_version: bool,
    append_only: bool,
    check_days: int,
) -> dict[str, Any]:
    kept: dict[str, int] = {}
    for one in keep or []:
        rule, _, number = one.partition("=")
        if not number.isdecimal():
            raise typer.BadParameter(f"'{one}' is not RULE=NUMBER")
        kept[rule] = int(number)
    return {
        "primaries": primary or [],
        "times": at or [],
        "keep": kept,
        "every_version": every_version,
        "append_only": append_only,
        "check_days": check_days,
    }


def read_lines(path: Path) -> dict[str, str]:
    """Lines NAME=VALUE: what must not stand in a command line."""
    try:
        text = path.read_text()
    except OSError as error:
        print(f"{path}: {error.strerror}", file=sys.stderr)
        raise typer.Exit(1) from None
    pairs = (one.partition("=") for one in text.splitlines() if "=" in one)
    return {name.strip(): value.strip() for name, _, value in pairs}
