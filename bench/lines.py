"""How much of a thin line a first copy uses, and what a later run over it costs.

    python -m bench.lines [--line 2 --line 10 --line 50] [--congestion cubic]

A real server here, the packed agent in a network namespace, between them a line of the given
Mbit/s with 40 ms to and fro and 0.5 % of the packets lost each way (:mod:`bench.wire`). The share
is what the agent sent (after packing, without TLS and headers) over what the line could have
carried from the request to the finished version: freezing, checking and syncing count, too.
Adds its figures to bench/results.json.
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
from bench.machine import cold, describe
from bench.ours import Agent, Server
from bench.sample import SampleDisk
from bench.wire import HERE, Link, line

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / "build" / "bench-lines"
DELAY, LOSS = 0.02, 0.005
CONTENT_MIB = {2: 24, 10: 80, 50: 300}
"""By Mbit/s: about a minute or two each."""
PIECES = 16


def measure(sheet: Sheet, mbit: int, congestion: str) -> None:
    content = CONTENT_MIB.get(mbit, 6 * mbit)
    with ExitStack() as cleanup:
        sample = cleanup.enter_context(SampleDisk(WORK, 1 << 30, Filling(copied=content << 20)))
        inside = cleanup.enter_context(line(Link(mbit * 1e6, DELAY, LOSS), congestion))
        server = cleanup.enter_context(Server(WORK, HERE))
        server.rest()
        agent = Agent(server, WORK, f"line-{mbit}", sample.device, inside)
        cleanup.enter_context(agent)
        cold()
        first = agent.replicate()
        sent = first.manifest.bytes_sent
        sheet.add(f"line_share_{mbit}mbit", [sent * 8 / first.seconds / (mbit * 1e6)], "share")
        sheet.add(f"line_content_mib_s_{mbit}mbit", [content / first.seconds], "MiB/s")
        change(sample.tree, PIECES, seed=1)
        again = agent.replicate()
        sheet.add(f"line_again_s_{mbit}mbit", [again.seconds], "s")
        print(f"  {mbit} Mbit/s: {sent} bytes in {first.seconds:.1f} s", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.lines", description=__doc__)
    parser.add_argument("--line", type=int, action="append", help="Mbit/s")
    parser.add_argument("--congestion", default="cubic", help="of the primary's kernel")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(143))
    sheet = Sheet("lines")
    for mbit in given.line or [2, 10, 50]:
        measure(sheet, mbit, given.congestion)
    sheet.write({**describe(), "congestion control": given.congestion})
    return 0


if __name__ == "__main__":
    sys.exit(main())
