"""The server's machine in the lab: the namespaces of :mod:`namespace` plus a libvirt of its own.

``with Lab("a", directory) as lab`` gives ``lab.uri`` (usable from outside), ``lab.run_in`` and
``lab.popen_in`` (commands inside, with libvirt at its usual places), ``lab.power_cycle()``. All
processes live in one PID namespace that ends with the lab, even when the lab is killed.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import libvirt

from notfall_lab import keeper
from notfall_lab.namespace import Network, sh

_LOCKS = Path("/run/notfall-lab")
_CONFIG = {
    "qemu.conf": (
        'user = "root"\ngroup = "root"\ndynamic_ownership = 0\nremember_owner = 0\n'
        'security_driver = "none"\nnamespaces = []\ncgroup_controllers = []\n'
    ),
    "libvirtd.conf": 'auth_unix_ro = "none"\nauth_unix_rw = "none"\n',
    "virtlogd.conf": "",
}


class Lab:
    """Context manager; ``directory`` holds libvirt's files and must not be deep (socket paths)."""

    def __init__(self, name: str, directory: Path, net: int = 0) -> None:
        self.network = Network(name, net)
        self.directory = directory.resolve()
        self.uri = f"qemu+unix:///system?socket={self.directory}/run/libvirt-sock"
        self._stack = ExitStack()
        self._keeper: subprocess.Popen[bytes] | None = None
        self._inside = 0  # process 1 of the lab, as numbered outside

    def __enter__(self) -> Lab:
        with ExitStack() as stack:
            stack.enter_context(self._only_one())
            stack.callback(self._detach_loops)
            self._detach_loops()
            stack.enter_context(self.network)
            self._lay_out()
            stack.callback(self._power_off)
            self._power_on()
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    # -- use -------------------------------------------------------------------------------------

    def inside(self, arguments: Sequence[str | Path]) -> list[str]:
        """The command line that runs ``arguments`` on the server's machine."""
        enter = ["nsenter", "-t", str(self._inside), "-m", "-n", "-p", "--"]
        return enter + [str(one) for one in arguments]

    def run_in(
        self,
        arguments: Sequence[str | Path],
        *,
        timeout: float = 60,
        check: bool = True,
        environment: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command on the server's machine to its end."""
        return subprocess.run(
            self.inside(arguments),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=check,
            env={**os.environ, **(environment or {})},
        )

    def popen_in(
        self,
        arguments: Sequence[str | Path],
        *,
        output: IO[bytes] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> subprocess.Popen[bytes]:
        """Start a command on the server's machine; it ends with the machine at the latest.

        The process returned is nsenter: it passes on the exit code but no signals, see
        :meth:`signal_in`.
        """
        return subprocess.Popen(
            self.inside(arguments),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, **(environment or {})},
        )

    def signal_in(self, process: subprocess.Popen[bytes], number: int) -> None:
        """Send a signal to the command itself that :meth:`popen_in` started."""
        for child in _children(process.pid):
            os.kill(child, number)

    def power_cycle(self) -> None:
        """Cut the server's power and switch it on again: everything on it dies at once.

        Returns when libvirt answers.
        """
        self._power_off()
        self._detach_loops()
        self._power_on()

    # -- inner works -----------------------------------------------------------------------------

    def _only_one(self) -> Any:
        _LOCKS.mkdir(exist_ok=True)
        lock = (_LOCKS / self.network.name).open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
            raise RuntimeError(f"a lab '{self.network.name}' is running already") from None
        return lock

    def _lay_out(self) -> None:
        for name, place in keeper.MOUNTS.items():
            (self.directory / name).mkdir(parents=True, exist_ok=True)
            Path(place).mkdir(parents=True, exist_ok=True)
        for name, text in _CONFIG.items():
            (self.directory / "etc" / name).write_text(text)

    def _power_on(self) -> None:
        run = self.directory / "run"
        shutil.rmtree(run)  # a tmpfs on a real machine
        run.mkdir()
        with (self.directory / "log" / "keeper.log").open("ab") as out:
            self._keeper = subprocess.Popen(
                [
                    *("ip", "netns", "exec", self.network.namespace()),
                    *("unshare", "--mount", "--propagation", "slave", "--pid", "--fork"),
                    *(sys.executable, keeper.__file__, str(self.directory)),
                ],
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=out,
            )
        until = time.monotonic() + 60
        while not (run / "keeper-ready").exists():
            self._check_alive(until)
            time.sleep(0.02)
        self._inside = _children(self._keeper.pid)[0]
        while not self._libvirt_answers():
            self._check_alive(until)
            time.sleep(0.05)

    def _check_alive(self, until: float) -> None:
        if self._keeper is None or self._keeper.poll() is not None or time.monotonic() > until:
            raise RuntimeError(f"the lab's libvirt does not start, see {self.directory}/log")

    def _libvirt_answers(self) -> bool:
        if not (self.directory / "run" / "libvirt-sock").exists():
            return False
        try:
            libvirt.open(self.uri).close()
        except libvirt.libvirtError:
            return False
        return True

    def _power_off(self) -> None:
        """Kill process 1 and with it all of the PID namespace; returns when all are gone."""
        if self._keeper is None:
            return
        try:
            os.kill(self._inside or self._keeper.pid, 9)
        except ProcessLookupError:
            pass
        if self._keeper.stdin is not None:
            self._keeper.stdin.close()
        self._keeper.wait(timeout=60)
        self._keeper = None
        self._inside = 0

    def _detach_loops(self) -> None:
        """Loop devices on files of this lab; they belong to no namespace and would stay."""
        for line in sh("losetup", "-n", "-l", "-O", "NAME,BACK-FILE").splitlines():
            device, _, backing = line.partition(" ")
            if Path(backing.strip()).is_relative_to(self.directory):
                sh("losetup", "-d", device, ok=(0, 1))


def _children(pid: int) -> list[int]:
    try:
        return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        return []  # it has ended
