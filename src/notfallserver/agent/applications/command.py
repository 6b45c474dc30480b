"""One command of an application: started as another user, watched, never waited for without end.

It runs in a session of its own, so that what it started itself goes with it when it is killed. What
it prints is read all the time; the end of it is kept for the error.
"""

from __future__ import annotations

import os
import pwd
import signal
import subprocess
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Callable, Dict, Mapping, Sequence

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
HELD = b"held"
_TAIL = 16384  # bytes of output that are kept
_PAUSE = 0.01


class Failed(Exception):
    """Why a command did not do what it should, in words."""


def _account(user: str) -> pwd.struct_passwd:
    try:
        return pwd.getpwuid(int(user)) if user.isdigit() else pwd.getpwnam(user)
    except KeyError:
        raise Failed(f"There is no user {user} here.") from None


class Command:
    """A started command. ``holds``: its standard input stays open until :meth:`let_go`."""

    def __init__(
        self,
        arguments: Sequence[str],
        user: str = "",
        environment: Mapping[str, str] = {},
        holds: bool = False,
        say: str = "",
    ) -> None:
        account = _account(user or str(os.geteuid()))
        self._name = Path(arguments[0]).name
        self._tail = b""
        self.held = threading.Event()
        others: Dict[str, Any] = {}
        if account.pw_uid != os.geteuid():
            groups = os.getgrouplist(account.pw_name, account.pw_gid)
            others = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": groups}
        try:
            self._process = subprocess.Popen(
                list(arguments),
                stdin=subprocess.PIPE if holds else subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env={
                    "PATH": PATH,
                    "LC_ALL": "C",
                    "HOME": account.pw_dir,
                    "USER": account.pw_name,
                    "LOGNAME": account.pw_name,
                    **environment,
                },
                cwd="/",
                bufsize=0,
                start_new_session=True,
                **others,
            )
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            raise Failed(f"'{arguments[0]}' cannot be started ({error}).") from None
        self._reader = threading.Thread(
            target=self._read, args=(self._process.stdout,), daemon=True
        )
        self._reader.start()
        if say and self._process.stdin is not None:
            with suppress(OSError):
                self._process.stdin.write(say.encode())

    def _read(self, output: IO[bytes]) -> None:
        line = b""
        with output as stream:
            while True:
                got = stream.read(4096)  # unbuffered: what there is
                if not got:
                    return
                self._tail = (self._tail + got)[-_TAIL:]
                *lines, line = (line + got)[-_TAIL:].split(b"\n")
                if any(one.strip() == HELD for one in lines):
                    self.held.set()

    def output(self) -> str:
        """The end of what it printed."""
        self._reader.join(0.2)  # what it printed last may still be on its way
        return self._tail.decode(errors="replace")

    def _failed(self, what: str) -> Failed:
        """With the end of what it printed, on one line."""
        told = " ".join(self.output().split())[-300:]
        return Failed(f"{self._name} {what}" + (f": {told}" if told else "."))

    @property
    def ended(self) -> bool:
        return self._process.poll() is not None

    def wait(self, seconds: float, gone: Callable[[], bool]) -> None:
        """Until it ended well. Raises :class:`Failed`; ``gone`` says that nobody needs it now."""
        self._await(lambda: self.ended, seconds, gone)
        if self._process.returncode:
            raise self._failed(f"failed with {self._process.returncode}")

    def wait_held(self, seconds: float, gone: Callable[[], bool]) -> None:
        """Until it tells that the application stands still."""
        self._await(lambda: self.held.is_set() or self.ended, seconds, gone)
        if self.ended:
            raise self._failed(f"ended with {self._process.returncode}")

    def _await(self, done: Callable[[], bool], seconds: float, gone: Callable[[], bool]) -> None:
        until = time.monotonic() + seconds
        while not done():
            if gone():
                raise Failed("The run was given up.")
            if time.monotonic() > until:
                raise self._failed(f"was not ready after {seconds:.0f} s")
            time.sleep(_PAUSE)

    def let_go(self, seconds: float) -> None:
        """End its input, which is the order to let go; what doesn't obey is killed."""
        early = self.ended
        self._end_input()
        try:
            code = self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise self._failed(f"did not let go within {seconds:g} s and was killed") from None
        if early:
            raise self._failed(f"let go by itself with {code}")
        if code:
            raise self._failed(f"let go with {code}")

    def _end_input(self) -> None:
        if self._process.stdin is not None:
            with suppress(OSError):
                self._process.stdin.close()

    def kill(self) -> None:
        """With everything in its session's process group."""
        self._end_input()
        with suppress(OSError):
            os.killpg(self._process.pid, signal.SIGKILL)
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(2)  # a process that waits for a frozen filesystem dies later


def run(
    arguments: Sequence[str],
    user: str,
    environment: Mapping[str, str],
    seconds: float,
    gone: Callable[[], bool] = lambda: False,
) -> str:
    """Run one to its end, at most so long; returns what it printed. Raises :class:`Failed`."""
    command = Command(arguments, user, environment)
    try:
        command.wait(seconds, gone)
    except Failed:
        command.kill()
        raise
    return command.output()
