"""The one door to external commands.

Argument lists only, standard input closed, a small fixed environment, a timeout, declared exit
codes. A failure is logged once, with a line that can be pasted into a shell, and raised as
:class:`CommandFailed`. Arguments given in ``secrets`` never appear in a log or an error.
"""

from __future__ import annotations

import logging
import shlex
import subprocess
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from notfallserver.wire.errors import NotfallError

log = logging.getLogger(__name__)

ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LC_ALL": "C.UTF-8",
    "HOME": "/root",
}


class CommandFailed(NotfallError):
    """An external command ended with an exit code nobody declared, or not at all."""

    def __init__(self, line: str, exit_code: int | None, tail: str) -> None:
        ending = "did not end in time" if exit_code is None else f"ended with exit code {exit_code}"
        super().__init__(
            "command-failed",
            f"'{line}' {ending}: {tail or 'it printed nothing'}",
            "Run the line by hand to see more.",
            status=500,
        )
        self.exit_code = exit_code
        self.tail = tail


@dataclass(frozen=True)
class Finished:
    """A command that ended with a declared exit code."""

    exit_code: int
    out: str
    err: str


def paste_line(arguments: Sequence[str | Path], secrets: Collection[str] = ()) -> str:
    """The command as a line for a shell, secrets masked."""
    return shlex.join("***" if str(part) in secrets else str(part) for part in arguments)


def run(
    arguments: Sequence[str | Path],
    *,
    timeout: float = 60,
    ok: Collection[int] = (0,),
    text_in: str | None = None,
    environment: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    secrets: Collection[str] = (),
) -> Finished:
    """Run a command to its end; ``timeout`` in seconds, ``ok`` the declared exit codes."""
    line = paste_line(arguments, secrets)
    log.debug("run %s", line)
    try:
        done = subprocess.run(
            [str(part) for part in arguments],
            input=text_in,
            stdin=None if text_in is not None else subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
            env={**ENVIRONMENT, **(environment or {})},
            cwd=cwd,
            check=False,
        )
    except subprocess.TimeoutExpired:
        log.error("timed out after %ss: %s", timeout, line)
        raise CommandFailed(line, None, f"gave up after {timeout} s") from None
    except FileNotFoundError:
        raise NotfallError(
            "command-missing",
            f"The program '{arguments[0]}' is not installed.",
            "Install it with the distribution's package manager.",
            status=500,
        ) from None
    if done.returncode not in ok:
        tail = "\n".join((done.stderr or done.stdout).strip().splitlines()[-5:])
        log.error("exit code %s: %s\n%s", done.returncode, line, tail)
        raise CommandFailed(line, done.returncode, tail)
    return Finished(done.returncode, done.stdout, done.stderr)
