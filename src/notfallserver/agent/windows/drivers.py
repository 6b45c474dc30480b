"""Drivers for other hardware are installed at the first start on it.

The adaptation of the image has laid whole packages down (``guest/windows/laid_down.py``), each in a
folder that is named after its contents; Windows' own ``pnputil`` installs them, once. What a driver
of a disk controller needs for the start is in place before; this makes it a proper one.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Dict, List, Set, Tuple

from notfallserver.agent.windows.system import Refused, System

log = logging.getLogger("notfall-agent")

PACKAGES = "drivers"
DONE = "drivers.done"
"""Beside it: the names of the folders whose drivers are installed."""
TRIES = 3
"""In one run of the service; then it waits for the next one."""

_UNFINISHED = ".part"
_CURRENT = r"SOFTWARE\Microsoft\Windows NT\CurrentVersion"
NEW_WORDS = 14393
"""From this build on (10 of 2016) pnputil knows the new form of its options, with slashes."""
NOTHING_TO_DO, RESTART_LATER, RESTARTS = 259, 3010, 1641
"""No device needs it now, or it has it already; it works after the next restart."""


def install_command(build: int, inf: Path) -> Tuple[str, ...]:
    """Put it into the store of drivers, and install it on devices that it fits."""
    if build >= NEW_WORDS:
        return ("/add-driver", str(inf), "/install")
    return ("-i", "-a", str(inf))


class DriverKeeper:
    """Of one agent; ``directory`` has its configuration, and what the adaptation laid there."""

    def __init__(self, directory: Path, system: System) -> None:
        self._packages = directory / PACKAGES
        self._done = directory / DONE
        self._system = system
        self._tries: Dict[str, int] = {}

    def settle(self) -> bool:
        """Install what is not installed yet; True when nothing is left to do. Called again and
        again."""
        done = self._installed()
        left = [one for one in self._waiting() if one.name not in done]
        for folder in left:
            if self._tries.get(folder.name, 0) >= TRIES:
                continue
            if self._install(folder):
                done.add(folder.name)
                self._done.write_text("".join(f"{one}\n" for one in sorted(done)))
            else:
                self._tries[folder.name] = self._tries.get(folder.name, 0) + 1
        return all(one.name in done for one in left)

    def _installed(self) -> Set[str]:
        try:
            return set(self._done.read_text().split())
        except (OSError, ValueError):
            return set()

    def _waiting(self) -> List[Path]:
        try:
            found = sorted(self._packages.iterdir())
        except OSError:
            return []
        return [one for one in found if one.is_dir() and not one.name.endswith(_UNFINISHED)]

    def _install(self, folder: Path) -> bool:
        installed = True
        for inf in sorted(one for one in folder.iterdir() if one.suffix.lower() == ".inf"):
            command = install_command(self._build(), inf)
            try:
                code = self._system.pnputil(*command)
            except Refused as error:
                log.warning("the driver %s could not be installed: %s", inf.name, error)
                installed = False
                continue
            if code not in (0, NOTHING_TO_DO, RESTART_LATER, RESTARTS):
                log.warning("the driver %s could not be installed: pnputil %#x", inf.name, code)
                installed = False
            else:
                log.info("the driver %s is installed (pnputil %d)", inf.name, code)
        return installed

    def _build(self) -> int:
        told = str(self._system.setting(_CURRENT, "CurrentBuildNumber") or "")
        return int(told) if told.isdigit() else 0
