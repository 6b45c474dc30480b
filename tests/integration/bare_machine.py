"""A machine without a hypervisor's services: bare QEMU, whose serial line is a file."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from notfall_lab.patience import BOOT_S
from notfallserver.server.vm.spec import EMULATED_CPU


@contextmanager
def machine(folder: Path, *arguments: str | Path) -> Iterator[Path]:
    """A bare QEMU; yields its serial log."""
    log = folder / f"serial-{time.monotonic_ns()}.log"
    command = [
        "qemu-system-x86_64",
        "-accel",
        "tcg",
        "-cpu",
        EMULATED_CPU,
        "-m",
        "1536",
        "-machine",
        "q35",
    ]
    command += ["-display", "none", "-serial", f"file:{log}"]
    with subprocess.Popen([*command, *arguments], stdin=subprocess.DEVNULL) as process:
        try:
            yield log
        finally:
            process.kill()


def wait_text(log: Path, pattern: str, seconds: float = BOOT_S) -> str:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        text = log.read_text(errors="replace") if log.exists() else ""
        if found := re.search(pattern, text):
            return found.group(0)
        time.sleep(0.5)
    raise AssertionError(f"'{pattern}' did not appear: {text[-2000:]}")
