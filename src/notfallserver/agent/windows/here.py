"""This very Windows, as a host of the agent."""

from __future__ import annotations

import sys
from pathlib import Path

from notfallserver.agent.stop import Stop
from notfallserver.agent.windows.duty import WindowsHost
from notfallserver.agent.work.base import Host

assert sys.platform == "win32"  # noqa: S101  (tells type checkers, too)

from notfallserver.agent.windows import native_vss  # noqa: E402
from notfallserver.agent.windows.native import Native  # noqa: E402


def host(directory: Path, stop: Stop) -> Host:
    """``directory`` has what belongs to the machine."""
    return WindowsHost(directory, Native(), native_vss.taker(stop.check, stop.wait), stop)
