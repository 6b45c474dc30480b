"""The order of all tests: `make test` runs them on two processors, and the longest begin first.

And for those that keep passwords themselves: quick hashes. For those that name addresses of nobody:
no way leads there. For those that mount: what others have mounted is not theirs, and what their
agents leave in the kernel lies where no other's agents look. For those that open registry hives:
Debian's hivex, which no package index has, also in the virtual environment.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from importlib.machinery import ModuleSpec, PathFinder

import pytest
from argon2 import PasswordHasher

from notfallserver.agent import kernel, place
from notfallserver.server.records import passwords

pytest.register_assert_rewrite("notfall_lab")  # its checks, too, say what they saw

USUAL_S = 600.0
NOBODY = "198.51.100.0/24"
"""For documentation (RFC 5737). Tests give such addresses to machines that are not there; whatever
network this machine is in, nothing may leave it for them."""

MOUNTS = 0x00020000
"""CLONE_NEWNS of <sched.h>."""

OF_THREAD = 1
"""IOPRIO_WHO_PROCESS of <linux/ioprio.h>."""

DEBIAN_MODULES = "/usr/lib/python3/dist-packages"


class Hivex:
    """Finds this one of Debian's modules, and no other."""

    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None, target: object = None
    ) -> ModuleSpec | None:
        wanted = name in ("hivex", "libhivexmod") or name.startswith("hivex.")
        return PathFinder.find_spec(name, path or [DEBIAN_MODULES]) if wanted else None


sys.meta_path.append(Hivex)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whole cycles may take long, and say so: what is begun last must be short."""
    items.sort(key=allowed_seconds, reverse=True)


def allowed_seconds(item: pytest.Item) -> float:
    mark = item.get_closest_marker("timeout")
    return float(mark.args[0]) if mark else USUAL_S


@pytest.hookimpl(trylast=True)
def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """What failed is told at once: a run that is broken off has no summary."""
    if report.failed and "PYTEST_XDIST_WORKER" not in os.environ:
        print(f"\n{report.nodeid} ({report.when}) failed:\n{report.longreprtext}", flush=True)


@pytest.fixture(autouse=True)
def priority_as_before() -> Iterator[None]:
    """An agent's run makes its thread a small load; here it is the one of all further tests."""
    nice = os.getpriority(os.PRIO_PROCESS, 0)
    disk = kernel.syscall("ioprio_get", OF_THREAD, 0)
    yield
    if os.getpriority(os.PRIO_PROCESS, 0) != nice and os.geteuid() == 0:
        os.setpriority(os.PRIO_PROCESS, 0, nice)
        kernel.syscall("ioprio_set", OF_THREAD, 0, disk)


@pytest.fixture(autouse=True)
def quick_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A real hash is slow on purpose, and some tests make hundreds."""
    quick = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    monkeypatch.setattr(passwords, "_hasher", quick)
    monkeypatch.setattr(passwords, "_DUMMY", passwords.nobodys_hash(quick))


def pytest_sessionstart(session: pytest.Session) -> None:
    if os.geteuid() != 0:
        return
    if not hasattr(session.config, "workerinput"):  # once for all workers
        # It stays: another run may need it, and nobody has such addresses.
        route = ["ip", "route", "replace", "unreachable", NOBODY]
        subprocess.run(route, check=True, timeout=10)
    _mount_for_oneself()


def _mount_for_oneself() -> None:
    """Else a lab that another worker begins keeps what is mounted here in use until its end."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(MOUNTS) != 0:
        raise OSError(ctypes.get_errno(), "no mounts of one's own")
    subprocess.run(["mount", "--make-rslave", "/"], check=True, timeout=10)
    # An agent that leaves removes a place of mounts that no agent it can see uses; and whatever is
    # mounted there in another namespace goes with it.
    place.ROOT.mkdir(exist_ok=True)
    line = ["mount", "-t", "tmpfs", "-o", "mode=755", "notfall-tests", str(place.ROOT)]
    subprocess.run(line, check=True, timeout=10)
