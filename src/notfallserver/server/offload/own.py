"""The server itself, as it is carried away and kept in the pool: all that a new machine needs to be
this server again::

    self.json            when, under which addresses, the settings
    data/                catalogue.db (a consistent copy), ca/, drivers/, fence/, checks/,
                         evidence/, offload/ (places with their keys)
    pool/<uuid>/         primary.json, health.json, proofs.json, pins.json

It holds the CA's key, passwords' hashes, secrets of second factors and keys of places: its copies
are encrypted by the engine, and in the pool for root alone (0700). The disks of all servers lie
beside it there: whoever can read those has the company already.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from notfallserver.server.host.files import discard_tree, read_json, rename_durably, replace_json
from notfallserver.server.pool import layout
from notfallserver.wire.errors import NotfallError

FORMAT = 1
IN_POOL = ".server"
CATALOGUE = "catalogue.db"
TOLD = "self.json"
_FOLDERS = ("ca", "drivers", "fence", "checks", "evidence")
_RECORDS = (layout.PRIMARY, layout.HEALTH, layout.PROOFS, layout.PINS)
_OF_PLACES = ("place.json", "password", "secrets.json", "state.json", "ssh")


def stage_server(
    folder: Path,
    data_dir: Path,
    pool: Path,
    settings: Mapping[str, Any],
    urls: Sequence[str],
) -> None:
    """Copy the server's own into ``folder``, which is made (0700)."""
    folder.mkdir(mode=0o700, parents=True)
    data = folder / "data"
    data.mkdir(mode=0o700)
    for name in _FOLDERS:
        if (data_dir / name).is_dir():
            shutil.copytree(data_dir / name, data / name, symlinks=True)
    _copy_places(data_dir / "offload", data / "offload")
    copy_catalogue(data_dir / CATALOGUE, data / CATALOGUE)
    for record in sorted(pool.glob(f"*/{layout.PRIMARY}")):
        kept = folder / "pool" / record.parent.name
        kept.mkdir(mode=0o700, parents=True)
        for name in _RECORDS:
            if (record.parent / name).exists():
                shutil.copy2(record.parent / name, kept / name)
    told = {
        "format": FORMAT,
        "at": datetime.now(UTC).isoformat(),
        "urls": list(urls),
        "settings": dict(settings),
    }
    replace_json(folder / TOLD, told)


def _copy_places(source: Path, target: Path) -> None:
    for place in sorted(source.glob("*/place.json")):
        kept = target / place.parent.name
        kept.mkdir(mode=0o700, parents=True)
        for name in _OF_PLACES:
            one = place.parent / name
            if one.is_dir():
                shutil.copytree(one, kept / name)
            elif one.exists():
                shutil.copy2(one, kept / name)


def copy_catalogue(source: Path, target: Path) -> None:
    """A consistent copy of a catalogue that is in use."""
    handle = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    os.close(handle)
    with (
        closing(sqlite3.connect(source, timeout=60)) as old,
        closing(sqlite3.connect(target)) as new,
    ):
        old.backup(new)
        new.execute("PRAGMA journal_mode=DELETE").close()


def keep_in_pool(
    data_dir: Path, pool: Path, settings: Mapping[str, Any], urls: Sequence[str]
) -> None:
    """Replace the copy that lies in the pool."""
    unfinished, kept = pool / f"{IN_POOL}.new", pool / IN_POOL
    discard_tree(unfinished)
    stage_server(unfinished, data_dir, pool, settings, urls)
    os.sync()
    discard_tree(kept)
    rename_durably(unfinished, kept)


def read_told(folder: Path) -> dict[str, Any]:
    """What a copy says of the server; an unknown format is refused."""
    told = read_json(folder / TOLD)
    if told.get("format") != FORMAT:
        raise NotfallError(
            "unknown-format", "This was written by a newer server.", "Update this server."
        )
    return told


def put_back(folder: Path, data_dir: Path, pool: Path) -> None:
    """Lay a copy out as data directory and records of the pool; what is there already stays."""
    for source in sorted((folder / "data").iterdir()):
        target = data_dir / source.name
        if source.name == CATALOGUE:
            continue  # it is last: with it the server counts as made
        if source.is_dir():
            shutil.copytree(source, target, symlinks=True, dirs_exist_ok=True)
            target.chmod(0o700)
        else:
            shutil.copy2(source, target)
    for kept in sorted((folder / "pool").glob("*")):
        layout.PrimaryPaths.of(pool, kept.name).make()
        for one in kept.iterdir():
            target = pool / kept.name / one.name
            if not target.exists():
                shutil.copy2(one, target)
    unfinished = data_dir / f".{CATALOGUE}.new"
    shutil.copy2(folder / "data" / CATALOGUE, unfinished)
    os.sync()
    rename_durably(unfinished, data_dir / CATALOGUE)
