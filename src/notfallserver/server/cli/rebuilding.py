"""Making a lost emergency server again: the steps of ``notfall server rebuild``, in their order."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from notfallserver.server.addresses import address_urls, host_addresses, own_urls, server_names
from notfallserver.server.authority import Authority, create_authority
from notfallserver.server.cli.install import write_settings
from notfallserver.server.cycle import rebuild
from notfallserver.server.host.files import discard_tree
from notfallserver.server.offload.own import IN_POOL, put_back, read_told
from notfallserver.server.offload.place import Kind, Place
from notfallserver.server.offload.places import Places
from notfallserver.server.offload.restic import Snapshot
from notfallserver.server.offload.vault import FOLDER, open_repository, open_vault
from notfallserver.server.pool.store import Pool
from notfallserver.server.ready_pool import ready_pool
from notfallserver.server.records import open_catalogue
from notfallserver.server.settings import Settings
from notfallserver.wire.errors import NotfallError

Ask = Callable[[str], bool]
WORK = ".rebuild"
"""Beside the data directory's own, while a place is read; gone afterwards."""
_SFTP = re.compile(r"sftp://([^@/]+)@([^:/]+)(?::(\d+))?/(.+)")


@dataclass(frozen=True)
class Rebuilt:
    """``queued``: primaries whose newest version the server brings when it runs. ``known``: False
    where nothing but the pool's names was left, so that agents must be invited again."""

    settings_file: str
    urls: tuple[str, ...]
    agents_call: tuple[str, ...]
    primaries: tuple[str, ...]
    outage: tuple[str, ...]
    queued: tuple[str, ...]
    known: bool


@dataclass(frozen=True)
class Source:
    """An off-load place as it is named on the command line."""

    place: Place
    secrets: Mapping[str, str]
    key: str
    ssh_key: Path | None = None


def read_source(text: str, secrets: Mapping[str, str], key: str, ssh_key: Path | None) -> Source:
    """A directory; ``disk:UUID``; ``sftp://USER@HOST[:PORT]/PATH``; ``s3:URL/BUCKET/FOLDER``;
    ``rest:URL``."""
    name = f"rebuilt-from-{datetime.now():%Y%m%d-%H%M%S}"
    if text.startswith("disk:"):
        place = Place("", name, Kind.DISK, disks=(text[5:],))
    elif found := _SFTP.fullmatch(text):
        user, host, port, path = found.groups()
        place = Place(
            "", name, Kind.SFTP, host=host, user=user, port=int(port or 22), path=f"/{path}"
        )
    elif text.startswith(("s3:", "rest:")):
        kind, _, url = text.partition(":")
        parts = urlsplit(url)
        base = f"{parts.scheme}://{parts.netloc}"
        place = Place("", name, Kind(kind), url=base, path=parts.path.strip("/"))
    else:
        path = Path(text).absolute()
        path = path.parent if path.name == FOLDER else path
        place = Place("", name, Kind.DIRECTORY, path=str(path))
    return Source(place, secrets, key, ssh_key)


def rebuild_from_place(
    settings_file: Path,
    wished: Mapping[str, Any],
    source: Source,
    only: Sequence[str],
    although_alive: bool,
    ask: Ask,
) -> Rebuilt:
    """Catalogue, CA and settings from an off-load; versions follow by jobs."""
    data_dir, pool = _places_of(settings_file, wished)
    rebuild.refuse_over_existing(data_dir, pool, from_pool=False)
    data_dir.mkdir(mode=0o711, parents=True, exist_ok=True)
    work = data_dir / WORK
    discard_tree(work)
    work.mkdir(mode=0o700)
    try:
        places = Places(work)
        place, _ = places.add(source.place, source.secrets, source.key)
        _let_in(places, place, source, ask)
        with open_vault(places, place, "", lambda: None) as vault:
            contents = open_repository(vault, make=False)
            own = next((one for one in contents if not one.primary), None)
            if own is None:
                raise NotfallError(
                    "not-off-loaded",
                    "The place holds versions, but no emergency server.",
                    "Set up a new server and bring versions back one by one: notfall offload "
                    "restore.",
                    status=404,
                )
            vault.restic.restore(own.id, [], work / "own")
            disk = vault.disk
        told = read_told(work / "own")
        ca = (work / "own" / "data" / "ca" / "ca.pem").read_text()
        _refuse_alive(told["urls"], ca, although_alive, ask)
        settings = _settle_settings(settings_file, told["settings"], wished, data_dir, pool)
        ready_pool(settings)
        put_back(work / "own", settings.data_dir, settings.pool_path)
        kept = _take_over(places, place, Places(settings.data_dir))
        return _finish(
            settings_file, settings, told["urls"], contents, {"place": kept.id, "disk": disk}, only
        )
    finally:
        discard_tree(work)


def rebuild_from_pool(
    settings_file: Path, wished: Mapping[str, Any], although_alive: bool, ask: Ask
) -> Rebuilt:
    """From a pool that survived: with the copy of the server in it, else from names alone."""
    data_dir, pool = _places_of(settings_file, wished)
    rebuild.refuse_over_existing(data_dir, pool, from_pool=True)
    image = data_dir / "pool.img"
    if image.exists() or settings_file.exists():
        settings = write_settings(settings_file, _plain({**wished, "data_dir": data_dir}))
        ready_pool(settings)
    own = pool / IN_POOL
    if not own.exists() and not Pool(pool).primaries():
        raise NotfallError(
            "pool-empty",
            f"The pool {pool} holds nothing.",
            "Mount its disks there, or name it with --pool-path. If it is lost, rebuild from an "
            "off-load: --from PLACE",
            status=404,
        )
    told: dict[str, Any] = read_told(own) if own.exists() else {"urls": [], "settings": {}}
    if own.exists():
        ca = (own / "data" / "ca" / "ca.pem").read_text()
        _refuse_alive(told["urls"], ca, although_alive, ask)
    settings = _settle_settings(settings_file, told["settings"], wished, data_dir, pool)
    ready_pool(settings)
    settings.data_dir.mkdir(mode=0o711, parents=True, exist_ok=True)
    if own.exists():
        put_back(own, settings.data_dir, settings.pool_path)
    else:
        create_authority(settings.data_dir / "ca")
    return _finish(settings_file, settings, told["urls"], [], {}, (), known=own.exists())


def _places_of(settings_file: Path, wished: Mapping[str, Any]) -> tuple[Path, Path]:
    """Data directory and pool of the server that is to be; not yet written anywhere."""
    told = dict(wished)
    if settings_file.exists():
        known = write_settings(settings_file, _plain(wished))
        return known.data_dir, known.pool_path
    data_dir = Path(told.get("data_dir") or Settings().data_dir)
    return data_dir, Path(told.get("pool_path") or data_dir / "pool")


def _plain(wished: Mapping[str, Any]) -> dict[str, str | int | Path]:
    return {key: one for key, one in wished.items() if one is not None}


def _settle_settings(
    path: Path, old: Mapping[str, Any], wished: Mapping[str, Any], data_dir: Path, pool: Path
) -> Settings:
    """The lost server's settings in a new file, with what is other on this machine."""
    if path.exists():
        return write_settings(path, {})
    values = {**old, **_plain(wished), "data_dir": data_dir, "pool_path": pool}
    values["urls"] = still_own(values.get("urls", ()))
    guard = values.pop("guard", {})
    lines = [f"{key} = {_toml(one)}" for key, one in sorted(values.items()) if one is not None]
    if guard:
        lines += ["", "[guard]", *(f"{key} = {_toml(one)}" for key, one in guard.items())]
    return write_settings(path, {}, lines)


def still_own(urls: Sequence[str]) -> list[str]:
    """Without the lost machine's numbers: who is asked there is not this machine. A name may lead
    here by now."""
    here = set(host_addresses(""))

    def leads_elsewhere(host: str) -> bool:
        try:
            return host not in here and not ip_address(host).is_loopback
        except ValueError:
            return False

    return [one for one in urls if not leads_elsewhere(urlsplit(one).hostname or "")]


def _toml(value: Any) -> str:
    """JSON's texts, numbers, truths and lists are TOML's."""
    return json.dumps(str(value) if isinstance(value, Path) else value, ensure_ascii=False)


def _let_in(places: Places, place: Place, source: Source, ask: Ask) -> None:
    """An SFTP server must know a key of this machine, and this machine the server's."""
    if place.kind is not Kind.SFTP:
        return
    if source.ssh_key is not None:
        shutil.copyfile(source.ssh_key, places.folder(place) / "ssh" / "key")
        (places.folder(place) / "ssh" / "key").chmod(0o600)
    told = places.trust_host(place)
    wanted = f"The SFTP server shows this key:\n{told}\n"
    if source.ssh_key is None:
        wanted += f"It must let in this key:\n{places.public_key(place)}\n"
    if not ask(f"{wanted}Is that right?"):
        raise NotfallError("not-confirmed", "Nothing was done.", "Begin again when you are sure.")


def _refuse_alive(urls: Sequence[str], ca: str, although_alive: bool, ask: Ask) -> None:
    """Two servers of one identity would both give orders to the same agents."""
    if not although_alive and (alive := rebuild.find_alive(urls, ca)):
        raise NotfallError(
            "server-alive",
            f"The emergency server that is to be made again still answers at {alive}.",
            "Switch it off first: two of them would start stand-ins beside each other. If you know "
            "better, say so: --although-alive",
            status=409,
        )
    if not ask(
        "The lost emergency server must never run again as it was: two with one identity would "
        "start stand-ins beside each other. Is it off for good, or its disks out?"
    ):
        raise NotfallError("not-confirmed", "Nothing was done.", "Begin again when you are sure.")


def _take_over(source: Places, place: Place, places: Places) -> Place:
    """The place that was read is a place of the new server, unless it was one of the old."""
    for one in places.all():
        same = one.shown == place.shown or set(one.disks) & set(place.disks)
        if one.kind is place.kind and same:
            return one
    target = places.folder(place)
    places.root.mkdir(mode=0o700, exist_ok=True)
    shutil.copytree(source.folder(place), target, ignore=shutil.ignore_patterns("cache", "mnt"))
    places.keep_key(place)  # whoever typed it has it
    return place


def _finish(
    settings_file: Path,
    settings: Settings,
    urls: Sequence[str],
    contents: Sequence[Snapshot],
    parameters: Mapping[str, Any],
    only: Sequence[str],
    known: bool = True,
) -> Rebuilt:
    authority = Authority(settings.data_dir / "ca")
    authority.ensure_server_certificate(server_names(settings))
    catalogue = open_catalogue(settings.data_dir)
    pool = Pool(settings.pool_path)
    try:
        catalogue.sessions.keep_cli_token(settings.data_dir / "cli-token")
        pool.sweep()
        settled = rebuild.settle(catalogue, pool)
        further = settings.changed(catalogue.preferences.all()).further_urls
        queued = rebuild.order_restores(catalogue, contents, parameters, only) if contents else []
    finally:
        catalogue.close()
    names = settled.primaries or tuple(name for _, name in pool.primaries())
    return Rebuilt(
        settings_file=str(settings_file),
        urls=address_urls(settings) or own_urls(settings),
        agents_call=tuple(dict.fromkeys((*urls, *further))),
        primaries=names,
        outage=settled.outage,
        queued=tuple(queued),
        known=known,
    )
