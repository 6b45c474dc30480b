"""The job that checks versions against their block index.

All versions of a primary, the newest first; each is compared with the one checked before it, so
that what they share is read once. Damage is written down when it is seen, before anything else; at
the end of each version the pool is searched for copies (``care``). How far the check is stands in
the job's notes: after a restart of the server it goes on there.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from notfallserver.server.cycle.care import Care
from notfallserver.server.cycle.means import Means
from notfallserver.server.cycle.runner import JobContext, JobRunner
from notfallserver.server.host.files import discard_tree
from notfallserver.server.pool.health import Health
from notfallserver.server.pool.incoming import utc_now
from notfallserver.server.pool.mend import mend_index
from notfallserver.server.pool.repair import repair_size
from notfallserver.server.pool.scrub import Twin, check_blocks, files_fit, index_fits
from notfallserver.server.pool.store import PrimaryStore
from notfallserver.server.pool.version import DiskImage, Version
from notfallserver.server.records import Catalogue
from notfallserver.server.records.jobs import Jobs
from notfallserver.wire.blocks import Run

URGENT = ("activate", "switch_back")
"""While one of these runs for any primary, the disks are theirs."""
NOTE_EVERY_S = 10.0
KINDRED = 4
"""So many other versions' indices are asked when one must be mended."""


@dataclass
class Counts:
    """What a check did so far; bytes and blocks."""

    versions: int = 0
    bytes_checked: int = 0
    bytes_read: int = 0
    damaged_blocks: int = 0
    repaired_blocks: int = 0
    left_blocks: int = 0
    damaged_versions: int = 0
    unreadable_versions: int = 0


@dataclass
class Pace:
    """Keeps a job to ``rate`` bytes a second (0: none), and out of the way of urgent work."""

    ctx: JobContext
    jobs: Jobs
    rate: int
    due: float = field(default_factory=time.monotonic)
    looked: float = 0.0

    def spend(self, read: int) -> None:
        """Wait as long as ``read`` bytes cost; raises when the job shall end."""
        self.ctx.check()
        now = time.monotonic()
        if self.rate:
            self.due = max(self.due, now - 1) + read / self.rate
            if self.due > now:
                self.ctx.sleep(self.due - now)
        if now - self.looked > 1:
            self.looked = now
            while {job.kind for job in self.jobs.unfinished()} & {*URGENT}:
                self.ctx.progress("waiting for other work")
                self.ctx.sleep(1)


@dataclass(frozen=True)
class Scrub:
    """The job function."""

    means: Means
    runner: JobRunner
    care: Care

    def register(self) -> None:
        self.runner.register("scrub", self.scrub)

    def scrub(self, ctx: JobContext) -> dict[str, Any]:
        store = self.means.pool.primary(ctx.primary)
        only = ctx.parameters.get("version")
        counts = Counts(**ctx.notes.get("counts", {}))
        versions = [store.version(only)] if only else store.versions()
        total = sum(one.bytes_used for one in versions)
        pace = Pace(ctx, self.means.catalogue.jobs, self.means.present().scrub_mib_s << 20)
        twin: Twin | None = None
        for version in versions:
            health = store.health.of(version.stamp)
            if not _checked_since(health, ctx.job.created_at):
                check = _Check(
                    self.means.catalogue, self.care, ctx, store, version, counts, pace, total
                )
                try:
                    check.run(twin)
                except FileNotFoundError:
                    if files_exist(version):
                        raise
                    continue  # it was removed meanwhile
                counts.versions += 1
                ctx.note(counts=asdict(counts), at=None)
            twin = Twin(version, store.health.of(version.stamp).blocks)
        if not only:
            self.care.tell_lost(store)
            counts.unreadable_versions = self._tell_unreadable(store, ctx.job.who)
            store.health.complete(utc_now())
        self.care.show(store)
        return asdict(counts)

    def _tell_unreadable(self, store: PrimaryStore, who: str) -> int:
        """Versions whose manifest is broken are not listed anywhere; say that they are there."""
        readable = {one.stamp for one in store.versions()}
        broken = [
            one.parent.name
            for one in store.paths.versions.glob("*/manifest.json")
            if one.parent.suffix != ".discarded" and one.parent.name not in readable
        ]
        for stamp in broken:
            self.means.catalogue.journal.write(
                store.uuid, "version-unreadable", who, "its manifest is broken", {"version": stamp}
            )
        return len(broken)


@dataclass
class _Check:
    """The check of one version within a job."""

    catalogue: Catalogue
    care: Care
    ctx: JobContext
    store: PrimaryStore
    version: Version
    counts: Counts
    pace: Pace
    total: int
    noted: float = field(default_factory=time.monotonic)

    def run(self, twin: Twin | None) -> None:
        health, stamp = self.store.health, self.version.stamp
        at = self.ctx.notes.get("at") or {}
        disk, start = at.get("place", (0, 0)) if at.get("version") == stamp else (0, 0)
        for image in self.version.manifest.disks:
            if image.index >= disk:
                self._check_disk(image, twin, start if image.index == disk else 0)
        self.counts.damaged_blocks += health.of(stamp).count
        self.care.tell_damage(self.store, self.version, self.ctx.job.who)
        repaired = self.care.repair(self.store, self.version, self.ctx.job.who)
        self.counts.repaired_blocks += repaired
        self.counts.left_blocks += health.of(stamp).count
        self.counts.damaged_versions += health.of(stamp).damaged
        health.change(stamp, lambda one: replace(one, checked_at=utc_now()))
        self.care.show(self.store)

    def _check_disk(self, image: DiskImage, twin: Twin | None, start: int) -> None:
        if not start:
            self._check_files(image)
        with closing(check_blocks(self.version, image, twin, start)) as stretches:
            for one in stretches:
                self._record(image.index, one.first, one.count, one.bad)
                self.counts.bytes_checked += one.used
                self.counts.bytes_read += one.read
                self.ctx.progress(
                    "checking", min(self.counts.bytes_checked, self.total), self.total
                )
                if time.monotonic() - self.noted > NOTE_EVERY_S:
                    self.noted = time.monotonic()
                    place = (image.index, one.first + one.count)
                    at = {"version": self.version.stamp, "place": place}
                    self.ctx.note(at=at, counts=asdict(self.counts))
                self.pace.spend(one.read)

    def _record(self, disk: int, first: int, count: int, bad: list[Run]) -> None:
        def found(one: Health) -> Health:
            return one.with_checked(disk, first, count, bad)

        known = self.store.health.of(self.version.stamp)
        if found(known) != known:
            self.store.health.change(self.version.stamp, found)
            self.care.show(self.store)

    def _check_files(self, image: DiskImage) -> None:
        """Length of the files, and the index as a whole; what is wrong is mended here."""
        whole = files_fit(self.version, image)
        if not whole:
            if not files_exist(self.version):
                raise FileNotFoundError(self.version.path)
            with self.store.writable(self.version):
                repair_size(self.version, image)
            self._tell_repair(f"the files of disk {image.index} had not their length", image)
        right = index_fits(self.version, image)
        if not right:
            self.store.health.change(
                self.version.stamp, lambda one: one.with_index(image.index, False)
            )
            right = self._mend(image)
        known = self.store.health.of(self.version.stamp)
        if image.index in known.indexes and right:
            self.store.health.change(
                self.version.stamp, lambda one: one.with_index(image.index, True)
            )
            self._tell_repair(f"the block index of disk {image.index}", image)

    def _tell_repair(self, what: str, image: DiskImage) -> None:
        details = {"version": self.version.stamp, "disk": image.index}
        self.catalogue.journal.write(
            self.store.uuid, "version-repaired", self.ctx.job.who, what, details
        )

    def _mend(self, image: DiskImage) -> bool:
        with self._workplace() as directory, self.store.writable(self.version):
            others = [
                one.idx(image.index)
                for one in _nearest(self.store, self.version)
                if any(
                    other.index == image.index and other.size == image.size
                    for other in one.manifest.disks
                )
            ]

            def read(count: int) -> None:
                self.counts.bytes_read += count
                self.ctx.progress("mending the index")
                self.pace.spend(count)

            return mend_index(self.version, image, others[:KINDRED], directory, read)

    @contextmanager
    def _workplace(self) -> Iterator[Path]:
        directory = self.store.paths.work / "scrub"
        discard_tree(directory)
        directory.mkdir(parents=True)
        try:
            yield directory
        finally:
            discard_tree(directory)


def files_exist(version: Version) -> bool:
    """Whether the version is still there at all."""
    return (version.path / "manifest.json").exists()


def _nearest(store: PrimaryStore, version: Version) -> list[Version]:
    """The other versions, those taken next to it first."""
    others = [one for one in store.versions() if one.stamp != version.stamp]
    later = [one for one in reversed(others) if one.stamp > version.stamp]
    earlier = [one for one in others if one.stamp < version.stamp]
    mixed = [one for pair in zip(later, earlier, strict=False) for one in pair]
    return mixed + later[len(earlier) :] + earlier[len(later) :]


def _checked_since(health: Health, moment: datetime) -> bool:
    return bool(health.checked_at) and datetime.fromisoformat(health.checked_at) >= moment
