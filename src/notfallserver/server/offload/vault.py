"""An opened place: the engine with address, key and secrets of one repository."""

from __future__ import annotations

import json
import shlex
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote, urlsplit

from notfallserver.server.host.files import replace_file, replace_json
from notfallserver.server.offload.place import Kind, Place
from notfallserver.server.offload.places import Places, ssh_config
from notfallserver.server.offload.removable import find_disk, mounted_disk, release_disk
from notfallserver.server.offload.restic import NOTHING_THERE, Restic, Snapshot
from notfallserver.wire.errors import NotfallError

FOLDER = "notfall-offload"
"""What holds the repository in a directory or on a disk."""

_busy: dict[str, threading.Lock] = defaultdict(threading.Lock)


@dataclass(frozen=True)
class Vault:
    """``disk`` is the UUID of the removable disk in use, else empty."""

    place: Place
    disk: str
    restic: Restic
    places: Places

    def contents(self) -> list[Snapshot]:
        """What lies there, the newest first; remembered for whoever asks later."""
        found = self.restic.snapshots()
        keep_contents(self.places, self.place, self.disk, found)
        return found


def choose_disk(place: Place, wanted: str = "") -> str:
    """Which disk of a place is used: the wanted one, else the one that is plugged in."""
    if place.kind is not Kind.DISK:
        return ""
    if wanted:
        if wanted not in place.disks:
            raise NotfallError(
                "no-such-disk",
                f"{wanted[:60]} is no disk of '{place.name}'.",
                f"It has {', '.join(place.disks)}.",
                status=404,
            )
        return wanted
    for one in place.disks:
        if find_disk(one) is not None:
            return one
    raise NotfallError(
        "place-away",
        f"No disk of '{place.name}' is plugged in.",
        "Plug one in.",
        retry=True,
        status=409,
    )


@contextmanager
def open_vault(
    places: Places,
    place: Place,
    disk: str,
    check: Callable[[], None],
    waiting: Callable[[], None] | None = None,
) -> Iterator[Vault]:
    """The place, for one at a time; ``check`` may raise and ends what the engine does just then."""
    lock = _busy[place.id]
    while not lock.acquire(timeout=0.5):
        check()
        if waiting is not None:
            waiting()
    try:
        with ExitStack() as stack:
            folder = places.folder(place)
            disk = choose_disk(place, disk)
            root = Path(place.path)
            if place.kind is Kind.DISK:
                root = stack.enter_context(mounted_disk(disk, folder / "mnt"))
            secrets = places.secrets(place)
            address = address_of(place, root, secrets)
            replace_file(folder / "repository", address.encode())
            if place.kind is Kind.SFTP:  # the data directory may lie elsewhere now
                config = ssh_config(folder / "ssh", place)
                replace_file(folder / "ssh" / "config", config.encode())
            hidden = [*secrets.values(), places.key(place)]
            restic = Restic(
                folder, environment_of(place, secrets), options_of(place, folder), hidden, check
            )
            yield Vault(place, disk, restic, places)
    finally:
        lock.release()


def open_repository(vault: Vault, make: bool) -> list[Snapshot]:
    """What lies in the repository, the newest first; ``make``: a first one is made where none is.

    Locks of an engine that was killed are let go.
    """
    known = vault.places.medium(vault.place, vault.disk)
    if known.unclean:
        vault.restic.unlock()
    try:
        found = vault.contents()
    except NotfallError as error:
        if error.code != NOTHING_THERE or known.made_at or not make:
            raise
        vault.restic.make()
        found = []
    if not known.made_at:
        moment = datetime.now(UTC).isoformat()
        vault.places.note(vault.place, vault.disk, lambda one: replace(one, made_at=moment))
    return found


def address_of(place: Place, root: Path, secrets: Mapping[str, str]) -> str:
    """As the engine wants it."""
    if place.kind in (Kind.DIRECTORY, Kind.DISK):
        if not root.is_dir():
            raise NotfallError(
                "place-away",
                f"{root} is no directory.",
                "Make it, or mount what belongs there.",
                retry=True,
                status=409,
            )
        if place.kind is Kind.DISK:
            root /= place.path.strip("/")
        return str(root / FOLDER)
    path = place.path.strip("/")
    if place.kind is Kind.SFTP:
        return f"sftp:place:{place.path}"
    if place.kind is Kind.S3:
        return f"s3:{place.url.rstrip('/')}/{path}"
    parts = urlsplit(place.url.rstrip("/"))
    host = parts.netloc
    if secrets.get("user_name"):
        who = quote(secrets["user_name"], safe="")
        host = f"{who}:{quote(secrets.get('password', ''), safe='')}@{host}"
    return f"rest:{parts.scheme}://{host}{parts.path}/{path}{'/' if path else ''}"


def environment_of(place: Place, secrets: Mapping[str, str]) -> dict[str, str]:
    if place.kind is not Kind.S3:
        return {}
    told = {
        "AWS_ACCESS_KEY_ID": secrets["access_key"],
        "AWS_SECRET_ACCESS_KEY": secrets["secret_key"],
    }
    return {**told, **({"AWS_DEFAULT_REGION": place.region} if place.region else {})}


def options_of(place: Place, folder: Path) -> Sequence[str]:
    if place.kind is not Kind.SFTP:
        return ()
    command = shlex.join(["ssh", "-F", str(folder / "ssh" / "config"), "place", "-s", "sftp"])
    return ("-o", f"sftp.command={command}")


def keep_contents(places: Places, place: Place, disk: str, found: Sequence[Snapshot]) -> None:
    replace_json(_contents_file(places, place, disk), {"snapshots": [vars(one) for one in found]})


def known_contents(places: Places, place: Place, disk: str = "") -> list[Snapshot]:
    """What lay there when it was looked at last; nothing where it never was."""
    try:
        told = json.loads(_contents_file(places, place, disk).read_bytes())
        return [Snapshot(**one) for one in told["snapshots"]]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def _contents_file(places: Places, place: Place, disk: str) -> Path:
    return places.folder(place) / f"contents{'-' if disk else ''}{disk}.json"


def let_go(places: Places) -> None:
    """At the server's start: disks that its predecessor left mounted."""
    for place in places.all():
        release_disk(places.folder(place) / "mnt")
