"""What the agent on Windows imports must not need what Windows lacks."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SOURCE = Path(__file__).parents[2] / "src"
NATIVE = {"events", "here", "main", "manager", "native", "native_vss", "place", "service"}
"""They need Windows, and are only imported there."""
COMMON = ("duty", "enrolment", "seed", "servers", "service", "work.base")
"""The same on both systems."""

# As on Windows: modules that are not there, and no library of the process itself. Python's own
# modules come first: they would look for what only a Python for Windows has.
_CODE = """
import ctypes, http.client, ipaddress, lzma, mmap, os, random, signal, ssl, subprocess, sys, uuid
for name in ("fcntl", "grp", "pwd", "resource", "termios"):
    sys.modules[name] = None
sys.platform = "win32"
for name in ("O_CLOEXEC", "O_DIRECT", "O_NOFOLLOW", "preadv", "geteuid", "major", "makedev"):
    delattr(os, name)
class Library:
    def __init__(self, name, *_, **__):
        if name is None:
            raise TypeError("bad argument type for built-in operation")
ctypes.CDLL = Library
import importlib
for name in sys.argv[1:]:
    importlib.import_module(name)
"""


def test_all_but_the_native_modules_can_be_imported() -> None:
    rooms = [SOURCE / "notfallserver" / "agent" / one for one in ("windows", "ntfs")]
    names = [
        ".".join(path.relative_to(SOURCE).with_suffix("").parts)
        for room in rooms
        for path in sorted(room.glob("*.py"))
        if path.stem not in NATIVE
    ]
    names += [f"notfallserver.agent.{one}" for one in COMMON]
    assert "notfallserver.agent.windows.duty" in names
    done = subprocess.run(
        [sys.executable, "-c", _CODE, *names],
        env={"PYTHONPATH": str(SOURCE), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
