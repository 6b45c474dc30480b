"""Ordering a target about: pull a version, adapt, reboot. Blocks until it reports that it did.

The target keeps its own index of what it wrote, so an order may be given any number of times and
only what is missing is done.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from notfallserver.server.cycle.recovery.desk import LOST_AFTER, Desk
from notfallserver.server.cycle.runner import JobContext
from notfallserver.wire.errors import NotfallError

SILENT_LIMIT = 600.0
"""After so many seconds of silence a target is given up."""
TICK = 1.0


@dataclass(frozen=True)
class Pulled:
    """A version is on the target; bytes, seconds."""

    version: str
    written: int
    verified: int
    seconds: float


@dataclass(frozen=True)
class Link:
    """One target in one recovery of one primary; ``grow``: see ``plan.py``. ``ready`` makes of a
    version what the target shall get, where that is not the version itself."""

    desk: Desk
    target: str
    primary: str
    recovery: str
    disks: Sequence[dict[str, object]]
    grow: bool = False
    ready: Callable[[JobContext, str], object] = lambda ctx, version: None

    def pull(self, ctx: JobContext, version: str, final: bool) -> Pulled:
        """Have the target write what differs of a version and read it back."""
        began = time.monotonic()
        self.ready(ctx, version)
        self._give({"order": "pull", "version": version, "final": final, "disks": list(self.disks)})
        phase = "last delta" if final else "copying back"
        report = self._await(ctx, "pulled", version, phase)
        return Pulled(
            version,
            int(report.get("written", 0)),
            int(report.get("verified", 0)),
            time.monotonic() - began,
        )

    def read(self, ctx: JobContext, run: str) -> None:
        """Have the target give all its disks into a run; blocks until every block was offered."""
        order = {"order": "give", "version": run, "disks": list(self.disks)}
        self.desk.take_from(self.target, {**order, "recovery": self.recovery}, self.primary, run)
        report = self._await(ctx, "given", run, "reading the disks")
        if int(report.get("done", 0)) < sum(int(str(one["size"])) for one in self.disks):
            raise NotfallError(
                "incomplete",
                "The machine did not read all of its disks.",
                "Import it again.",
                retry=True,
            )

    def adapt(self, ctx: JobContext, original: dict[str, Any]) -> list[str]:
        """Have the target adapt what was written to its hardware; returns the changes."""
        order = {"order": "adapt", "disks": list(self.disks), "original": original}
        self._give({**order, "grow": True} if self.grow else order)
        report = self._await(ctx, "adapted", "", "adapting to the new hardware")
        return [str(one) for one in report.get("changes", [])]

    def reboot(self, ctx: JobContext) -> None:
        """Have the target start from its own disks; over when it says so or falls silent."""
        self._give({"order": "reboot"})
        give_up = time.monotonic() + LOST_AFTER
        while time.monotonic() < give_up:
            if self.desk.report(self.target).get("state") == "rebooting":
                return
            if self.desk.silence(self.target) > 15:
                return
            ctx.progress("rebooting the target")
            ctx.sleep(0.5)

    def release(self) -> None:
        """The target forgets the recovery and shows its code again."""
        self.desk.give(self.target, {"order": "release", "recovery": self.recovery})

    def _give(self, order: dict[str, Any]) -> None:
        self.desk.give(self.target, {**order, "recovery": self.recovery}, self.primary)

    def _await(self, ctx: JobContext, state: str, version: str, phase: str) -> dict[str, Any]:
        ctx.progress(phase)
        while True:
            ctx.check()
            report = self.desk.wait_report(self.target, TICK)
            mine = report.get("recovery") == self.recovery and (
                not version or report.get("version") == version
            )
            if mine and report.get("state") == "failed":
                raise NotfallError.from_json(report.get("error") or {}, 500)
            if mine and report.get("state") == state:
                return report
            if mine:
                told = str(report.get("phase") or "")
                ctx.progress(
                    f"{phase} ({told})" if told else phase,
                    int(report.get("done", 0)),
                    int(report.get("total", 0)),
                )
            silence = self.desk.silence(self.target)
            if silence > SILENT_LIMIT:
                raise NotfallError(
                    "target-silent",
                    f"The target has not been heard for {silence:.0f} s.",
                    "Look at its console; boot it from the rescue medium again and start the "
                    "recovery again.",
                    retry=True,
                )
            if silence > LOST_AFTER:
                ctx.progress("waiting for the target, which is silent")
