"""The job that checks what lies at a place: the engine's own check, which reads another part each
time, and samples that are brought back and compared with the versions' own hashes."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from notfallserver.server.cycle.means import Means
from notfallserver.server.cycle.runner import JobContext
from notfallserver.server.host.files import discard_tree
from notfallserver.server.offload.bring_back import (
    damaged,
    make_index_of,
    read_manifest,
    wrong_blocks,
)
from notfallserver.server.offload.places import Places
from notfallserver.server.offload.restic import Snapshot
from notfallserver.server.offload.segments import Stretch, stretches_of
from notfallserver.server.offload.vault import Vault, choose_disk, open_repository, open_vault
from notfallserver.server.pool.index import Index
from notfallserver.wire.errors import NotfallError

PARTS = 20
"""After so many checks everything was read."""
SNAPSHOTS = 3
SEGMENTS = 4
"""Of so many versions so many segments are brought back."""
DAMAGE = "offload-damaged"


def check_place(means: Means, places: Places, ctx: JobContext) -> dict[str, Any]:
    """The job; ``place``, and perhaps ``disk`` and ``whole``."""
    place = places.find(ctx.parameters["place"])
    disk = choose_disk(place, ctx.parameters.get("disk", ""))
    places.note(place, disk, lambda one: replace(one, check_tried_at=_now()))
    try:
        with open_vault(
            places, place, disk, ctx.check, lambda: ctx.progress("waiting for the place")
        ) as vault:
            result = _check(vault, ctx)
    except NotfallError as error:
        told = str(error)
        if error.code == DAMAGE:
            places.note(
                place,
                disk,
                lambda one: replace(
                    one, check_problem=DAMAGE, told=told[:500], distrusted=True, checked_at=_now()
                ),
            )
        event = "offload-damaged" if error.code == DAMAGE else "offload-check-failed"
        details = {"place": place.name, "code": error.code}
        means.catalogue.journal.write(None, event, ctx.job.who, told, details)
        raise
    places.note(
        place,
        disk,
        lambda one: replace(
            one, check_problem="", checked_at=_now(), check_part=one.check_part + 1
        ),
    )
    means.catalogue.journal.write(
        None, "offload-checked", ctx.job.who, details={"place": place.name, **result}
    )
    return result


def _check(vault: Vault, ctx: JobContext) -> dict[str, Any]:
    ctx.progress("opening the place")
    contents = open_repository(vault, make=False)
    ctx.progress("reading what lies there")
    known = vault.places.medium(vault.place, vault.disk)
    part, parts = known.check_part % PARTS + 1, PARTS
    if ctx.parameters.get("whole") is True:
        part, parts = 1, 1
    vault.restic.verify(part, parts)
    versions = [one for one in contents if one.primary]
    picked = random.sample(versions, min(SNAPSHOTS, len(versions)))
    samples = 0
    for number, one in enumerate(picked):
        ctx.progress("bringing back samples", number, len(picked))
        samples += _sample(vault, one)
    return {"part": part, "parts": parts, "versions": len(picked), "segments": samples}


def _sample(vault: Vault, snapshot: Snapshot) -> int:
    """Some segments of a version, chosen at random; returns how many."""
    work = vault.places.folder(vault.place) / "sample"
    discard_tree(work)
    got = work / "got"
    got.mkdir(parents=True)

    def fetch(paths: Sequence[str], target: Path, _: int) -> None:
        vault.restic.restore(snapshot.id, paths, target)

    try:
        manifest = read_manifest(got, snapshot.primary, snapshot.stamp, fetch)
        known: list[tuple[Stretch, int]] = []
        for disk in manifest.disks:
            idx = work / f"disk{disk.index}.idx"
            make_index_of(got, disk, idx)
            with Index(idx) as index:
                known += _some(index, disk.index, disk.size)
        wanted = random.sample(known, min(SEGMENTS, len(known)))
        if wanted:
            fetch([f"/{one.path}" for one, _ in wanted], got, 0)
        for one, size in wanted:
            path = got / one.path
            if not path.exists() or path.stat().st_size != one.length(size):
                raise damaged(f"a segment of version {snapshot.stamp} is not whole")
            if wrong := wrong_blocks(one, path.read_bytes()):
                raise damaged(
                    f"{len(wrong)} blocks of version {snapshot.stamp} of {snapshot.name} "
                    "don't fit their hashes"
                )
        return len(wanted)
    finally:
        discard_tree(work)


def _some(index: Index, disk: int, size: int) -> list[tuple[Stretch, int]]:
    """A few stretches of a disk, each as likely as any other, without holding all of them."""
    kept: list[tuple[Stretch, int]] = []
    for seen, one in enumerate(stretches_of(index, disk)):
        if len(kept) < SEGMENTS:
            kept.append((one, size))
        elif (at := random.randrange(seen + 1)) < SEGMENTS:
            kept[at] = (one, size)
    return kept


def _now() -> str:
    return datetime.now(timezone.utc).isoformat()
