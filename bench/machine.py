"""The machine the benchmark runs on: equal caches for everybody, and what it was."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from notfallserver.server.host.run import run


def cold() -> None:
    """Write everything out and forget what was cached: each measurement begins like this."""
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("3\n")


def timed(work: Callable[[], object]) -> float:
    """Seconds that ``work`` takes from cold caches."""
    cold()
    began = time.monotonic()
    work()
    return time.monotonic() - began


VERSIONS = (
    ["dd", "--version"],
    ["rsync", "--version"],
    ["borg", "--version"],
    ["restic", "version"],
    ["nbdcopy", "--version"],
    ["nbdkit", "--version"],
    ["/usr/bin/python3", "--version"],
)


def describe() -> dict[str, str]:
    """What a reader needs to judge the figures."""
    kernel = os.uname().release
    here = f"{_processor()}, {os.cpu_count()} cores, {_memory_gib()} GiB memory, Linux {kernel}"
    return {"machine": here, "date": time.strftime("%Y-%m-%d")}


def versions(bdsync: Path | None) -> str:
    """Of all the programs that are compared."""
    told = [run(command).out.splitlines()[0].strip() for command in VERSIONS]
    # bdsync tells its version to nobody.
    return "; ".join([*told, "bdsync built from source" if bdsync else "no bdsync"])


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return os.uname().machine


def _memory_gib() -> int:
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return round(pages / (1 << 30))


def peak_mib(pid: int) -> float:
    """The most memory a running process ever had resident."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"process {pid} is gone")


def reset_peak(pid: int) -> None:
    """Let the peak begin anew at what the process has resident now."""
    Path(f"/proc/{pid}/clear_refs").write_text("5\n")


def cpu_seconds(pid: int) -> float:
    """Processor time a running process has used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
