r"""The agent's program for tests under Wine: all of it is the real one, but for what Wine has not.

Disks and volumes are told in ``C:\played.json``, and the disk's content is read from drive N: by
Windows' own functions; VSS is played. Registry, service manager, event log, network and TLS are
Wine's.
"""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path
from typing import Callable, Optional, Union

from notfall_lab.windows.played import Played, PlayedMachine
from notfallserver.agent.windows import native, native_vss
from notfallserver.agent.windows.enrol import KEY
from notfallserver.agent.windows.moment import Take

assert sys.platform == "win32"  # tells type checkers, too

TOLD = Path("C:/played.json")
DRIVE = r"\\.\N:"
_NATIVE = native.Native


class PlayedWindows(PlayedMachine):
    """The invitation is where the package wrote it."""

    def __init__(self) -> None:
        self._native = _NATIVE()
        self._drive = self._native.open(DRIVE)
        super().__init__(Played.from_json(TOLD.read_text()), self._drive.read)

    def setting(self, key: str, name: str) -> Optional[Union[str, int]]:
        return self._native.setting(key, name) if key == KEY else super().setting(key, name)


@cache
def windows() -> PlayedWindows:
    """One machine, whose snapshots are read where it is asked for its disks."""
    return PlayedWindows()


def taker(_check: Callable[[], None], _wait: Callable[[float], None]) -> Take:
    return windows().taker()


def main() -> int:
    vars(native)["Native"] = windows
    vars(native_vss)["taker"] = taker
    from notfallserver.agent.windows import main as program  # it takes both by name

    return program.main()


if __name__ == "__main__":
    sys.exit(main())
