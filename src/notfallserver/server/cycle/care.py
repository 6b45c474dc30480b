"""What becomes of damage in versions: journal, repair, and what people are shown.

Damage is written into the pool's record first (see ``pool.health``). What the pool holds a copy of
is repaired at once. The rest waits for the next replication, which asks the primary for those
blocks again; when that version is sealed, :meth:`Care.settle` repairs from it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from notfallserver.server.cycle.means import Means
from notfallserver.server.pool.health import Health
from notfallserver.server.pool.repair import inherited_damage, repair_blocks
from notfallserver.server.pool.store import PrimaryStore
from notfallserver.server.pool.version import Version
from notfallserver.wire.blocks import Run
from notfallserver.wire.errors import NotfallError

log = logging.getLogger(__name__)

TOLD_RUNS = 20
"""The journal names at most so many runs of blocks."""


@dataclass(frozen=True)
class Care:
    """Repairs versions, and keeps journal and catalogue informed of their health."""

    means: Means

    def settle(self, primary: str, stamp: str) -> None:
        """A new version came: what it took over of its base's damage, and what it can repair."""
        store = self.means.pool.primary(primary)
        if not any(one.damaged for one in store.health.all().values()):
            return
        version = store.version(stamp)
        self._take_over(store, version)
        for known, health in store.health.all().items():
            if health.damaged and not health.lost:  # those are looked at by the next check
                try:
                    self.repair(store, store.version(known), "server")
                except (NotfallError, OSError) as error:  # gone, or the pool is full
                    log.warning("version %s could not be repaired: %s", known, error)
        self.tell_lost(store)
        self.show(store)

    def _take_over(self, store: PrimaryStore, version: Version) -> None:
        base = version.manifest.base
        blocks = store.health.of(base).blocks if base else {}
        if not blocks:
            return
        try:
            before = store.version(base)
        except NotfallError:
            return
        for disk, runs in inherited_damage(version, before, blocks).items():
            store.health.change(version.stamp, partial(Health.with_blocks, disk=disk, runs=runs))
        if version.manifest.kind == "capture" and not store.health.of(version.stamp).damaged:
            self.means.catalogue.journal.write(
                store.uuid,
                "damage-in-stand-in",
                "server",
                f"The stand-in may have been started with damage of {base}; what it holds there "
                "is taken as it is.",
                {"version": version.stamp, "base": base, "blocks": _told(blocks)},
            )

    def tell_lost(self, store: PrimaryStore) -> None:
        """Damage that no later run can repair, because the primary holds other content now."""
        newest = store.newest()
        if newest is None or store.health.of(newest.stamp).damaged:
            return
        for stamp, health in store.health.all().items():
            if health.blocks and not health.lost and stamp < newest.stamp:
                store.health.change(stamp, lambda one: replace(one, lost=True))
                self.means.catalogue.journal.write(
                    store.uuid,
                    "version-lost",
                    "server",
                    f"No copy of {health.count} damaged blocks of version {stamp} is left.",
                    {"version": stamp, "count": health.count, "blocks": _told(health.blocks)},
                )

    def repair(self, store: PrimaryStore, version: Version, who: str) -> int:
        """Repair what the pool has copies of; returns the number of blocks."""
        repaired = 0
        journal = self.means.catalogue.journal
        for image in version.manifest.disks:
            health = store.health.of(version.stamp)
            runs = health.blocks.get(image.index, ())
            if not runs or image.index in health.indexes:
                continue  # which blocks are wrong is not known while the index is not
            done = repair_blocks(store, version, image, runs)
            store.health.change(version.stamp, partial(_repaired, disk=image.index, left=done.left))
            if done.repaired:
                repaired += done.repaired
                journal.write(
                    store.uuid,
                    "version-repaired",
                    who,
                    f"{done.repaired} blocks of disk {image.index}, {_count(done.left)} are left",
                    {
                        "version": version.stamp,
                        "disk": image.index,
                        "count": done.repaired,
                        "from": sorted(done.sources),
                        "left": done.left[:TOLD_RUNS],
                    },
                )
        store.health.change(
            version.stamp, lambda one: one if one.damaged else replace(one, told=0, lost=False)
        )
        return repaired

    def tell_damage(self, store: PrimaryStore, version: Version, who: str) -> None:
        """Journal damage that the journal does not know yet."""
        health = store.health.of(version.stamp)
        what = health.count + len(health.indexes)
        if health.damaged and health.told != what:
            store.health.change(version.stamp, lambda one: replace(one, told=what))
            standin = store.standin()
            where = f", block index of disks {list(health.indexes)}" if health.indexes else ""
            if standin is not None and standin.version == version.stamp:
                where += "; the stand-in was made of this version and may hold them as well"
            self.means.catalogue.journal.write(
                store.uuid,
                "version-damaged",
                who,
                f"{health.count} blocks are damaged{where}",
                {
                    "version": version.stamp,
                    "count": health.count,
                    "blocks": _told(health.blocks),
                    "indexes": list(health.indexes),
                },
            )

    def require_sound(self, store: PrimaryStore, stamp: str) -> None:
        """Refuse to bring a version to a target that is known to be damaged."""
        health = store.health.of(stamp)
        if health.damaged:
            raise NotfallError(
                "version-damaged",
                f"{health.count} blocks of the version {stamp} are damaged, and there is no copy.",
                "Check the disks of the emergency server. What the stand-in writes anew becomes "
                "sound: restore the files concerned in it, then begin the recovery again.",
                status=409,
            )

    def tell_use(self, store: PrimaryStore, stamp: str) -> int:
        """A stand-in is made of this version: journal when that isn't the newest, or not sound.

        Returns the number of its damaged blocks.
        """
        newest, health = store.newest(), store.health.of(stamp)
        journal = self.means.catalogue.journal
        if health.damaged:
            why = f"No version is sound: {health.count} blocks of {stamp} are damaged."
            told = {"version": stamp, "count": health.count}
            journal.write(store.uuid, "damaged-version-used", "server", why, told)
        elif newest is not None and newest.stamp > stamp and store.health.of(newest.stamp).damaged:
            why = f"The newest version {newest.stamp} is damaged."
            journal.write(store.uuid, "older-version-used", "server", why, {"version": stamp})
        return health.count

    def show(self, store: PrimaryStore) -> None:
        """Let the catalogue know how many versions are damaged, for lists and the page."""
        there = {one.stamp for one in store.versions()}
        known = store.health.all().items()
        damaged = sum(health.damaged for stamp, health in known if stamp in there)
        if self.means.catalogue.primaries.find(store.uuid).notes.get("damaged", 0) != damaged:
            self.means.catalogue.primaries.note(store.uuid, damaged=damaged or None)


def _repaired(health: Health, disk: int, left: Sequence[Run]) -> Health:
    """Just ``left`` are damaged now; what was prepared before may still hold the damage."""
    return replace(health.with_blocks(disk, left), renew=True)


def _count(runs: Sequence[Run]) -> int:
    return sum(count for _, count in runs)


def _told(blocks: Mapping[int, Sequence[Run]]) -> dict[str, list[Run]]:
    return {str(disk): list(runs)[:TOLD_RUNS] for disk, runs in blocks.items()}
