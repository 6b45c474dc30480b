"""What a replication costs as the volume and the number of files grow.

    python -m bench.growth [--volume 10 --volume 40 --volume 160] [--files 10000 ...]

Volumes (GiB, sparse) hold the same content; the other series has a volume of 20 GiB with more and
more small files. Each point has a disk, a server and an agent of its own: a first copy, the same
overwritten pieces, and then runs after which nothing has changed. Told are time and bytes read of
an unchanged run, the time of the changed one, and the most memory of agent and server from the
first copy on. Adds its figures to bench/results.json; bench.plot draws them.
"""

from __future__ import annotations

import argparse
import signal
import sys
from contextlib import ExitStack
from pathlib import Path

from bench.changes import change
from bench.figures import Sheet
from bench.filling import Filling
from bench.machine import cold, describe, peak_mib, reset_peak
from bench.ours import Agent, Measured, Server
from bench.sample import SampleDisk

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / "build" / "bench-growth"
VOLUMES = (10, 40, 160)
CONTENT = Filling(copied=600 << 20, noise=200 << 20)
FILES = (10_000, 100_000, 1_000_000)
FILES_VOLUME = 20
FILES_NOISE = 100 << 20
PIECES = 160
"""Overwritten pieces of 64 KiB: 10 MiB."""
UNCHANGED = 3


def measure(sheet: Sheet, key: str, gib: int, filling: Filling) -> None:
    """One point; its figures begin with ``key``."""
    print(key, flush=True)
    with ExitStack() as cleanup:
        sample = cleanup.enter_context(SampleDisk(WORK, gib << 30, filling))
        server = cleanup.enter_context(Server(WORK))
        server.rest()
        agent = cleanup.enter_context(Agent(server, WORK, "growth", sample.device))

        def replicate() -> Measured:
            cold()
            return agent.replicate()

        # At its start a server looks after the rescue medium: that has nothing to do with size.
        reset_peak(server.process.pid)
        first = replicate()
        change(sample.tree / "noise", PIECES, seed=1)
        changed = replicate()
        replicate()  # takes in what the freeze itself made the filesystem write
        unchanged = [replicate() for _ in range(UNCHANGED)]
        sheet.add(f"{key}_first_s", [first.seconds], "s")
        sheet.add(f"{key}_changed_s", [changed.seconds], "s")
        sheet.add(f"{key}_unchanged_s", [one.seconds for one in unchanged], "s")
        read = [one.manifest.bytes_read / 2**20 for one in unchanged]
        sheet.add(f"{key}_unchanged_read_mib", read, "MiB")
        sheet.add(f"{key}_agent_peak_mib", [agent.peak_mib()], "MiB")
        sheet.add(f"{key}_server_peak_mib", [peak_mib(server.process.pid)], "MiB")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.growth", description=__doc__)
    parser.add_argument("--volume", type=int, action="append", help="GiB")
    parser.add_argument("--files", type=int, action="append")
    given = parser.parse_args()
    all_of_it = not given.volume and not given.files
    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(143))
    sheet = Sheet("growth")
    for gib in given.volume or (VOLUMES if all_of_it else ()):
        measure(sheet, f"growth_volume_{gib}", gib, CONTENT)
    for files in given.files or (FILES if all_of_it else ()):
        filling = Filling(noise=FILES_NOISE, files=files)
        measure(sheet, f"growth_files_{files}", FILES_VOLUME, filling)
    sheet.write(describe())
    return 0


if __name__ == "__main__":
    sys.exit(main())
