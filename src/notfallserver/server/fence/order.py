"""Has a fence agent carry an order out.

The agents are Debian's (package fence-agents): they know IPMI, Redfish, iLO, iDRAC, switched power
strips, hypervisors and more, and come back from "off" only when the device says that it is off. A
script of one's own is called in their way: the options and ``action=off`` or ``action=status`` on
its standard input, one a line; it ends with 0 when done. Asked for the status it ends with 0 for
on and 2 for off.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from notfallserver.server.fence.device import MASK, SCRIPT, FenceDevice
from notfallserver.server.host.run import CommandFailed, run
from notfallserver.wire.errors import NotfallError

AGENTS = Path("/usr/sbin")
ASKED_S = 60.0
"""So long a device may take to say how it is."""
_OFF = 2


class FencePower(StrEnum):
    ON = "on"
    OFF = "off"


def agents() -> list[str]:
    """The names of all installed fence agents."""
    return sorted(one.name.removeprefix("fence_") for one in AGENTS.glob("fence_*"))


@dataclass(frozen=True)
class Fence:
    """Orders to devices; ``scripts`` is the directory of scripts of one's own."""

    scripts: Path

    def agents(self) -> list[str]:
        """Everything that can be named as an agent here."""
        own = sorted(one.name for one in self.scripts.glob("*") if os.access(one, os.X_OK))
        return [*agents(), *(SCRIPT + name for name in own)]

    def status(self, device: FenceDevice) -> FencePower:
        """Whether the machine is on, as its device says. Changes nothing."""
        told = self._have_done(device, "status", (0, _OFF), ASKED_S)
        return FencePower.OFF if told == _OFF else FencePower.ON

    def switch_off(self, device: FenceDevice, within: float) -> None:
        """Off at once, without asking its operating system; over when the device says it is off.

        ``within``: seconds for the order.
        """
        self._have_done(device, "off", (0,), within)
        if self.status(device) is not FencePower.OFF:
            raise NotfallError(
                "fence-failed",
                f"{device.place} took the order to switch off, but says that the machine is on.",
                "Go to the machine, and pull its power plug.",
                status=409,
            )

    def _have_done(
        self, device: FenceDevice, action: str, ok: tuple[int, ...], within: float
    ) -> int:
        if device.is_script:
            program = self.scripts / device.agent.removeprefix(SCRIPT)
        else:
            program = AGENTS / f"fence_{device.agent}"
        if not os.access(program, os.X_OK) or not program.is_file():
            raise NotfallError(
                "no-fence-agent",
                f"There is no program {program} on this emergency server.",
                "Install the package fence-agents, or put your script there, executable.",
                status=409,
            )
        lines = [f"action={action}", *(f"{key}={told}" for key, told in device.options.items())]
        try:
            done = run([program], text_in="\n".join(lines) + "\n", timeout=within, ok=ok)
        except CommandFailed as error:
            said = _without(device, error.tail) or "it said nothing"
            raise NotfallError(
                "fence-failed",
                f"{device.place} did not obey: {said}",
                "Compare address, user and password with the device's. Is it on the network?",
                status=409,
            ) from None
        return done.exit_code


def _without(device: FenceDevice, text: str) -> str:
    """What the agent printed, without secrets that it repeats."""
    for secret in device.secrets():
        text = text.replace(secret, MASK)
    return text
