"""Programs of the project as forks of one process that has loaded the server already.

Tests start the server or its command line some hundred times, and each time loading takes longer
than what is tested. A fork begins with fresh arguments, environment, files and signals, as a
program that was started anew; only its modules are there before its first line.

``python -m notfall_lab.nursery FD`` is the process that forks; it ends with the other end of its
channel. Between it and each child stands a shepherd, who tells its number and its exit code.
"""

from __future__ import annotations

import gc
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from typing import IO, Literal, NoReturn

from notfall_lab.patience import PATIENCE_S

_LONGEST = 1 << 20  # bytes of an order


@dataclass(frozen=True)
class Order:
    """``program`` is Python; ``warn`` is what is done with warnings."""

    program: str
    arguments: list[str]
    environment: dict[str, str]
    warn: Literal["error", "ignore"]


@dataclass
class Child:
    """What :class:`subprocess.Popen` gives of a process, as far as it is needed."""

    pid: int
    _told: IO[str]
    returncode: int | None = field(default=None)

    def poll(self) -> int | None:
        return self._look(0)

    def wait(self, timeout: float | None = None) -> int:
        code = self._look(timeout)
        if code is None:
            raise subprocess.TimeoutExpired([str(self.pid)], timeout or 0)
        return code

    def _look(self, seconds: float | None) -> int | None:
        if self.returncode is None and select.select([self._told], [], [], seconds)[0]:
            self.returncode = int(self._told.readline())
            self._told.close()
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class Nursery:
    """The near end: whoever wants a child."""

    def __init__(self) -> None:
        self._channel, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with there:
            self._process = subprocess.Popen(
                [sys.executable, "-W", "error", "-m", __name__, str(there.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[there.fileno()],
                env={**os.environ, "NO_COLOR": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
            )

    def begin(
        self,
        program: str,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        files: Sequence[IO[bytes]],
        warn: Literal["error", "ignore"],
    ) -> Child:
        """``files`` become its standard input, output and errors."""
        order = Order(program, list(arguments), dict(environment), warn)
        text = json.dumps(asdict(order)).encode()
        reading, writing = os.pipe()
        try:
            socket.send_fds(self._channel, [text], [*(one.fileno() for one in files), writing])
        finally:
            os.close(writing)
        told = os.fdopen(reading, buffering=1)
        return Child(int(told.readline()), told)

    def run(
        self,
        program: str,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        text: str = "",
        timeout: float = PATIENCE_S,
    ) -> subprocess.CompletedProcess[str]:
        """Until it ends by itself; what it says is kept."""
        with (
            tempfile.TemporaryFile() as given,
            tempfile.TemporaryFile() as out,
            tempfile.TemporaryFile() as errors,
        ):
            given.write(text.encode())
            given.seek(0)
            child = self.begin(program, arguments, environment, (given, out, errors), "ignore")
            try:
                code = child.wait(timeout)
            finally:
                child.kill()
            told = []
            for one in (out, errors):
                one.seek(0)
                told.append(one.read().decode())
        return subprocess.CompletedProcess(list(arguments), code, *told)


@cache
def nursery() -> Nursery:
    """The one of this process."""
    return Nursery()


# -- the far end ---------------------------------------------------------------------------------


def _load() -> None:
    import notfallserver.server.cli
    import notfallserver.server.main  # noqa: F401  the longest part of every start

    gc.freeze()


def _await_order(channel: socket.socket) -> str:
    """Return in children only: with the program to run."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # shepherds are nobody's
    while True:
        text, files, _, _ = socket.recv_fds(channel, _LONGEST, 4)
        if not text:
            os._exit(0)
        if os.fork() == 0:
            channel.close()
            return _born(Order(**json.loads(text)), files)
        for one in files:
            os.close(one)


def _born(order: Order, files: list[int]) -> str:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    *standard, told = files
    child = os.fork()
    if child:
        _shepherd(child, told, standard)
    for number, one in enumerate(standard):
        os.dup2(one, number)
    for one in files:
        os.close(one)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(order.environment)
    time.tzset()  # what TZ says was looked at before
    sys.argv = ["-c", *order.arguments]
    sys.warnoptions[:] = [order.warn]
    warnings.resetwarnings()
    warnings.simplefilter(order.warn)
    return order.program


def _shepherd(child: int, told: int, others: list[int]) -> NoReturn:
    for one in (0, 1, 2, *others):
        os.close(one)
    os.write(told, b"%d\n" % child)
    _, status = os.waitpid(child, 0)
    os.write(told, b"%d\n" % os.waitstatus_to_exitcode(status))
    os._exit(0)


if __name__ == "__main__":
    _load()
    exec(_await_order(socket.socket(fileno=int(sys.argv[1]))), {"__name__": "__main__"})  # noqa: S102
