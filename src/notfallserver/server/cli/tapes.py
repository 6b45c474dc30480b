"""``notfall tape``: versions on tapes, in archive files and through pipes."""

from __future__ import annotations

import os
import select
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

from notfallserver.server.cli.actions import Follow
from notfallserver.server.cli.api import Api, connect
from notfallserver.server.cli.following import begin_job, follow_job
from notfallserver.server.cli.show import chosen, local, size, tell, tell_json, tell_table

app = typer.Typer(
    help="Versions on tape, in tar archives or through a pipe, over as many media as it takes.",
    no_args_is_help=True,
)

Identity = Annotated[
    Path | None, typer.Option(metavar="FILE", help="With the secret key, where it is encrypted.")
]
Overwrite = Annotated[
    str,
    typer.Option(
        metavar="WHAT", help="What may be given up on it: its label or set, foreign, unreadable."
    ),
]


@app.command("write")
def write(
    to: Annotated[
        str, typer.Argument(metavar="WHERE", help="/dev/nst0, a directory, a new file, a pipe, -")
    ],
    primaries: Annotated[
        list[str], typer.Argument(metavar="NAME[@VERSION]...", help="Without: the newest version.")
    ],
    label: Annotated[str, typer.Option(help="What is written on the media's boxes.")] = "",
    volume: Annotated[
        int, typer.Option(metavar="MIB", help="Size of a medium; 0: as much as it takes.")
    ] = 0,
    recipient: Annotated[
        list[str] | None, typer.Option(help="Encrypt for this public key (notfall tape key).")
    ] = None,
    overwrite: Overwrite = "",
    verify: Annotated[bool, typer.Option(help="Read each medium back.")] = True,
    follow: Follow = False,
) -> None:
    """Write versions; the job asks for one medium after another (notfall tape waiting)."""
    api = connect()
    body: dict[str, Any] = {
        "versions": [_chosen(one) for one in primaries],
        "label": label,
        "volume_mib": volume,
        "recipients": recipient or [],
        "overwrite": overwrite,
        "verify": verify,
    }
    if not recipient:
        print("The media are NOT encrypted: whoever has them, has all data.", file=sys.stderr)
    if to == "-":
        _to_stdout(api, body)
        return
    begin_job(api, api.post("/tape/write", {**body, "to": str(Path(to).absolute())}), follow)


def _to_stdout(api: Api, body: dict[str, Any]) -> None:
    """The server writes into a named pipe, which is passed on."""
    with tempfile.TemporaryDirectory(prefix="notfall-tape-") as directory:
        pipe = Path(directory, "pipe")
        os.mkfifo(pipe, 0o600)
        job = api.post("/tape/write", {**body, "to": str(pipe), "verify": False})
        _pass_on(api, job["id"], pipe)
        sys.stdout.buffer.flush()
        out, sys.stdout = sys.stdout, sys.stderr
        try:
            follow_job(api, job["id"])
        finally:
            sys.stdout = out


def _pass_on(api: Api, job: str, pipe: Path) -> None:
    """All that comes; nothing where the job ends before it writes."""
    handle = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        poll = select.poll()
        poll.register(handle, select.POLLIN)
        while True:
            if not poll.poll(1000):
                if api.get(f"/jobs/{job}")["finished_at"]:
                    return
                continue
            part = os.read(handle, 1 << 20)
            if not part:
                return
            sys.stdout.buffer.write(part)
    finally:
        os.close(handle)


def _chosen(text: str) -> dict[str, str]:
    name, _, version = text.partition("@")
    return {"primary": name, "version": version}


@app.command("restore")
def restore(
    source: Annotated[str, typer.Argument(metavar="FROM", help="/dev/nst0, directory, file, pipe")],
    to: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Left out: into the pool, as a version.")
    ] = None,
    primary: Annotated[str, typer.Option(help="Only of this one, by name or UUID.")] = "",
    version: Annotated[str, typer.Option(help="Only this version.")] = "",
    disk: Annotated[int, typer.Option(help="Only this disk, counted from 0.")] = -1,
    identity: Identity = None,
    partial: Annotated[
        bool, typer.Option("--partial", help="Wait for no further medium; say what is missing.")
    ] = False,
    follow: Follow = False,
) -> None:
    """Bring versions back, from the media alone, in whatever order they come."""
    api = connect()
    body = {
        "source": str(Path(source).absolute()),
        "to": str(to.absolute()) if to else "",
        "primary": primary,
        "version": version,
        "disk": disk,
        "identity": str(identity.absolute()) if identity else "",
        "partial": partial,
    }
    begin_job(api, api.post("/tape/restore", body), follow)


@app.command("waiting")
def waiting() -> None:
    """Jobs that wait for a medium."""
    rows = connect().get("/tape/waiting")
    if chosen.as_json:
        tell_json(rows)
        return
    tell_table(
        ("JOB", "WHAT", "MEDIUM", "WHY"),
        (
            (
                row["job"]["id"],
                row["job"]["kind"],
                str(row["medium"] or ", ".join(str(one) for one in row["media"]) or "another"),
                row["cause"] or row["code"],
            )
            for row in rows
        ),
        "No job waits for a medium.",
    )


@app.command("go-on")
def go_on(
    job: Annotated[str, typer.Argument(metavar="JOB")],
    place: Annotated[str, typer.Option("--from", help="Where it is, if elsewhere now.")] = "",
    overwrite: Overwrite = "",
    give_up: Annotated[
        bool, typer.Option("--give-up", help="What is missing in a restore is not to be had.")
    ] = False,
) -> None:
    """The medium that a job waits for is there."""
    where = str(Path(place).absolute()) if place else ""
    body = {"place": where, "overwrite": overwrite, "give_up": give_up}
    connect().post(f"/tape/jobs/{job}/go-on", body)
    tell(f"The job {job} goes on.")


@app.command("list")
def list_sets(
    source: Annotated[
        str, typer.Argument(metavar="[FROM]", help="A medium or directory; left out: the catalogue")
    ] = "",
    identity: Identity = None,
) -> None:
    """What was written from here and lies on which medium; or what a medium tells of itself."""
    api = connect()
    if source:
        key = str(identity.absolute()) if identity else ""
        body = {"source": str(Path(source).absolute()), "identity": key}
        media = api.post("/tape/look", body)
        if chosen.as_json:
            tell_json(media)
            return
        for one in media:
            told = "empty" if not one["set"] else f"medium {one['medium']} of {one['set']}"
            tell(f"{one['place']}: '{one['label']}', {told}, written {local(one['written_at'])}")
            if one["encrypted"] and not one["contents"]:
                tell("  It is encrypted: --identity FILE shows what it holds.")
        sets = {one["set"]: one["contents"] for one in media if one["contents"]}
        rows = list(sets.values())
    else:
        rows = api.get("/tape/sets")
        if chosen.as_json:
            tell_json(rows)
            return
    tell_table(
        ("SET", "LABEL", "WRITTEN", "VERSIONS", "MEDIA", "SIZE"),
        (
            (
                row["set"],
                row["label"],
                local(row["created_at"]),
                ", ".join(f"{one['name']}@{one['version']}" for one in row["versions"]),
                ", ".join(f"{one['number']}: {one['where']}" for one in row["media"]) or "-",
                size(sum(one["bytes"] for one in row["media"])),
            )
            for row in rows
        ),
        "Nothing was written yet." if not source else "",
    )


@app.command("label")
def label_tape(
    device: Annotated[str, typer.Argument(metavar="DEVICE", help="Such as /dev/nst0.")],
    label: Annotated[str, typer.Argument(metavar="LABEL")],
    overwrite: Overwrite = "",
) -> None:
    """Give an empty tape a name, by which the server knows it for one of its own."""
    body = {"device": str(Path(device).absolute()), "label": label, "overwrite": overwrite}
    connect().post("/tape/label", body)
    tell("It has its label.")


@app.command("key")
def make_key() -> None:
    """A new pair of keys for encrypted media. The secret one is shown once and kept nowhere."""
    made = connect().post("/tape/key")
    if chosen.as_json:
        tell_json(made)
        return
    tell(f"public: {made['public']}")
    tell(f"secret: {made['secret']}")
    tell("Print the secret key and lock it away, apart from the media. Without it they are lost.")
