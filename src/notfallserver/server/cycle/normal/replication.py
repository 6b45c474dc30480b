"""The job of one replication: order it, follow the run, end with a version.

The work is the agent's; the job only watches. After a restart of the server the order is given
again, and the agent's next run continues in what arrived.
"""

from __future__ import annotations

import time
from typing import Any

from notfallserver.server.cycle.normal.orders import Errand, Orders
from notfallserver.server.cycle.normal.runs import Run, Runs
from notfallserver.server.cycle.runner import Interrupted, JobContext
from notfallserver.server.pool.version import Version
from notfallserver.wire.errors import NotfallError

PICK_UP = 90.0
"""The agent must begin within so many seconds."""
ATTEMPTS = 3
TICK = 0.3


def follow_replication(
    ctx: JobContext, primary: str, runs: Runs, orders: Orders, last: bool = False
) -> Version:
    """Have the agent replicate; returns the new version or raises the reason.

    ``last``: the agent shuts down what works there before, and ends its machine afterwards; that is
    tried once.
    """
    failed = ATTEMPTS - 1 if last else 0
    seen = runs.of_primary(primary)
    # Of one that is over or cancelled the agent may not know yet.
    if seen is not None and (seen.over or seen.cancelled or seen.last is not last):
        seen = None
    while True:
        try:
            run = _await_run(ctx, primary, runs, orders, last) if seen is None else seen
            orders.withdraw(primary)
            return _follow(ctx, run)
        except NotfallError as error:
            failed += 1
            if not error.retry or failed >= ATTEMPTS:
                raise
            seen = None
            ctx.sleep(1)


def _await_run(ctx: JobContext, primary: str, runs: Runs, orders: Orders, last: bool) -> Run:
    before = runs.of_primary(primary)
    give_up = time.monotonic() + PICK_UP
    deep = ctx.job.parameters.get("deep") is True
    orders.give(primary, Errand(ctx.job.id, deep, last))
    ctx.progress("waiting for the agent")
    try:
        while time.monotonic() < give_up:
            run = runs.of_primary(primary)
            if run is not None and run is not before and (run.last or not last):
                return run
            if (failure := orders.failure(primary)) is not None:
                raise failure
            ctx.sleep(TICK)
    finally:
        orders.withdraw(primary)
    raise NotfallError(
        "agent-silent",
        "The agent did not begin the replication.",
        "Check that the primary runs, that its agent runs (systemctl status notfall-agent), and "
        "that it reaches this server.",
        retry=False,
        status=504,
    )


def _follow(ctx: JobContext, run: Run) -> Version:
    try:
        while True:
            if run.version is not None:
                return run.version
            if run.error is not None:
                raise run.error
            if run.lost():
                raise NotfallError(
                    "agent-lost",
                    "The agent fell silent in the middle of the replication.",
                    "The last version is untouched; the next run continues.",
                    retry=True,
                )
            ctx.progress(run.phase, run.done, run.total)
            ctx.sleep(TICK)
    except Interrupted:
        run.cancelled = True
        raise


def result_of(version: Version) -> dict[str, Any]:
    """What the job tells at its end."""
    manifest = version.manifest
    return {
        "version": version.stamp,
        "consistency": manifest.consistency,
        "applications": ", ".join(one.told() for one in manifest.applications),
        "bytes_read": manifest.bytes_read,
        "bytes_sent": manifest.bytes_sent,
        "bytes_changed": manifest.bytes_changed,
        "bytes_shared": manifest.bytes_shared,
        "freeze_ms": manifest.freeze_ms,
        "passes": manifest.passes,
        "read_all": manifest.read_all,
        "deep": manifest.deep,
        "unexplained_blocks": manifest.unexplained,
    }
