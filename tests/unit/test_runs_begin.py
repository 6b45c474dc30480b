"""Two runs of one primary that begin at the same moment."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

from notfallserver.server.cycle.normal.runs import Runs
from notfallserver.server.pool.known import KnownContent
from notfallserver.server.pool.store import Pool
from notfallserver.wire.facts import Disk, Machine


def test_of_two_that_begin_at_once_the_later_one_has_the_work(tmp_path: Path) -> None:
    """The first is of an agent that was killed just after it had asked."""
    pool = Pool(tmp_path / "pool")
    runs = Runs(pool, KnownContent(pool))
    disk = Disk("sda", 1 << 20)
    body = {"machine": Machine(hostname="shop", firmware="bios", disks=[disk]).to_json()}
    try:
        for _ in range(20):
            primary = str(uuid.uuid4())
            together = Barrier(3)

            def begin(primary: str = primary, together: Barrier = together) -> str:
                together.wait(10)
                return str(runs.begin(primary, "shop", body)["run"])

            with ThreadPoolExecutor(3) as threads:
                begun = [threads.submit(begin) for _ in range(3)]
                told = {one.result() for one in begun}
            run = runs.of_primary(primary)
            assert run is not None and run.id in told
    finally:
        runs.close()
