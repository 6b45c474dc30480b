"""All that carries versions away and brings them back: files, disks to start from, tapes."""

from __future__ import annotations

from dataclasses import dataclass

from notfallserver.server.cycle.boot_disks import BootDisks
from notfallserver.server.cycle.exports import Exports
from notfallserver.server.cycle.means import Means
from notfallserver.server.cycle.runner import JobRunner
from notfallserver.server.cycle.tape_restore import TapeRestore
from notfallserver.server.cycle.tapes import Tapes
from notfallserver.server.cycle.work import Work


@dataclass(frozen=True)
class Carry:
    exports: Exports
    disks: BootDisks
    tapes: Tapes
    restores: TapeRestore


def make_carry(means: Means, runner: JobRunner, work: Work) -> Carry:
    """With its jobs registered."""
    tapes = Tapes(means, runner).register()
    return Carry(
        Exports(means, runner, work).register(),
        BootDisks(means, runner, work).register(),
        tapes,
        TapeRestore(means, runner, tapes).register(),
    )
