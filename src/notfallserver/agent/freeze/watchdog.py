"""The process that thaws when the agent can't any more.

A frozen filesystem stays frozen when its holder is killed, and may hold the whole machine. So a
process of its own, locked in memory, has the mount points open, and thaws them when the deadline
passes or when the agent is gone (its end of the pipe closed). One byte each way: it says ``R``
when ready; the agent says ``A`` (armed: the clock runs) and ``D`` (disarmed), answered by ``d``.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import List, Sequence

from notfallserver.agent import kernel
from notfallserver.agent.commands import this_program
from notfallserver.wire.errors import NotfallError

READY_SECONDS = 20.0


class Watchdog:
    """The agent's side: started before a freeze, ended after it."""

    def __init__(self, handles: Sequence[int], deadline: float) -> None:
        their_orders, self._orders = os.pipe()
        self._answers, their_answers = os.pipe()
        self._process = subprocess.Popen(
            this_program("freeze.watchdog", [str(deadline), *(str(one) for one in handles)]),
            stdin=their_orders,
            stdout=their_answers,
            pass_fds=list(handles),
            cwd="/",
        )
        os.close(their_orders)
        os.close(their_answers)
        self.pid = self._process.pid
        if self._read(READY_SECONDS) != b"R":
            self.close()
            raise NotfallError(
                "watchdog-failed",
                "The process that guards against a lasting freeze did not start.",
                "See the agent's log (journalctl -u notfall-agent).",
                retry=True,
            )

    def _read(self, seconds: float) -> bytes:
        if not select.select([self._answers], [], [], seconds)[0]:
            return b""
        return os.read(self._answers, 1)

    def arm(self) -> None:
        try:
            os.write(self._orders, b"A")
        except OSError:
            raise NotfallError(
                "watchdog-failed",
                "The process that guards against a lasting freeze is gone.",
                "Find out what killed it; nothing was frozen.",
                retry=True,
            ) from None

    def disarm(self) -> None:
        """After the thaw; a watchdog that was killed meanwhile has no duty left."""
        try:
            os.write(self._orders, b"D")
            self._read(5)
        except OSError:
            pass

    def close(self) -> None:
        os.close(self._orders)
        os.close(self._answers)
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(5)


class _Thawer(threading.Thread):
    """One per filesystem, ready before the freeze: one that hangs must not hold up the others."""

    def __init__(self, handle: int, go: threading.Event) -> None:
        super().__init__(daemon=True)
        self._handle = handle
        self._go = go
        self.start()

    def run(self) -> None:
        self._go.wait()
        try:
            kernel.ioctl(self._handle, kernel.FITHAW)
        except OSError:
            pass  # not frozen (any more)


def main(arguments: List[str]) -> None:
    """The watchdog's own process: deadline in seconds, then the descriptors."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    deadline = float(arguments[0])
    threading.stack_size(256 * 1024)
    go = threading.Event()
    thawers = [_Thawer(int(one), go) for one in arguments[1:]]
    for path, text in (("/proc/self/oom_score_adj", "-1000"),):
        try:
            Path(path).write_text(text)
        except OSError:
            pass
    try:
        kernel.lock_memory(kernel.MCL_CURRENT | kernel.MCL_FUTURE)
    except OSError:
        pass  # without the right to lock it still works as long as nothing is swapped out
    os.write(1, b"R")
    if _watch(deadline):
        go.set()
        for one in thawers:
            one.join(60)
    os._exit(0)


def _watch(deadline: float) -> bool:
    """Wait for orders; True when it is time to thaw."""
    until = 0.0
    while True:
        rest = max(0.0, until - time.monotonic()) if until else None
        if not select.select([0], [], [], rest)[0]:
            return True
        order = os.read(0, 1)
        if order == b"A":
            until = time.monotonic() + deadline
        elif order == b"D":
            until = 0.0
            os.write(1, b"d")
        else:
            return bool(until)
