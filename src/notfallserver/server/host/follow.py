"""An external program that runs for long: its lines as they come, and a clean end at any time.

It runs niced, with a small environment, and gets a signal when the thread that started it dies,
so that nothing of it outlives a server that is killed.
"""

from __future__ import annotations

import logging
import os
import queue
import signal
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from notfallserver.server.host.run import ENVIRONMENT, paste_line
from notfallserver.wire.errors import NotfallError

log = logging.getLogger(__name__)

GENTLY = (
    *("setpriv", "--pdeathsig", "INT", "choom", "-n", "500", "--"),
    *("nice", "-n", "10", "ionice", "-c", "2", "-n", "7"),
)
"""Where memory is short the kernel takes it, not the server and its stand-ins."""
LOOK_EVERY_S = 0.5
END_S = 15.0
"""So long a program may take to clean up when it is asked to end."""
TAIL = 8
_QUEUED = 1000


@dataclass(frozen=True)
class Ended:
    """``exit_code`` is negative where a signal ended it; ``tail`` are its last words."""

    exit_code: int
    tail: str


def follow(
    arguments: Sequence[str | Path],
    each: Callable[[str], None],
    check: Callable[[], None],
    *,
    environment: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    secrets: Collection[str] = (),
) -> Ended:
    """Run a program to its end; ``each`` gets its lines, ``check`` is asked twice a second.

    What one of both raises ends the program (SIGINT, then SIGKILL) and is raised here.
    """
    log.debug("follow %s", paste_line(arguments, secrets))
    try:
        process = subprocess.Popen(
            [*GENTLY, *(str(part) for part in arguments)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**ENVIRONMENT, **(environment or {})},
            cwd=cwd,
            start_new_session=True,
        )
    except FileNotFoundError as error:
        raise NotfallError(
            "command-missing",
            f"The program '{error.filename}' is not installed.",
            "Install it with the distribution's package manager.",
            status=500,
        ) from None
    lines: queue.Queue[str | None] = queue.Queue(_QUEUED)
    tail: deque[str] = deque(maxlen=TAIL)
    readers = [
        threading.Thread(target=_read, args=(stream, put), daemon=True)
        for stream, put in ((process.stdout, lines.put), (process.stderr, _into(tail)))
        if stream is not None
    ]
    for one in readers:
        one.start()
    try:
        while True:
            check()
            try:
                line = lines.get(timeout=LOOK_EVERY_S)
            except queue.Empty:
                continue
            if line is None:
                break
            each(line)
        while True:
            check()
            try:
                code = process.wait(LOOK_EVERY_S)
                break
            except subprocess.TimeoutExpired:
                continue
    except BaseException:
        _end(process, lines)
        raise
    readers[1].join(END_S)
    told = "\n".join(tail)
    for secret in secrets:
        told = told.replace(secret, "***")
    return Ended(code, told)


def _into(tail: deque[str]) -> Callable[[str | None], None]:
    def keep(line: str | None) -> None:
        if line:
            tail.append(line[:500])

    return keep


def _read(stream: IO[bytes], put: Callable[[str | None], None]) -> None:
    with stream:
        for line in stream:
            put(line.decode(errors="replace").rstrip())
    put(None)


def _end(process: subprocess.Popen[bytes], lines: queue.Queue[str | None]) -> None:
    """Ask it to end, and see to it; what it still says is thrown away."""
    for sent, patience in ((signal.SIGINT, END_S), (signal.SIGKILL, 60.0)):
        if process.poll() is not None:
            return
        try:
            # First it alone: it may need its helpers (ssh) to clean up on the other side.
            (os.kill if sent is signal.SIGINT else os.killpg)(process.pid, sent)
        except ProcessLookupError:
            pass
        waited = 0.0
        while process.poll() is None and waited < patience:
            try:
                lines.get(timeout=0.1)
            except queue.Empty:
                pass
            waited += 0.1
