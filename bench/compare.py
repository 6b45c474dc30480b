"""The comparison with the peers: full copies, runs after a change, and two things only we do.

Invariants: every measurement begins with everything written out and cold caches; all tools copy
the same disk in the same state into the same filesystem; who comes first changes from repetition
to repetition.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from bench.changes import change, write_load
from bench.figures import Sheet
from bench.machine import cold, timed
from bench.ours import Agent, Measured, Server
from bench.peers import Peer
from bench.sample import Sample
from notfallserver.wire.blocks import BLOCK
from notfallserver.wire.frames import BATCH_BLOCKS

LOAD_FIRST_S = 5.0
"""The load has been there for a while when the replication comes."""
THIN_LINE = "10Mbit"
"""So slow that packing pays."""
ZLIB = 6


class Comparison:
    """One disk, one server, several peers; figures get ``suffix`` at the end of what they tell."""

    def __init__(
        self,
        sheet: Sheet,
        server: Server,
        sample: Sample,
        peers: Sequence[Peer],
        work: Path,
        suffix: str = "",
    ) -> None:
        self._sheet = sheet
        self._server = server
        self._sample = sample
        self._peers = peers
        self._work = work
        self._suffix = suffix

    def full(self, times: int, cleanup: ExitStack) -> Agent:
        """Full copies; the last agent goes on until ``cleanup`` ends, as do the peers' copies."""
        print("full copies", flush=True)
        ours: list[Measured] = []
        agents: list[Agent] = []
        seconds: dict[str, list[float]] = {peer.name: [] for peer in self._peers}
        cleanup_agent = cleanup.enter_context(ExitStack())

        def replicate() -> None:
            if agents:
                cleanup_agent.close()
                self._server.forget(agents.pop().name)
            agent = Agent(self._server, self._work, f"bench-{len(ours)}", self._sample.device)
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

        for number in range(times):
            _in_turn(number, [replicate, *(copy(peer) for peer in self._peers)])
        self._tell_times("full", ours, seconds)
        rates = [one.manifest.bytes_read / one.seconds / 2**20 for one in ours]
        self._sheet.add(self._key("full_mib_s"), rates, "MiB/s")
        return agents[0]

    def again(self, agent: Agent, times: int, pieces: int) -> None:
        """Second and later runs: the same changes for everybody."""
        print("after 1 % changed", flush=True)
        ours: list[Measured] = []
        # dd knows nothing: it would be its full copy again.
        peers = [peer for peer in self._peers if peer.name != "dd"]
        seconds: dict[str, list[float]] = {peer.name: [] for peer in peers}
        ratios, changed_blocks = [], []
        agent.replicate()  # takes in what the first mount of the day still wrote

        def replicate() -> None:
            cold()
            ours.append(agent.replicate())

        def copy(peer: Peer) -> Callable[[], None]:
            return lambda: seconds[peer.name].append(timed(peer.again))

        for number in range(times):
            changed = self._change(pieces, number)
            _in_turn(number, [replicate, *(copy(peer) for peer in peers)])
            changed_blocks.append(len(changed))
            ratios.append(ours[-1].manifest.bytes_changed / (len(changed) * BLOCK))
            told = ", ".join(f"{name} {each[-1]:.2f}" for name, each in seconds.items())
            print(f"  {len(changed)} blocks: ours {ours[-1].seconds:.2f}, {told}", flush=True)
        self._tell_times("incremental", ours, seconds)
        add, key = self._sheet.add, self._key
        add(key("incremental_changed_blocks"), changed_blocks, "blocks")
        changed_mib = [one * BLOCK / 2**20 for one in changed_blocks]
        add(key("incremental_changed_mib"), changed_mib, "MiB")
        sent = [one.manifest.bytes_sent / 2**20 for one in ours]
        add(key("incremental_sent_mib"), sent, "MiB")
        add(key("incremental_bytes_vs_ideal"), ratios, "x")
        add(key("freeze_ms"), [one.manifest.freeze_ms for one in ours], "ms")

    def packed(self, agent: Agent, times: int, pieces: int) -> None:
        """What a line carries that is so slow that the agent packs, against the changed blocks
        packed by zlib in frames of the same size."""
        print(f"limited to {THIN_LINE}/s", flush=True)
        self._server.call(f"/primaries/{agent.name}/limits", {"rate": THIN_LINE})
        ratios, seconds = [], []
        for number in range(times):
            changed = self._change(pieces, 100 + number)
            ideal = self._packed_size(changed)
            run = agent.replicate()
            ratios.append(run.manifest.bytes_sent / ideal)
            seconds.append(run.seconds)
        self._server.call(f"/primaries/{agent.name}/limits", {"clear": True})
        self._sheet.add(self._key("incremental_sent_vs_packed_ideal"), ratios, "x")
        self._sheet.add(self._key("incremental_10mbit_s"), seconds, "s")

    def under_load(self, agent: Agent, times: int) -> None:
        print("under write load", flush=True)
        ours = []
        for number in range(times):
            with write_load(self._sample.tree, seed=1000 + number):
                time.sleep(LOAD_FIRST_S)
                ours.append(agent.replicate())
        freezes = [one.manifest.freeze_ms for one in ours]
        self._sheet.add(self._key("freeze_under_load_ms"), freezes, "ms")
        self._sheet.add(self._key("incremental_under_load_s"), [one.seconds for one in ours], "s")

    def _change(self, pieces: int, seed: int) -> list[int]:
        """Overwrite so many pieces of files; returns the blocks of the disk that changed."""
        before = self._sample.hashes()
        change(self._sample.tree, pieces, seed=seed)
        after = self._sample.hashes()
        return sorted(one for one, digest in after.items() if before.get(one) != digest)

    def _packed_size(self, changed: Sequence[int]) -> int:
        frames = range(0, len(changed), BATCH_BLOCKS)
        return sum(
            len(
                zlib.compress(
                    b"".join(self._sample.contents(changed[at : at + BATCH_BLOCKS])), ZLIB
                )
            )
            for at in frames
        )

    def _tell_times(
        self, what: str, ours: Sequence[Measured], seconds: dict[str, list[float]]
    ) -> None:
        mine = [one.seconds for one in ours]
        self._sheet.add(self._key(f"{what}_s"), mine, "s")
        self._sheet.add(self._key(f"{what}_cpu_s"), [one.cpu_seconds for one in ours], "s")
        for name, theirs in seconds.items():
            self._sheet.add(self._key(f"{what}_{name}_s"), theirs, "s")
            self._sheet.compare(self._key(f"{what}_vs_{name}"), mine, theirs)

    def _key(self, name: str) -> str:
        return name + self._suffix


def _in_turn(number: int, steps: Sequence[Callable[[], None]]) -> None:
    """Everybody once, beginning with another one each time."""
    first = number % len(steps)
    for step in [*steps[first:], *steps[:first]]:
        step()
