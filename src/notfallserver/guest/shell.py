"""The door to external commands inside the rescue system.

Argument lists only, standard input closed unless given, a small fixed environment, a timeout,
declared exit codes. A failure is raised as :class:`NotfallError` with the command's last lines.
"""

from __future__ import annotations

import shlex
import subprocess
from dataclasses import dataclass
from typing import Collection, Optional, Sequence

from notfallserver.wire.errors import NotfallError

ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LC_ALL": "C.UTF-8",
    "HOME": "/root",
    "DEBIAN_FRONTEND": "noninteractive",
}


@dataclass(frozen=True)
class Finished:
    """A command that ended with a declared exit code."""

    exit_code: int
    out: str
    err: str


def run(
    arguments: Sequence[str],
    timeout: float = 120,
    ok: Collection[int] = (0,),
    text_in: Optional[str] = None,
) -> Finished:
    """Run a command to its end; ``timeout`` in seconds."""
    line = " ".join(shlex.quote(one) for one in arguments)
    try:
        done = subprocess.run(
            list(arguments),
            input=text_in,
            stdin=None if text_in is not None else subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
            env=ENVIRONMENT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise _failed(line, f"gave up after {timeout:.0f} s") from None
    except OSError as error:
        raise _failed(line, str(error)) from None
    if done.returncode not in ok:
        tail = " | ".join((done.stderr.strip() or done.stdout.strip()).splitlines()[-5:])
        raise _failed(line, f"exit code {done.returncode}: {tail[:1000]}")
    return Finished(done.returncode, done.stdout, done.stderr)


def _failed(line: str, why: str) -> NotfallError:
    return NotfallError(
        "command-failed",
        f"In the rescue system '{line[:300]}' failed: {why}",
        "Look at the image: its filesystem may be damaged or full.",
        status=500,
    )
