"""The agent's one door to external commands."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List, Sequence

import notfallserver
from notfallserver.wire.errors import NotfallError

_ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LC_ALL": "C",
}


def this_program(module: str, arguments: Sequence[str]) -> List[str]:
    """The command line that calls ``main`` of one of the agent's own modules in a new process."""
    # The package's root works as a path whether it is a directory or a zip archive.
    root = str(Path(notfallserver.__file__).parent.parent)
    code = (
        f"import sys; sys.path.insert(0, {root!r}); sys.dont_write_bytecode = True; "
        f"from notfallserver.agent.{module} import main; main(sys.argv[1:])"
    )
    return [sys.executable, "-S", "-c", code, *arguments]


def environment() -> Dict[str, str]:
    """What a command gets."""
    found = dict(_ENVIRONMENT)
    if "SYSTEMD_OFFLINE" in os.environ:
        found["SYSTEMD_OFFLINE"] = os.environ["SYSTEMD_OFFLINE"]
    return found


def run(arguments: Sequence[str], timeout: float = 30) -> str:
    """Run a command and return what it printed; a failure is an error with what it complained."""
    try:
        done = subprocess.run(
            list(arguments),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env=environment(),
            timeout=timeout,
            check=False,
            text=True,
            errors="replace",
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotfallError(
            "command-failed", f"'{arguments[0]}' cannot be run ({error}).", "Install or repair it."
        ) from None
    if done.returncode:
        told = (done.stderr or done.stdout).strip()[-500:]
        raise NotfallError(
            "command-failed",
            f"'{' '.join(arguments)}' failed with {done.returncode}: {told}",
            "Run it by hand and repair what it complains about.",
        )
    return done.stdout


def read_json(arguments: Sequence[str]) -> Any:
    """What a command printed as JSON; None when it is missing, failed or printed something else."""
    try:
        return json.loads(run(arguments))
    except (NotfallError, ValueError):
        return None
