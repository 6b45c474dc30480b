"""Carrying copies away in the dry run: nothing real may be written, least of all to a disk."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

from notfallserver.server.cycle.boot_disks import BootDisks
from notfallserver.server.cycle.carry import Carry
from notfallserver.server.cycle.exports import Exports
from notfallserver.server.cycle.tape_restore import TapeRestore
from notfallserver.server.cycle.tapes import Tapes
from notfallserver.wire.errors import NotfallError


def _refuse() -> NoReturn:
    raise NotfallError(
        "not-in-the-dry-run",
        "This needs real disks.",
        "Try it on a real emergency server.",
        status=501,
    )


class PaperExports(Exports):
    def begin(self, *_: Any) -> NoReturn:
        _refuse()


class PaperDisks(BootDisks):
    def begin(self, *_: Any) -> NoReturn:
        _refuse()


class PaperTapes(Tapes):
    def begin(self, *_: Any) -> NoReturn:
        _refuse()

    def label_tape(self, device: Path, label: str, overwrite: str) -> None:
        _refuse()


class PaperRestore(TapeRestore):
    def begin(self, *_: Any) -> NoReturn:
        _refuse()


def paper_carry(real: Carry) -> Carry:
    """What lists is as it is; what would write refuses."""
    means, runner, work = real.exports.means, real.exports.runner, real.exports.work
    tapes = PaperTapes(means, runner)
    return replace(
        real,
        exports=PaperExports(means, runner, work),
        disks=PaperDisks(means, runner, work),
        tapes=tapes,
        restores=PaperRestore(means, runner, tapes),
    )
