"""Wine, made for a test: a Windows without disks, but with programs, services and raw drives."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

ROOT = Path(__file__).parents[3]
BUILT = ROOT / "build" / "windows"
"""What `make windows-agent` leaves."""


def need_package() -> Path:
    """The agent's package, which `make test` builds before the tests."""
    package = BUILT / "notfall-agent.msi"
    assert package.exists(), "build the agent for Windows first: make windows-agent"
    return package


class Wine:
    """A program that does nothing keeps its services alive."""

    def __init__(self, place: Path) -> None:
        self.place = place / "wine"
        self._environment = {
            **os.environ,
            "WINEPREFIX": str(self.place),
            "WINEARCH": "win64",
            "WINEDEBUG": "-all",
        }
        self._quietly("wineboot", "-i")
        self._quietly("wine", "winecfg", "-v", "win10")
        self._quietly("wineserver", "-w")  # what the first start began must have ended
        self._keeper = self._keep()

    def restart(self) -> None:
        """As Windows starts anew: what it had in memory only is gone."""
        self.close()
        self._quietly("wineserver", "-w")
        self._keeper = self._keep()

    def _keep(self) -> subprocess.Popen[bytes]:
        keeper = subprocess.Popen(
            ["wine", "cmd"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=self._environment,
        )
        self._quietly("wine", "net", "start")  # the service manager is up
        time.sleep(3)
        return keeper

    def _quietly(self, *arguments: str) -> int:
        """Without pipes: services that it starts would keep them open."""
        return subprocess.run(
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=self._environment,
            timeout=300,
            check=False,
        ).returncode

    def package(self, *arguments: str) -> int:
        """msiexec, silently; its exit code."""
        return self._quietly("wine", "msiexec", *arguments, "/qn")

    def run(self, *arguments: str, errors: bool = False) -> str:
        """What a program prints, or what it says of errors."""
        done = subprocess.run(
            ["wine", *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env=self._environment,
            timeout=120,
            check=False,
        )
        told = done.stderr if errors else done.stdout
        return told.decode(errors="replace").replace("\r", "")

    def python(self, module: str, *arguments: object) -> str:
        """What ``main`` of a module of the lab prints, in a Python for Windows."""
        paths = [f"Z:{ROOT / one}" for one in ("src", "lab")]
        code = (
            f"import sys; sys.path[:0] = {paths!r}; from {module} import main; main(sys.argv[1:])"
        )
        given = [str(one) for one in arguments]
        return self.run(str(BUILT / "python" / "python.exe"), "-B", "-c", code, *given)

    def map_drive(self, letter: str, device: str) -> None:
        r"""``\\.\N:`` is this block device."""
        (self.place / "dosdevices" / f"{letter.lower()}::").symlink_to(device)

    @property
    def disk(self) -> Path:
        return self.place / "drive_c"

    def close(self) -> None:
        self._quietly("wineserver", "-k")
        self._keeper.communicate()
