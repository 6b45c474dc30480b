"""What a past costs: thirty daily versions with 1 % change a day, and what accounting for it costs.

``python -m bench.retention [--gib 2] [--days 30]`` (as root) adds its figures to
``bench/results.json``. The pool is an XFS image of its own; versions are made as a replication
makes them, of blocks that are scattered over the disk. The ideal is the first version and the
changed blocks, nothing else. Then the rules go over it: what they say is freed against what is.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

from bench.figures import Sheet
from bench.machine import cold, describe
from notfallserver.server.cycle.retention.plan import Past, plan_retention
from notfallserver.server.cycle.retention.rules import Rules
from notfallserver.server.host.mount import make_xfs, mount_image, unmount_image
from notfallserver.server.host.places import places_of
from notfallserver.server.host.run import run
from notfallserver.server.pool import layout
from notfallserver.server.pool.accounting import Accounts, files_of
from notfallserver.server.pool.incoming import utc_now
from notfallserver.server.pool.store import Pool, PrimaryStore
from notfallserver.server.pool.version import Manifest, Version
from notfallserver.wire.blocks import BLOCK, hash_block
from notfallserver.wire.facts import Disk, Machine
from notfallserver.wire.frames import PLAIN, write_blocks

WORK = Path(__file__).resolve().parent.parent / "build" / "bench-retention"
AT_ONCE = 64
RULES = Rules(all_hours=24, hourly=0, daily=7, weekly=4, monthly=1, yearly=1)
REPEAT = 3


@contextmanager
def pool(gib: int) -> Iterator[Pool]:
    shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir(parents=True)
    image, place = WORK / "pool.img", WORK / "pool"
    make_xfs(image, gib << 30)
    mount_image(image, place)
    try:
        yield Pool(place)
    finally:
        unmount_image(place)
        shutil.rmtree(WORK)


def occupied(pool: Pool) -> int:
    """Bytes in use, when all is written: with what the filesystem sets aside for writes to come."""
    run(["sync", "-f", pool.root], timeout=600)
    told = os.statvfs(pool.root)
    return (told.f_blocks - told.f_bfree) * told.f_frsize


def settled(pool: Pool) -> int:
    """The same, when nothing is set aside and all that was removed is free."""
    for how in ("ro", "rw"):
        run(["mount", "-o", f"remount,{how}", pool.root], timeout=600)
    return occupied(pool)


def make_version(
    store: PrimaryStore, size: int, numbers: Sequence[int], day: datetime, source: random.Random
) -> Version:
    with store.open_incoming("bench", [Disk("vda", size)]) as incoming:
        for start in range(0, len(numbers), AT_ONCE):
            blocks = {one: source.randbytes(BLOCK) for one in numbers[start : start + AT_ONCE]}
            entries = [(one, hash_block(content)) for one, content in blocks.items()]
            incoming.receive(write_blocks(0, entries, b"".join(blocks.values()), PLAIN))
    return incoming.seal(
        Manifest(
            primary=store.uuid,
            name="bench",
            stamp=layout.make_stamp(day),
            kind="replication",
            consistency="filesystem",
            base="",
            machine=Machine("bench", disks=[Disk("vda", size)]),
            disks=(),
            started_at=utc_now(),
            sealed_at=utc_now(),
        )
    )


def measure(sheet: Sheet, gib: int, days: int) -> None:
    size, source = gib << 30, random.Random(1)
    count = size // BLOCK
    changed = count // 100
    begin = datetime.now(UTC) - timedelta(days=days)
    with pool(2 * gib + 2) as ground:
        store = ground.add_primary(str(uuid4()), "bench")
        empty = settled(ground)
        make_version(store, size, range(count), begin, source)
        for day in range(1, days):
            numbers = sorted(source.sample(range(count), changed))
            make_version(store, size, numbers, begin + timedelta(days=day), source)
        used = occupied(ground) - empty
        aside = used - (settled(ground) - empty)
        ideal = (count + (days - 1) * changed) * BLOCK
        sheet.add("retention_days_ideal_mib", [ideal / 2**20], "MiB")
        sheet.add("retention_days_used_mib", [used / 2**20], "MiB")
        sheet.add("retention_days_used_share", [used / ideal], "x")
        sheet.add("retention_set_aside_mib", [aside / 2**20], "MiB")

        versions = store.versions()
        extents = sum(len(places_of(one.raw(0))) for one in versions)
        sheet.add("retention_extents", [extents], "extents")
        past = [Past(one.stamp) for one in versions]
        plan = plan_retention(past, RULES, datetime.now(UTC))
        going = [path for stamp in plan.going for path in files_of(store, stamp)]
        each = {one.stamp: files_of(store, one.stamp) for one in versions}
        first, again = [], []
        for _ in range(REPEAT):
            accounts = Accounts(ground.root)
            cold()
            began = time.monotonic()
            told = accounts.alone({"": going})[""]
            first.append(time.monotonic() - began)
            began = time.monotonic()
            accounts.alone(each)
            again.append(time.monotonic() - began)
        sheet.add("retention_preview_s", first, "s")
        sheet.add("retention_preview_each_s", again, "s")
        before = settled(ground)
        for stamp in plan.going:
            store.remove_version(stamp)
        freed = before - settled(ground)
        sheet.add("retention_gone", [len(plan.going)], "versions")
        sheet.add("retention_told_mib", [told / 2**20], "MiB")
        sheet.add("retention_freed_mib", [freed / 2**20], "MiB")
        sheet.add("retention_told_of_freed", [told / freed], "x")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.retention", description=__doc__)
    parser.add_argument("--gib", type=int, default=2)
    parser.add_argument("--days", type=int, default=30)
    given = parser.parse_args()
    sheet = Sheet("retention")
    measure(sheet, given.gib, given.days)
    told = {"disk": f"{given.gib} GiB, all in use", "days": str(given.days), "change": "1 % a day"}
    sheet.write({**describe(), **told})
    return 0


if __name__ == "__main__":
    sys.exit(main())
