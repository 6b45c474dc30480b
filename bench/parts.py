"""What a frozen moment's time goes to, seen from outside: the agent's system calls by strace.

strace stops a thread at each call, so a run that is watched is not one whose time counts; the parts
tell where the time goes, not how much of it there is.
"""

from __future__ import annotations

import re
import signal
import subprocess
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_CALL = re.compile(r"^(?P<began>\d+\.\d+) (?P<call>\w+)\((?P<told>.*) = \S+.*<(?P<took>[\d.]+)>$")
READS = ("preadv", "preadv2", "pread64")


@dataclass(frozen=True)
class Parts:
    """Milliseconds, in this order of time."""

    freeze: float
    """FIFREEZE itself: the filesystem lets writers finish and writes its log out."""
    prepare: float
    """Until the first block is read: the marks are taken, with them what is to be read."""
    read: float
    """From the first read to the end of the last one."""
    end: float
    """From then until the thaw is asked for."""
    thaw: float
    """FITHAW itself."""


@dataclass(frozen=True)
class _Call:
    began: float
    ended: float
    name: str


def parts_of(lines: Iterable[str]) -> Parts:
    """From the lines of ``strace -ttt -T`` of all threads; the last freeze, if there are more."""
    calls = sorted(_calls(lines), key=lambda one: one.began)
    froze = [one for one in calls if one.name == "FIFREEZE"]
    thawed = [one for one in calls if one.name == "FITHAW"]
    if not froze or not thawed or thawed[-1].began < froze[-1].began:
        raise RuntimeError("strace saw no frozen moment")
    freeze, thaw = froze[-1], thawed[-1]
    reads = [one for one in calls if one.name in READS and freeze.ended <= one.began <= thaw.began]
    first = min((one.began for one in reads), default=thaw.began)
    last = max((one.ended for one in reads), default=thaw.began)
    return Parts(
        freeze=(freeze.ended - freeze.began) * 1000,
        prepare=(first - freeze.ended) * 1000,
        read=(last - first) * 1000,
        end=(thaw.began - last) * 1000,
        thaw=(thaw.ended - thaw.began) * 1000,
    )


def _calls(lines: Iterable[str]) -> Iterator[_Call]:
    for line in lines:
        found = _CALL.match(line)
        if not found:
            continue
        began, name = float(found["began"]), found["call"]
        if name == "ioctl":
            name = next((one for one in ("FIFREEZE", "FITHAW") if one in found["told"]), name)
        yield _Call(began, began + float(found["took"]), name)


@contextmanager
def watched(pid: int, directory: Path) -> Iterator[list[str]]:
    """Within the block strace looks at the process; the list has its lines after the block."""
    directory.mkdir(parents=True, exist_ok=True)
    for old in directory.glob("calls.*"):
        old.unlink()
    lines: list[str] = []
    # -ff: a file for each thread, so that no call is told in two halves.
    what = ["-ff", "-ttt", "-T", "-e", f"trace=ioctl,{','.join(READS)}"]
    strace = subprocess.Popen(
        ["strace", *what, "-o", directory / "calls", "-p", str(pid)],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        until = time.monotonic() + 20
        while not any(directory.glob("calls.*")):
            if strace.poll() is not None or time.monotonic() > until:
                raise RuntimeError("strace can't look at the agent")
            time.sleep(0.05)
        yield lines
    finally:
        strace.send_signal(signal.SIGINT)  # it lets go of the process and ends
        strace.wait()
        for path in sorted(directory.glob("calls.*")):
            lines += path.read_text(errors="replace").splitlines()
