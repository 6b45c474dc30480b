"""The system that this runs on."""

from __future__ import annotations

import sys
from pathlib import Path

from notfallserver.agent.stop import Stop
from notfallserver.agent.work.base import Host

if sys.platform == "win32":
    from notfallserver.agent.windows.here import host
else:
    from notfallserver.agent.work.linux import LinuxHost

    def host(directory: Path, stop: Stop) -> Host:
        """``directory`` has what belongs to the machine."""
        return LinuxHost(directory, stop)


__all__ = ["host"]
