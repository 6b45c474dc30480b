"""What people can have done: the interface between web and conductor, and the types it uses.

The web knows only this. Primaries are named by UUID here, ``who`` is the person for the journal.
A method that begins long work returns its job; one that can't be done now raises
:class:`~notfallserver.wire.errors.NotfallError` with cause and remedy.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from socket import socket
from typing import Protocol

from notfallserver.server.cycle.adaptation import Adaptations
from notfallserver.server.cycle.alarm.alarms import Alarms
from notfallserver.server.cycle.browse.shelf import Shelf
from notfallserver.server.cycle.carry import Carry
from notfallserver.server.cycle.choice import Choice
from notfallserver.server.cycle.fencing import Fencing
from notfallserver.server.cycle.handovers import HandOver
from notfallserver.server.cycle.imports import Imports
from notfallserver.server.cycle.normal.forecast import Forecast
from notfallserver.server.cycle.normal.limits import Limits, Wish
from notfallserver.server.cycle.normal.readiness import Finding
from notfallserver.server.cycle.offloads.desk import Offloads
from notfallserver.server.cycle.outage.guard import Verdict
from notfallserver.server.cycle.own_checks import OwnChecks
from notfallserver.server.cycle.plans.start_plan import StartPlans
from notfallserver.server.cycle.power_order import Order
from notfallserver.server.cycle.retention.keeper import Retention
from notfallserver.server.cycle.surroundings import Surroundings
from notfallserver.server.cycle.target_imports import TargetImports
from notfallserver.server.cycle.trial import Trials
from notfallserver.server.pool.proof import Evidence, Grade
from notfallserver.server.pool.version import Application
from notfallserver.server.records.jobs import Job
from notfallserver.server.vm.hypervisor import MachineState
from notfallserver.wire.errors import NotfallError


@dataclass(frozen=True)
class Damage:
    """What is known of a version's soundness; ``checked_at`` is None before the first check.

    ``blocks`` are damaged, and the index of ``indexes`` disks. ``lost``: no copy is left.
    """

    checked_at: datetime | None = None
    blocks: int = 0
    indexes: int = 0
    lost: bool = False


@dataclass(frozen=True)
class VersionInfo:
    """One version for showing; sizes in bytes, ``source`` is agent, import or capture.

    ``proof``: what came of its last rehearsal, passed or failed; empty: nothing was found out yet.
    ``suspect``: an alarm marks it.
    ``evidence`` is what was tried in it, ``grade`` what that comes to, ``failed_step`` what failed.
    """

    stamp: str
    taken_at: datetime
    source: str
    consistency: str
    size: int
    used: int
    disks: int
    newest: bool
    prepared: bool
    damage: Damage = Damage()
    proof: str = ""
    grade: Grade = Grade.NONE
    failed_step: Grade | None = None
    evidence: Evidence | None = None
    applications: tuple[Application, ...] = ()
    suspect: bool = False


@dataclass(frozen=True)
class PoolState:
    """The pool for showing; bytes. ``protected``: versions can't be changed by mistake."""

    path: str
    filesystem: str
    reflink: bool
    size: int
    free: int
    protected: bool = False


@dataclass(frozen=True)
class DiskMove:
    """Old disk (or several) -> new disk, what on the new one will be overwritten, and what becomes
    other than it was, in words."""

    old_name: str
    old_size: int
    new_name: str
    new_size: int
    new_serial: str
    new_model: str
    overwrites: tuple[str, ...] = ()
    changes: tuple[str, ...] = ()


@dataclass(frozen=True)
class RecoveryPlan:
    """What a recovery would do. Nobody may carry it out without its ``digest``: that is how a
    person confirms just this plan and no other. ``grow``: filesystems become as large as the new
    disks; ``can_grow``: they could."""

    primary: str
    target: str
    moves: tuple[DiskMove, ...]
    untouched: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    grow: bool = False
    can_grow: bool = False

    @property
    def digest(self) -> str:
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:16]

    def confirm(self, digest: str) -> None:
        """Refuse unless ``digest`` is this plan's."""
        if digest != self.digest:
            raise NotfallError(
                "plan-changed",
                "The target's disks are no longer as they were shown.",
                "Look at the new plan and confirm that.",
                status=409,
            )


class Conductor(Protocol):
    """Moves primaries between states; the implementation is ``cycle.conductor``."""

    @property
    def shelf(self) -> Shelf:
        """Versions that are open for looking at their files."""

    @property
    def fencing(self) -> Fencing:
        """What can switch originals off from afar."""

    @property
    def start_plans(self) -> StartPlans:
        """In which order servers start when several are down, and having them started."""

    @property
    def choice(self) -> Choice:
        """Which copies a stand-in can be started from."""

    @property
    def alarms(self) -> Alarms:
        """What versions show of ransomware, and what people say of it."""

    @property
    def checks(self) -> OwnChecks:
        """Own checks of servers' services."""

    @property
    def handovers(self) -> HandOver:
        """Planned handovers of living primaries to their stand-ins."""

    @property
    def imports(self) -> Imports:
        """Importing image files of servers that have no agent."""

    @property
    def carry(self) -> Carry:
        """Versions carried away and brought back: files, disks, tapes."""

    @property
    def target_imports(self) -> TargetImports:
        """Importing the disks of machines that were started from the rescue medium."""

    @property
    def adaptations(self) -> Adaptations:
        """What the adaptation to other hardware would change."""

    @property
    def retention(self) -> Retention:
        """Which versions stay and which go."""

    @property
    def offloads(self) -> Offloads:
        """Carrying versions to other places, and bringing them back."""

    @property
    def trials(self) -> Trials:
        """Trial periods after switch-backs."""

    def versions(self, primary: str) -> Sequence[VersionInfo]:
        """Newest first."""

    def pool_state(self) -> PoolState: ...

    def replicate(self, primary: str, who: str, deep: bool = False) -> Job:
        """Make a version; ``deep`` reads all and tells what had changed unseen."""

    def scrub(self, primary: str, who: str, version: str | None = None) -> Job:
        """Check one version, or all, against the block index; repair what can be."""

    def import_seed(self, directory: Path, primary: str, code: str, who: str) -> Job:
        """Make a version of the seed in ``directory``; ``code`` for one that a server exported,
        ``primary`` where that is known by another UUID here; else both are empty."""

    def export_seed(
        self, primary: str, directory: Path, version: str | None, who: str
    ) -> tuple[Job, str]:
        """Write a version as a seed; the job, and the code that its import needs."""

    def forget_seed(self, primary: str, who: str) -> None:
        """Don't wait any longer for a seed that was made; replications begin again."""

    def examine(self, primary: str) -> Verdict:
        """What the guard says now; changes nothing, takes a few seconds."""

    def screen(self, primary: str) -> bytes:
        """What the screen of the stand-in, or of the rehearsal, shows, as PNG."""

    def machine(self, primary: str) -> MachineState:
        """Whether the stand-in is on."""

    def console(self, primary: str) -> socket:
        """Screen, keyboard and mouse of a stand-in that is on: a stream of VNC's protocol."""

    def power(
        self, primary: str, order: Order, who: str, overrule_reason: str = ""
    ) -> MachineState:
        """Switch a stand-in that is at work; before it is switched on the guard is asked, which
        ``overrule_reason`` overrules. Returns how it is just afterwards."""

    def activate(
        self,
        primary: str,
        who: str,
        overrule_reason: str = "",
        switch_off: bool = False,
        version: str | None = None,
    ) -> Job:
        """Start the stand-in; ``overrule_reason`` overrules the guard, ``switch_off`` has the
        original switched off from afar before the guard decides, ``version`` is the copy (None:
        as ``cycle.choice`` decides)."""

    def rehearse(self, primary: str, who: str, keep_running: bool = False) -> Job:
        """Start its copy where nobody notices; ``keep_running``: for looking at it afterwards."""

    def end_rehearsal(self, primary: str, who: str) -> Job:
        """Put it away; what was found out stays."""

    def rehearsal_picture(self, primary: str, rehearsal: str) -> bytes:
        """What the screen showed when it was known whether it answers, as PNG."""

    def plan_recovery(
        self,
        primary: str,
        target_code: str,
        disk_map: Mapping[str, str] | None,
        grow: bool = False,
    ) -> RecoveryPlan:
        """``disk_map``: old disk's name -> new disk's name; None lets the server choose. ``grow``:
        filesystems shall become as large as the new disks."""

    def recover(
        self,
        primary: str,
        target_code: str,
        disk_map: Mapping[str, str] | None,
        confirmed: str,
        who: str,
        grow: bool = False,
    ) -> Job:
        """``confirmed`` is the digest of the plan that the person saw."""

    def switch_back(self, primary: str, who: str, at: datetime | None = None) -> Job: ...

    def undo(self, primary: str, who: str) -> Job:
        """The way back from the present state: to the stand-in (also in the trial period after a
        switch-back, by a handover), or to before the activation."""

    def set_limits(self, primary: str, wish: Wish, clear: bool, who: str) -> Limits:
        """Change what replications may take; ``clear`` takes all limits away first."""

    def forecast(self, primary: str) -> Forecast | None:
        """How old the newest version will get; None while too little is known."""

    def readiness(self, primary: str) -> Sequence[Finding]:
        """What stands in the way of replacing it, worst first; empty while a stand-in works."""

    def surroundings(self) -> Surroundings:
        """What this server stands on; takes a second if a gateway or witness is silent."""

    def remove(self, primary: str, who: str) -> None:
        """Forget a primary and delete its versions; refused while it has a stand-in or a job."""

    def mount_files(self, primary: str, version: str | None, directory: Path, who: str) -> str:
        """Show a version's volumes read-only in an empty directory; returns its stamp."""

    def unmount_files(self, directory: Path) -> None: ...

    def build_rescue(self, who: str) -> Job: ...
