"""Switching an original off from afar before its stand-in starts, where a device for it is known.

Where the guard allows the start anyway, a device that does not answer holds nothing up: in a power
cut it is dead as well. Where the original still lives, a person may wish that it be switched off;
then the device must say that it is off, and the guard must find nothing alive any more.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from notfallserver.server.cycle.means import Means
from notfallserver.server.cycle.outage.guard import Verdict
from notfallserver.server.cycle.runner import JobContext
from notfallserver.server.fence.device import FENCE, FenceDevice, describe, read_device
from notfallserver.server.fence.order import Fence, FencePower
from notfallserver.server.records.primaries import Primary
from notfallserver.wire.errors import NotfallError

WISHED_S = 90.0
"""So long a device may take to switch off what lives; agents wait 20 s for the power to go."""
UNWISHED_S = 20.0
"""So long a stand-in that may start anyway waits for the device."""


class Fencing:
    """``examine`` asks the guard about a primary that was switched off so many seconds ago."""

    def __init__(
        self, means: Means, examine: Callable[[str, float | None], Verdict], fence: Fence
    ) -> None:
        self._means = means
        self._examine = examine
        self._fence = fence

    # -- set-up ----------------------------------------------------------------------------------

    def agents(self) -> list[str]:
        """Everything that can be named as an agent here."""
        return self._fence.agents()

    def set(self, row: Primary, agent: str, options: Mapping[str, str], who: str) -> FenceDevice:
        """Keep a device; nothing is asked of it."""
        device = describe(agent, options, read_device(row.notes))
        self._means.catalogue.primaries.note(row.uuid, **{FENCE: device.to_json()})
        self._journal(row, "fence-set", who, device)
        return device

    def forget(self, row: Primary, who: str) -> None:
        device = self.need(row)
        self._means.catalogue.primaries.note(row.uuid, **{FENCE: None})
        self._journal(row, "fence-forgotten", who, device)

    def status(self, row: Primary) -> FencePower:
        """Whether the original is on, as its device says. Changes nothing."""
        return self._fence.status(self.need(row))

    def need(self, row: Primary) -> FenceDevice:
        device = read_device(row.notes)
        if device is None:
            raise NotfallError(
                "no-fence-device",
                f"Nothing is known that could switch {row.name} off from afar.",
                "Name its management board or power strip with 'notfall fence set', or on the page "
                "in its settings.",
                status=409,
            )
        return device

    # -- before a start --------------------------------------------------------------------------

    def clear_way(self, ctx: JobContext) -> None:
        """The first step of an activation; done once. Raises where the stand-in may not start."""
        row = self._means.catalogue.primaries.find(ctx.primary)
        wished = is_wished(ctx)
        device = self.need(row) if wished else read_device(row.notes)
        if device is None or ctx.notes.get("fenced"):
            return
        ctx.progress("switching the original off")
        try:
            self._fence.switch_off(device, WISHED_S if wished else UNWISHED_S)
        except NotfallError as error:
            self._journal(row, "fence-failed", ctx.job.who, device, str(error))
            if wished:
                raise
            return
        off = time.monotonic()
        self._journal(row, "fenced", ctx.job.who, device)
        if wished:
            self._examine(row.uuid, time.monotonic() - off).require()
        ctx.note(fenced=True)

    def _journal(
        self, row: Primary, event: str, who: str, device: FenceDevice, why: str = ""
    ) -> None:
        details = {"device": device.place}
        self._means.catalogue.journal.write(row.uuid, event, who, why, details)


def is_wished(ctx: JobContext) -> bool:
    """Whether a person wants the original switched off, though it may be alive."""
    return bool(ctx.parameters.get("switch_off"))
