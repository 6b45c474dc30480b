"""Process 1 of a lab's server machine: mounts, libvirt's daemons, reaping.

Started by :mod:`notfall_lab.hypervisor` in new PID, mount and network namespaces. It ends when its
standard input is closed, that is when the lab ends in whatever way; the kernel then kills all that
lives in the PID namespace, so no process outlives its lab. Standard library only.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from pathlib import Path

MOUNTS = {
    "run": "/run/libvirt",
    "lib": "/var/lib/libvirt",
    "etc": "/etc/libvirt",
    "log": "/var/log/libvirt",
    "cache": "/var/cache/libvirt",
}


def main(root: Path) -> None:
    for name, place in MOUNTS.items():
        subprocess.run(["mount", "--bind", root / name, place], check=True)
    subprocess.run(["mount", "-t", "proc", "proc", "/proc"], check=True)
    signal.set_wakeup_fd(_waker())
    signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
    for daemon in ("virtlogd", "libvirtd"):
        with (root / "log" / f"{daemon}.log").open("ab") as out:
            subprocess.Popen(
                [daemon, "--pid-file", root / "run" / f"{daemon}.pid"],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
            )
    (root / "run" / "keeper-ready").touch()
    while True:
        ready, _, _ = select.select([sys.stdin, WAKE], [], [])
        if sys.stdin in ready and not os.read(0, 64):
            return
        if WAKE in ready:
            os.read(WAKE, 4096)
        _reap()


WAKE = -1


def _waker() -> int:
    global WAKE
    WAKE, end = os.pipe()
    os.set_blocking(end, False)
    return end


def _reap() -> None:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


if __name__ == "__main__":
    main(Path(sys.argv[1]))
