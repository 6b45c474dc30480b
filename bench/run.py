"""Compares us with the peers on one disk and adds the figures to bench/results.json.

    python -m bench.run [--volume 40 --files 100000] [--full 3 --again 3] [--bdsync PROGRAM]

Without options the disk has 4 GiB, and what needs no peer (a thin line, a write load) is measured,
too. A larger volume is sparse and has the same content and as many small files as are missing; its
figures have keys of their own (``..._40gib``).
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from bench import demo
from bench.compare import Comparison
from bench.figures import Sheet
from bench.filling import OFFICE
from bench.machine import describe, peak_mib, versions
from bench.networked import Bdsync, Nbdcopy, NbdcopyTls, find_bdsync
from bench.ours import Server
from bench.peers import Borg, Dd, Peer, Restic, Rsync
from bench.sample import Sample, SampleDisk
from notfallserver.agent.disks.runs import total

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / "build" / "bench"
USUAL_GIB = 4
SHARE = 0.01
BLOCKS_A_PIECE = 1.4
"""So many blocks of the disk a 64 KiB piece of a file touches on average; seen here."""


def main() -> int:
    given = _arguments()
    if os.geteuid():
        print("The benchmark needs root (loop devices, mounts): sudo make bench", file=sys.stderr)
        return 1
    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(143))  # and put all away
    usual = given.volume == USUAL_GIB
    suffix = "" if usual else f"_{given.volume}gib"
    full = given.full or (3 if usual else 1)
    again = given.again or (3 if usual else 2)
    filling = replace(OFFICE, files=given.files)
    if given.content:
        filling = replace(filling, copied=given.content << 19, noise=given.content << 19)
    sheet = Sheet(f"run{suffix}")
    bdsync = find_bdsync(given.bdsync)
    with ExitStack() as cleanup:
        disk = SampleDisk(WORK, given.volume << 30, filling)
        sample = cleanup.enter_context(disk)
        server = cleanup.enter_context(Server(WORK))
        server.rest()
        used = total(sample.used())
        held = f"{given.volume} GiB, {used} blocks of 64 KiB in use, {count_files(sample)} files"
        setting = {**describe(), "versions": versions(bdsync), "disk": held}
        print(held, flush=True)
        peers = _peers(sample, server.pool / "peers", bdsync)
        comparison = Comparison(sheet, server, sample, peers, WORK, suffix)
        agent = comparison.full(full, cleanup)
        pieces = max(1, int(used * SHARE / BLOCKS_A_PIECE))
        comparison.again(agent, again, pieces)
        if usual:
            comparison.packed(agent, again, pieces)
            comparison.under_load(agent, again)
        sheet.add(f"agent_peak_mib{suffix}", [agent.peak_mib()], "MiB")
        sheet.add(f"server_peak_mib{suffix}", [peak_mib(server.process.pid)], "MiB")
    if usual:
        demo.add_figures(sheet, ROOT / "build" / "demo" / "timeline.json")
    sheet.write(setting)
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.run", description=__doc__)
    add = parser.add_argument
    add("--volume", type=int, default=USUAL_GIB, help="GiB; another one than 4 has its own keys")
    add("--files", type=int, default=0, help="at least so many files")
    add("--content", type=int, default=0, help="MiB in files instead of 3050, to try it out")
    add("--full", type=int, default=0, help="repetitions of the full copy")
    add("--again", type=int, default=0, help="repetitions after a change")
    add("--bdsync", help="the program; or set BDSYNC, or have it on the path")
    return parser.parse_args()


def _peers(sample: Sample, directory: Path, bdsync: Path | None) -> list[Peer]:
    peers: list[Peer] = [
        one(sample, directory / one.name) for one in (Dd, Rsync, Borg, Restic, Nbdcopy, NbdcopyTls)
    ]
    if bdsync:
        peers.append(Bdsync(sample, directory / Bdsync.name, bdsync))
    else:
        print("bdsync is left out: Debian has no package of it; see docs/benchmarks.md", flush=True)
    return peers


def count_files(sample: Sample) -> int:
    return sum(len(names) for _, _, names in os.walk(sample.tree))


if __name__ == "__main__":
    sys.exit(main())
