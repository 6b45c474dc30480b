"""What grows and what must not: a disk of 16 TiB, and twenty agents at once.

``python -m bench.scale [many] [huge]`` (as root) adds its figures to ``bench/results.json``.
``huge`` is a sparse file on XFS, partitioned, with an XFS filesystem that holds 2 GiB. Memory is
the most that was resident (VmHWM), shared file pages counted, too. Of the twenty each has a disk
of its own content; what is told is how far apart the first and the last one ended, how long a poll
had to wait meanwhile, and what the server took for each.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path

from bench.figures import Sheet
from bench.loops import loop_device, mounted
from bench.machine import describe, peak_mib
from bench.ours import Agent, Server
from notfallserver.server.host.run import run

ROOT = Path(__file__).parents[1]
WORK = ROOT / "build" / "scale"
TIB = 1 << 40
MIB = 1 << 20
DISK = 16 * TIB
FILES, FILE = 64, 32 * MIB
AGENTS, EACH = 20, 64 * MIB


def huge_disk(stack: ExitStack) -> tuple[Path, Path]:
    """Device and mount point of a mostly empty 16 TiB disk."""
    ground = WORK / "ground.img"
    with ground.open("wb") as stream:
        stream.truncate(64 << 30)
    run(["mkfs.xfs", "-q", "-f", ground])
    below = stack.enter_context(mounted(ground, WORK / "ground", "-o", "loop"))
    image = below / "huge.img"
    with image.open("wb") as stream:
        stream.truncate(DISK)
    run(["sfdisk", "-q", image], text_in="label: gpt\nstart=2048\n")
    device = stack.enter_context(loop_device(image))
    run(["partx", "-u", device], ok=(0, 1))
    stack.callback(run, ["partx", "-d", device])
    part = Path(f"{device}p1")
    run(["mkfs.xfs", "-q", "-f", "-K", part], timeout=300)
    tree = stack.enter_context(mounted(part, WORK / "huge"))
    for number in range(FILES):
        (tree / f"file{number}").write_bytes(os.urandom(FILE))
    os.sync()
    return device, tree


def huge(sheet: Sheet, server: Server) -> None:
    with ExitStack() as stack:
        device, tree = huge_disk(stack)
        with Agent(server, WORK, "huge", device) as agent:
            first = agent.replicate()
            with (tree / "file1").open("r+b") as stream:
                stream.write(os.urandom(MIB))
            os.sync()
            second = agent.replicate()
            sheet.add("agent_peak_mib_16tib", [agent.peak_mib()], "MiB")
        sheet.add("server_peak_mib_16tib", [peak_mib(server.process.pid)], "MiB")
        sheet.add("full_16tib_s", [first.seconds], "s")
        sheet.add("incremental_16tib_s", [second.seconds], "s")
        sheet.add("incremental_16tib_read_mib", [second.manifest.bytes_read / MIB], "MiB")
        sheet.add("incremental_16tib_sent_mib", [second.manifest.bytes_sent / MIB], "MiB")


class Watch(threading.Thread):
    """Looks how long ago each agent was heard; the longest silence counts."""

    def __init__(self, server: Server) -> None:
        super().__init__(daemon=True)
        self._server = server
        self._over = threading.Event()
        self.silence = 0.0

    def run(self) -> None:
        while not self._over.wait(0.5):
            for row in self._server.catalogue.primaries.all():
                if row.last_seen is not None:
                    self.silence = max(self.silence, time.time() - row.last_seen.timestamp())

    def end(self) -> float:
        self._over.set()
        self.join()
        return self.silence


def many(sheet: Sheet, server: Server) -> None:
    before = peak_mib(server.process.pid)
    with ExitStack() as stack:
        agents = []
        for number in range(AGENTS):
            image = WORK / f"disk{number}.img"
            image.write_bytes(os.urandom(EACH))
            device = stack.enter_context(loop_device(image))
            agent = Agent(server, WORK, f"many-{number}", device)
            agents.append(stack.enter_context(agent))
        watch = Watch(server)
        watch.start()
        began = time.monotonic()
        jobs = {server.call(f"/primaries/{one.name}/replicate")["id"]: 0.0 for one in agents}
        while not all(jobs.values()):
            time.sleep(0.1)
            for job in [one for one, ended in jobs.items() if not ended]:
                row = server.catalogue.jobs.find(job)
                if row.finished:
                    jobs[job] = time.monotonic() - began
                    if row.state != "done":
                        raise RuntimeError(f"a replication did not succeed: {row}")
        sheet.add("agents20_s", list(jobs.values()), "s")
        sheet.add("agents20_longest_silence_s", [watch.end()], "s")
        peak = peak_mib(server.process.pid)
        sheet.add("server_peak_mib_20_agents", [peak], "MiB")
        sheet.add("server_mib_per_run_20_agents", [max(0.0, peak - before) / AGENTS], "MiB")
        sheet.add("agent_peak_mib_20_agents", [one.peak_mib() for one in agents], "MiB")
        server.rest()


def main() -> int:
    wanted = sys.argv[1:] or ["many", "huge"]
    run(["rm", "-rf", WORK], timeout=300)
    WORK.mkdir(parents=True)
    sheet = Sheet("scale")
    for what in (many, huge):
        if what.__name__ not in wanted:
            continue
        with Server(WORK) as server:
            sheet.add(f"server_start_mib_{what.__name__}", [peak_mib(server.process.pid)], "MiB")
            what(sheet, server)
    sheet.write(describe())
    run(["rm", "-rf", WORK], timeout=300)
    return 0


if __name__ == "__main__":
    sys.exit(main())
