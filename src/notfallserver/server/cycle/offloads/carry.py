"""The job that carries versions, and the server itself, to a place.

What lies there already is not carried again, and of a version only what changed is read. Killed at
any instant it begins again: what the engine had carried is found there.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from typing import Any

from notfallserver.server.cycle.means import Means
from notfallserver.server.cycle.runner import JobContext
from notfallserver.server.host.files import discard_tree
from notfallserver.server.offload.own import keep_in_pool, stage_server
from notfallserver.server.offload.place import Medium, Place
from notfallserver.server.offload.places import Places
from notfallserver.server.offload.restic import (
    OURS,
    SERVER,
    SERVER_HOST,
    VERSION,
    Snapshot,
    Summary,
)
from notfallserver.server.offload.segments import stage_version
from notfallserver.server.offload.vault import (
    Vault,
    choose_disk,
    keep_contents,
    open_repository,
    open_vault,
)
from notfallserver.server.pool.layout import stamp_time
from notfallserver.server.pool.store import PrimaryStore
from notfallserver.server.pool.version import Version
from notfallserver.server.records.primaries import Primary
from notfallserver.wire.errors import NotfallError

log = logging.getLogger(__name__)

PRUNE_EVERY = timedelta(days=1)
STAGING = "offload"
"""In a primary's ``work``: always the same path, so that the engine finds what it knows."""
TIME = "%Y-%m-%d %H:%M:%S"


@dataclass(frozen=True)
class Load:
    """One version that is to be carried."""

    row: Primary
    store: PrimaryStore
    version: Version


def offload(means: Means, places: Places, ctx: JobContext) -> dict[str, Any]:
    """The job; ``place``, and perhaps ``disk``, ``primaries``, ``version``, ``deep``."""
    place = places.find(ctx.parameters["place"])
    disk = choose_disk(place, ctx.parameters.get("disk", ""))
    places.note(place, disk, lambda one: replace(one, tried_at=_now()))
    try:
        with open_vault(
            places, place, disk, ctx.check, lambda: ctx.progress("waiting for the place")
        ) as vault:
            result, broken = _carry_all(means, vault, ctx)
        added = result["bytes_added"]
        places.note(
            place,
            disk,
            lambda one: replace(
                one, done_at=_now(), problem="", told="", added=added, distrusted=False
            ),
        )
        if broken:  # the others were carried, and are not again before their time
            raise broken[0]
    except NotfallError as error:
        told, code = str(error), error.code
        places.note(place, disk, lambda one: replace(one, problem=code, told=told[:500]))
        means.catalogue.journal.write(
            None, "offload-failed", ctx.job.who, told, {"place": place.name, "code": code}
        )
        raise
    means.catalogue.journal.write(
        None, "offload-done", ctx.job.who, details={"place": place.name, **result}
    )
    return result


def _carry_all(
    means: Means, vault: Vault, ctx: JobContext
) -> tuple[dict[str, Any], list[NotfallError]]:
    """What was carried, and why what was not."""
    places, place, disk = vault.places, vault.place, vault.disk
    ctx.progress("opening the place")
    contents = open_repository(vault, make=True)
    known = places.medium(place, disk)
    if known.unclean:
        ctx.progress("finding what has arrived before")
        try:
            vault.restic.find_written()
        except NotfallError as error:  # where nothing may be removed
            log.warning("%s: %s", place.name, error)
    deep = ctx.parameters.get("deep") is True or known.distrusted
    loads, broken = _wanted(means, place, contents, ctx.parameters, deep)
    total = sum(one.version.bytes_used for one in loads)
    done = added = 0
    carried = []
    places.note(place, disk, lambda one: replace(one, unclean=True))
    for load in loads:
        try:
            summary = _carry(means, vault, ctx, load, contents, _progress(ctx, load, done, total))
        except NotfallError as error:
            if error.code.startswith("offload"):
                raise
            log.warning("%s: %s", load.row.name, error)
            broken.append(error)
            continue
        finally:
            done += load.version.bytes_used
        added += summary.added
        carried.append({"primary": load.row.uuid, "version": load.version.stamp})
        contents.insert(
            0, Snapshot(summary.snapshot, _now(), load.row.uuid, load.version.stamp, load.row.name)
        )
    ctx.progress("carrying the server itself")
    summary = _carry_server(means, vault, contents)
    added += summary.added
    contents.insert(0, Snapshot(summary.snapshot, _now()))
    places.note(place, disk, lambda one: replace(one, unclean=False))
    if place.keep.rules and not place.append_only:
        _clear(vault, known, ctx)
        contents = vault.restic.snapshots()
    keep_contents(places, place, disk, contents)
    return {"versions": carried, "bytes_added": added, "disk": disk}, broken


def _wanted(
    means: Means,
    place: Place,
    contents: Sequence[Snapshot],
    wish: dict[str, Any],
    deep: bool,
) -> tuple[list[Load], list[NotfallError]]:
    """What is to be carried, and what can't be."""
    there = set() if deep else {(one.primary, one.stamp) for one in contents}
    only = set(wish.get("primaries") or place.primaries)
    loads: list[Load] = []
    broken: list[NotfallError] = []
    for row in means.catalogue.primaries.all():
        if only and row.uuid not in only:
            continue
        store = means.pool.add_primary(row.uuid, row.name)
        try:
            found = _versions(store, place, wish)
        except NotfallError as error:
            broken.append(error)
            continue
        for version in found:
            if (row.uuid, version.stamp) in there:
                continue
            if store.health.of(version.stamp).damaged:
                broken.append(
                    NotfallError(
                        "version-damaged",
                        f"Version {version.stamp} of {row.name} is damaged and was not carried.",
                        "It is repaired with the next replication; then it is carried.",
                        status=409,
                    )
                )
                continue
            loads.append(Load(row, store, version))
    return loads, broken


def _versions(store: PrimaryStore, place: Place, wish: dict[str, Any]) -> list[Version]:
    if wish.get("version"):
        return [store.version(wish["version"])]
    if place.every_version or wish.get("every"):
        return list(reversed(store.versions()))
    best = store.best()
    return [best] if best else []


def _progress(ctx: JobContext, load: Load, before: int, total: int) -> Callable[[int, int], None]:
    most = load.version.bytes_used

    def tell(done: int, _: int) -> None:
        ctx.progress("carrying versions away", before + min(done, most), total)

    return tell


def _carry(
    means: Means,
    vault: Vault,
    ctx: JobContext,
    load: Load,
    contents: Sequence[Snapshot],
    progress: Callable[[int, int], None],
) -> Summary:
    uuid, stamp = load.row.uuid, load.version.stamp
    if not means.place.reflink:
        free, _ = means.pool.free()
        if free < load.version.bytes_used * 1.1:
            raise NotfallError(
                "no-room-to-stage",
                "This pool can't share blocks, so an off-load needs room for one more copy of "
                f"{load.row.name}, and there is too little.",
                "Make room, or put the pool on XFS or Btrfs.",
                status=507,
            )
    folder = load.store.paths.work / STAGING
    discard_tree(folder)
    progress(0, 0)
    try:
        stage_version(load.version, folder)
        before = [one for one in contents if one.primary == uuid]
        older = next((one for one in before if one.stamp <= stamp), None)
        parent = older or (before[0] if before else None)
        deep = ctx.parameters.get("deep") is True
        return vault.restic.backup(
            folder,
            uuid,
            [OURS, VERSION, f"stamp={stamp}", f"name={load.row.name}"],
            f"{stamp_time(stamp):{TIME}}",
            parent.id if parent else "",
            progress,
            deep or vault.places.medium(vault.place, vault.disk).distrusted,
        )
    except FileNotFoundError as error:
        raise NotfallError(
            "unknown-version",
            f"Version {stamp} of {load.row.name} was removed meanwhile ({error.filename}).",
            "The next off-load carries the newest one.",
            retry=True,
            status=404,
        ) from None
    finally:
        discard_tree(folder)


def _carry_server(means: Means, vault: Vault, contents: Sequence[Snapshot]) -> Summary:
    folder = vault.places.folder(vault.place) / "own"
    discard_tree(folder)
    try:
        stage_server(folder, *own_of(means))
        parent = next((one.id for one in contents if not one.primary), "")
        moment = f"{datetime.now(timezone.utc):{TIME}}"
        tags = [OURS, SERVER]
        return vault.restic.backup(
            folder, SERVER_HOST, tags, moment, parent, lambda done, total: None
        )
    finally:
        discard_tree(folder)


def own_of(means: Means) -> tuple[Any, Any, dict[str, Any], Sequence[str]]:
    """What :func:`stage_server` asks of this server."""
    settings = json.loads(means.settings.model_dump_json(exclude_defaults=True))
    return means.settings.data_dir, means.pool.root, settings, means.urls


def keep_own(means: Means) -> None:
    """The copy in the pool, from which a lost data directory is made again."""
    keep_in_pool(*own_of(means))


def _clear(vault: Vault, known: Medium, ctx: JobContext) -> None:
    """Forget what the rules don't keep; room is made once a day, because that reads a lot."""
    ctx.progress("removing what is old")
    last = known.pruned_at
    prune = not last or datetime.now(timezone.utc) - datetime.fromisoformat(last) >= PRUNE_EVERY
    vault.restic.forget(vault.place.keep.rules, prune)
    if prune:
        vault.places.note(vault.place, vault.disk, lambda one: replace(one, pruned_at=_now()))


def _now() -> str:
    return datetime.now(timezone.utc).isoformat()
