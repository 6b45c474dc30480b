"""Measures everything in one run and writes bench/results.json and the table of the documentation.

Invariants: every measurement begins with everything written out and cold caches; all tools copy
the same disk in the same state into the same filesystem; who comes first changes from repetition
to repetition.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from bench import demo
from bench.changes import change, write_load
from bench.figures import Sheet
from bench.machine import cold, describe, peak_mib, timed
from bench.ours import Agent, Measured, Server
from bench.peers import Borg, Dd, Peer, Restic, Rsync
from bench.sample import Sample, SampleDisk
from notfallserver.agent.disks.runs import total
from notfallserver.wire.blocks import BLOCK

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / "build" / "bench"
RESULTS = ROOT / "bench" / "results.json"
PAGE = ROOT / "docs" / "benchmarks.md"
SHARE = 0.01
BLOCKS_A_PIECE = 1.4
"""So many blocks of the disk a 64 KiB piece of a file touches on average; seen here."""


LOAD_FIRST_S = 5.0
"""The load has been there for a while when the replication comes."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--full", type=int, default=3, help="repetitions of the full copy")
    parser.add_argument("--again", type=int, default=5, help="repetitions after a change")
    given = parser.parse_args()
    if os.geteuid():
        print("The benchmark needs root (loop devices, mounts): sudo make bench", file=sys.stderr)
        return 1
    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(143))  # and put all away
    sheet = Sheet()
    setting = describe()
    with ExitStack() as cleanup:
        sample = cleanup.enter_context(SampleDisk(WORK))
        server = cleanup.enter_context(Server(WORK))
        server.rest()
        used = total(sample.used())
        setting["disk"] = f"4 GiB, {used} of 65536 blocks of 64 KiB in use"
        print(f"{used} blocks are in use", flush=True)
        peers: list[Peer] = [
            one(sample, server.pool / "peers" / one.name) for one in (Dd, Rsync, Borg, Restic)
        ]
        agent = _full(sheet, server, sample, peers, given.full, cleanup)
        _again(sheet, agent, sample, peers[1:], given.again, int(used * SHARE / BLOCKS_A_PIECE))
        _under_load(sheet, agent, sample, given.again)
        sheet.add("agent_peak_mib", [agent.peak_mib()], "MiB")
        sheet.add("server_peak_mib", [peak_mib(server.process.pid)], "MiB")
    demo.add_figures(sheet, ROOT / "build" / "demo" / "timeline.json")
    sheet.write(RESULTS)
    if PAGE.exists():
        sheet.write_table(PAGE, setting)
    print(f"written: {RESULTS}, {PAGE}")
    return 0


def _in_turn(number: int, steps: Sequence[Callable[[], None]]) -> None:
    """Everybody once, beginning with another one each time."""
    first = number % len(steps)
    for step in [*steps[first:], *steps[:first]]:
        step()


def _full(
    sheet: Sheet,
    server: Server,
    sample: Sample,
    peers: Sequence[Peer],
    times: int,
    cleanup: ExitStack,
) -> Agent:
    """Full copies; the last agent goes on, as do the peers' copies."""
    print("full copies", flush=True)
    ours: list[Measured] = []
    agents: list[Agent] = []
    seconds: dict[str, list[float]] = {peer.name: [] for peer in peers}

    def replicate() -> None:
        if agents:
            cleanup_agent.close()
            server.forget(agents.pop().name)
        agent = Agent(server, WORK, f"bench-{len(ours)}", sample.device)
        cleanup_agent.enter_context(agent)
        agents.append(agent)
        cold()
        ours.append(agent.replicate())
        print(f"  ours {ours[-1].seconds:.2f} s", flush=True)

    def copy(peer: Peer) -> Callable[[], None]:
        def step() -> None:
            peer.prepare()
            seconds[peer.name].append(timed(peer.full))
            print(f"  {peer.name} {seconds[peer.name][-1]:.2f} s", flush=True)

        return step

    cleanup_agent = cleanup.enter_context(ExitStack())
    for number in range(times):
        _in_turn(number, [replicate, *(copy(peer) for peer in peers)])
    _tell_times(sheet, "full", ours, seconds)
    sheet.add(
        "full_mib_s", [one.manifest.bytes_read / one.seconds / 2**20 for one in ours], "MiB/s"
    )
    return agents[0]


def _again(
    sheet: Sheet, agent: Agent, sample: Sample, peers: Sequence[Peer], times: int, pieces: int
) -> None:
    """Second and later runs: the same changes for everybody."""
    print("after 1 % changed", flush=True)
    ours: list[Measured] = []
    seconds: dict[str, list[float]] = {peer.name: [] for peer in peers}
    ratios, changed_blocks = [], []
    agent.replicate()  # takes in what the first mount of the day still wrote

    def replicate() -> None:
        cold()
        ours.append(agent.replicate())

    def copy(peer: Peer) -> Callable[[], None]:
        return lambda: seconds[peer.name].append(timed(peer.again))

    for number in range(times):
        before = sample.hashes()
        change(sample.tree, pieces, seed=number)
        after = sample.hashes()
        changed = sorted(one for one, digest in after.items() if before.get(one) != digest)
        _in_turn(number, [replicate, *(copy(peer) for peer in peers)])
        changed_blocks.append(len(changed))
        ratios.append(ours[-1].manifest.bytes_changed / (len(changed) * BLOCK))
        told = ", ".join(f"{name} {times[-1]:.2f}" for name, times in seconds.items())
        print(f"  {len(changed)} blocks: ours {ours[-1].seconds:.2f}, {told}", flush=True)
    _tell_times(sheet, "incremental", ours, seconds)
    sheet.add("incremental_changed_blocks", changed_blocks, "blocks")
    sheet.add("incremental_changed_mib", [one * BLOCK / 2**20 for one in changed_blocks], "MiB")
    sheet.add("incremental_sent_mib", [one.manifest.bytes_sent / 2**20 for one in ours], "MiB")
    sheet.add("incremental_bytes_vs_ideal", ratios, "x")
    sheet.add("freeze_ms", [one.manifest.freeze_ms for one in ours], "ms")


def _under_load(sheet: Sheet, agent: Agent, sample: Sample, times: int) -> None:
    print("under write load", flush=True)
    ours = []
    for number in range(times):
        with write_load(sample.tree, seed=1000 + number):
            time.sleep(LOAD_FIRST_S)
            ours.append(agent.replicate())
    sheet.add("freeze_under_load_ms", [one.manifest.freeze_ms for one in ours], "ms")
    sheet.add("incremental_under_load_s", [one.seconds for one in ours], "s")


def _tell_times(
    sheet: Sheet, what: str, ours: Sequence[Measured], seconds: dict[str, list[float]]
) -> None:
    mine = [one.seconds for one in ours]
    sheet.add(f"{what}_s", mine, "s")
    sheet.add(f"{what}_cpu_s", [one.cpu_seconds for one in ours], "s")
    for name, theirs in seconds.items():
        sheet.add(f"{what}_{name}_s", theirs, "s")
        sheet.compare(f"{what}_vs_{name}", mine, theirs)


if __name__ == "__main__":
    sys.exit(main())
