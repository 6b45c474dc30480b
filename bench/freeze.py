"""How short the frozen moment is with a million files while an application writes.

    python -m bench.freeze [--filesystem ext4 --filesystem xfs] [--files 1000000]

A disk of 20 GiB on a loop device with so many small files; the writer (:mod:`bench.writer`) works
all the time; the real agent and server make a first version and then two later ones. What counts
is the longer freeze of the two. How long the application waited at most is told for each run, and
for the time without one before each. One more run is watched by strace to tell what the moment went
to. Adds its figures to bench/results.json.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

from bench.figures import Sheet
from bench.filling import Filling
from bench.machine import describe
from bench.ours import Agent, Measured, Server
from bench.parts import parts_of, watched
from bench.sample import SampleDisk
from bench.writer import Writer

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / "build" / "bench-freeze"
FILESYSTEMS = ("ext4", "xfs")
SIZE = 20 << 30
"""ext4 has an inode for each 16 KiB, so a million files fit."""
FILES = 1_000_000
NOISE = 64 << 20
LATER = 2
PAUSE_S = 10.0
"""The application alone, before each run: new files and logs for the run to find."""


def measure(sheet: Sheet, filesystem: str, files: int) -> None:
    name = f"{_short(files)}_files_{filesystem}"
    with ExitStack() as cleanup:
        began = time.monotonic()
        disk = SampleDisk(WORK, SIZE, Filling(noise=NOISE, files=files), filesystem)
        sample = cleanup.enter_context(disk)
        print(f"{filesystem}: {files} files in {time.monotonic() - began:.0f} s", flush=True)
        server = cleanup.enter_context(Server(WORK))
        server.rest()
        agent = cleanup.enter_context(Agent(server, WORK, f"freeze-{filesystem}", sample.device))
        spread = sorted((sample.tree / "small").iterdir())
        writer = cleanup.enter_context(Writer(sample.tree / "logs", spread))
        calm: list[float] = []
        waits: list[float] = []

        def replicate() -> Measured:
            writer.longest_ms()
            time.sleep(PAUSE_S)
            calm.append(writer.longest_ms())
            run = agent.replicate()
            waits.append(writer.longest_ms())
            return run

        first = replicate()
        later = [replicate() for _ in range(LATER)]
        freezes = [one.manifest.freeze_ms for one in later]
        sheet.add(f"freeze_ms_{name}", [max(freezes)], "ms")
        sheet.add(f"freeze_all_ms_{name}", freezes, "ms")
        sheet.add(f"freeze_first_ms_{name}", [first.manifest.freeze_ms], "ms")
        sheet.add(f"freeze_first_run_s_{name}", [first.seconds], "s")
        sheet.add(f"freeze_run_s_{name}", [one.seconds for one in later], "s")
        read = [one.manifest.bytes_read / 2**20 for one in later]
        sheet.add(f"freeze_run_read_mib_{name}", read, "MiB")
        sheet.add(f"freeze_stall_ms_{name}", waits[1:], "ms")
        sheet.add(f"freeze_stall_first_ms_{name}", waits[:1], "ms")
        sheet.add(f"freeze_stall_calm_ms_{name}", calm, "ms")
        sheet.add(f"freeze_agent_peak_mib_{name}", [agent.peak_mib()], "MiB")
        with watched(agent.process.pid, WORK / "strace") as lines:
            replicate()
        for part, spent in asdict(parts_of(lines)).items():
            sheet.add(f"freeze_part_{part}_ms_{name}", [spent], "ms")


def _short(files: int) -> str:
    return f"{files // 1_000_000}m" if files % 1_000_000 == 0 else str(files)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.freeze", description=__doc__)
    parser.add_argument("--filesystem", choices=FILESYSTEMS, action="append")
    parser.add_argument("--files", type=int, default=FILES)
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(143))
    sheet = Sheet("freeze")
    for filesystem in given.filesystem or FILESYSTEMS:
        measure(sheet, filesystem, given.files)
    sheet.write(describe())
    return 0


if __name__ == "__main__":
    sys.exit(main())
