"""Off-load and restore against restic alone on the same files, and rebuilding a lost server.

``python -m bench.offload`` (as root) adds its figures to ``bench/results.json``. A version of one
disk, a quarter of it used (half of that compresses), is off-loaded to a directory; then one with
1 % of its used blocks changed; then the first is brought back into an empty pool. Beside each, the
same restic does the same with the raw image alone, into a repository of its own. Then 20 small
primaries are off-loaded, and a lost server is made again from that: until its catalogue is there,
and until all 20 versions are back.
"""

from __future__ import annotations

import os
import random
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from uuid import uuid4

from bench.figures import Sheet
from bench.machine import cold, describe
from notfallserver.server.authority import create_authority
from notfallserver.server.cli.rebuilding import read_source, rebuild_from_place
from notfallserver.server.cycle.means import Means
from notfallserver.server.cycle.offloads.desk import Offloads
from notfallserver.server.cycle.runner import JobRunner
from notfallserver.server.host.mount import unmount_image
from notfallserver.server.host.run import run
from notfallserver.server.offload.place import Kind, Place
from notfallserver.server.offload.vault import FOLDER
from notfallserver.server.pool.incoming import utc_now
from notfallserver.server.pool.setup import prepare_pool
from notfallserver.server.pool.store import Pool, PrimaryStore
from notfallserver.server.pool.version import Manifest, Version, check_version
from notfallserver.server.records import open_catalogue
from notfallserver.server.records.jobs import Job
from notfallserver.server.settings import load_settings
from notfallserver.wire.blocks import BLOCK, hash_block
from notfallserver.wire.facts import Disk, Machine
from notfallserver.wire.frames import PLAIN, write_blocks

ROOT = Path(__file__).parents[1]
WORK = ROOT / "build" / "offload"
MIB, GIB = 1 << 20, 1 << 30
SIZE, USED = 4 * GIB, GIB
PRIMARIES, SMALL = 20, 8 * MIB
BATCH = 32
SHOWN = "a disk of 4 GiB, 1 GiB of it used; 20 primaries of 8 MiB"


def content(number: int, turn: int = 0) -> bytes:
    noise = random.Random(number * 7 + turn).randbytes(BLOCK)
    return noise if number % 2 else noise[: BLOCK // 8] * 8


def add_version(store: PrimaryStore, size: int, numbers: Sequence[int], turn: int = 0) -> Version:
    newest = store.newest()
    incoming = store.open_incoming("bench", [Disk("vda", size)])
    with incoming:
        for at in range(0, len(numbers), BATCH):
            blocks = [(one, content(one, turn)) for one in numbers[at : at + BATCH]]
            entries = [(one, hash_block(data)) for one, data in blocks]
            incoming.receive(write_blocks(0, entries, b"".join(data for _, data in blocks), PLAIN))
    return incoming.seal(
        Manifest(
            primary=store.uuid,
            name="bench",
            stamp=store.fresh_stamp(),
            kind="replication",
            consistency="filesystem",
            base=newest.stamp if newest else "",
            machine=Machine("bench", disks=[Disk("vda", size)]),
            disks=(),
            started_at=utc_now(),
            sealed_at=utc_now(),
        )
    )


class House:
    """As much of a server as off-loads need."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "notfall.toml"
        self.settings = load_settings(self.file)
        prepare_pool(self.settings.pool_path, self.settings.data_dir / "pool.img", 16 * GIB)
        self.catalogue = open_catalogue(self.settings.data_dir)
        self.pool = Pool(self.settings.pool_path)
        means = SimpleNamespace(
            settings=self.settings,
            catalogue=self.catalogue,
            pool=self.pool,
            place=prepare_pool(self.settings.pool_path, self.settings.data_dir / "pool.img", 0),
            urls=("https://127.0.0.1:1",),
            present=lambda: self.settings,
        )
        self.runner = JobRunner(self.catalogue.jobs, self.catalogue.journal)
        self.offloads = Offloads(cast(Means, means), self.runner, self._move)
        self.offloads.register()
        self.runner.register("prepare", lambda _: None)

    def _move(self, primary: str, event: Any, who: str, why: str = "", details: Any = None) -> None:
        self.catalogue.primaries.move(primary, "new", "normal", event, who, why, details)

    def add(self, name: str) -> PrimaryStore:
        uuid = str(uuid4())
        self.catalogue.primaries.adopt_primary(uuid, name, None, "", "normal", 0, 0)
        return self.pool.add_primary(uuid, name)

    def done(self, job: Job) -> None:
        over = self.runner.wait(job.id, 3600)
        if over.state != "done":
            raise RuntimeError(f"{over.kind}: {over.error}")

    def close(self) -> None:
        self.catalogue.close()
        unmount_image(self.settings.pool_path)


def new_house(name: str) -> House:
    folder = WORK / name
    (folder / "data").mkdir(parents=True)
    (folder / "notfall.toml").write_text(
        f'data_dir = "{folder}/data"\npool_path = "{folder}/data/pool"\n'
    )
    create_authority(folder / "data" / "ca")
    return House(folder)


def took(what: Callable[[], object]) -> float:
    cold()
    began = time.monotonic()
    what()
    os.sync()
    return time.monotonic() - began


def stored(folder: Path) -> float:
    return sum(one.stat().st_size for one in folder.rglob("*") if one.is_file()) / MIB


class Alone:
    """restic on the raw image, as one would use it without us."""

    def __init__(self) -> None:
        self.folder = WORK / "alone"
        self._told = {
            "RESTIC_PASSWORD": "x",
            "RESTIC_REPOSITORY": str(self.folder),
            "RESTIC_CACHE_DIR": str(WORK / "cache"),
        }
        self("init")

    def __call__(self, *line: str, cwd: Path | None = None) -> None:
        run(["restic", *line], environment=self._told, timeout=3600, cwd=cwd)

    def backup(self, version: Version) -> Callable[[], None]:
        return lambda: self("backup", ".", cwd=version.path)


def measure(sheet: Sheet) -> None:
    house, alone = new_house("one"), Alone()
    away = WORK / "away"
    away.mkdir()
    house.offloads.add(Place("", "away", Kind.DIRECTORY, str(away)), {}, "", "bench")
    store = house.add("bench")
    clustered = [first + one for first in range(0, SIZE // BLOCK, 1024) for one in range(256)]
    first = add_version(store, SIZE, clustered)
    run_now = lambda: house.done(house.offloads.run("away", "bench"))  # noqa: E731
    for step in ("full", "changed"):
        version = first
        if step == "changed":
            some = [one for one in clustered if one % 1024 < 8 and one // 1024 % 3 == 0]
            version = add_version(store, SIZE, some, turn=1)
        before = stored(away / FOLDER) if step == "changed" else 0.0
        alone_before = stored(alone.folder)
        ours, peer = took(run_now), took(alone.backup(version))
        sheet.add(f"offload_{step}_s", [ours], "s")
        sheet.add(f"offload_{step}_restic_s", [peer], "s")
        sheet.compare(f"offload_{step}_vs_restic", [ours], [peer])
        sheet.add(f"offload_{step}_stored_mib", [stored(away / FOLDER) - before], "MiB")
        sheet.add(f"offload_{step}_restic_stored_mib", [stored(alone.folder) - alone_before], "MiB")
    for version in store.versions():
        store.remove_version(version.stamp)
    ours = took(lambda: house.done(house.offloads.restore("away", store.uuid, "bench")))
    if check_version(store.need_newest()):
        raise RuntimeError("what came back is not right")
    target = house.settings.pool_path / "alone"
    peer = took(lambda: alone("restore", "latest", "--target", str(target)))
    sheet.add("offload_restore_s", [ours], "s")
    sheet.add("offload_restore_restic_s", [peer], "s")
    sheet.compare("offload_restore_vs_restic", [ours], [peer])
    house.close()
    _measure_rebuild(sheet)


def _measure_rebuild(sheet: Sheet) -> None:
    house = new_house("many")
    away = WORK / "away20"
    away.mkdir()
    _, key = house.offloads.add(Place("", "away", Kind.DIRECTORY, str(away)), {}, "", "bench")
    for number in range(PRIMARIES):
        store = house.add(f"server{number}")
        add_version(store, SMALL, range(number, SMALL // BLOCK))
    house.done(house.offloads.run("away", "bench"))
    house.close()
    file = WORK / "again" / "notfall.toml"
    source = read_source(str(away), {}, key, None)
    wished = {"data_dir": WORK / "again" / "data"}
    sheet.add(
        "rebuild_20_catalogue_s",
        [took(lambda: rebuild_from_place(file, wished, source, (), False, lambda _: True))],
        "s",
    )
    again = House(WORK / "again")

    def all_back() -> None:
        for job in again.runner.resume_unfinished():
            again.done(job)

    sheet.add("rebuild_20_versions_s", [took(all_back)], "s")
    again.close()


def main() -> None:
    if os.geteuid() != 0:
        sys.exit("It mounts a pool: run it as root.")
    shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir(parents=True)
    sheet = Sheet("offload")
    try:
        measure(sheet)
        setting = describe()
        sheet.write({**setting, "size": SHOWN, "programs": run(["restic", "version"]).out.strip()})
    finally:
        for one in ("one", "many", "again"):
            unmount_image(WORK / one / "data" / "pool")
        shutil.rmtree(WORK, ignore_errors=True)


if __name__ == "__main__":
    main()
