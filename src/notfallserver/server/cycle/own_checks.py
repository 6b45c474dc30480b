"""Own checks of a server's services: kept with the primary, made in its rehearsals."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from notfallserver.server.cycle.means import Means
from notfallserver.server.cycle.rehearsal.checks import CHECKS, OwnCheck, describe, read_checks_of
from notfallserver.server.records.primaries import Primary
from notfallserver.server.settings import Settings


class OwnChecks:
    """What people want checked."""

    def __init__(self, means: Means) -> None:
        self._means = means

    def of(self, row: Primary) -> tuple[OwnCheck, ...]:
        return read_checks_of(row.notes)

    def scripts(self) -> list[str]:
        """The programs that can be named."""
        place = script_place(self._means.settings)
        return sorted(one.name for one in place.glob("*") if os.access(one, os.X_OK))

    def set(self, row: Primary, wishes: Sequence[OwnCheck], who: str) -> tuple[OwnCheck, ...]:
        """These and no others from now on; nothing is asked yet."""
        checks = describe(wishes)
        if checks != self.of(row):
            told = [one.to_json() for one in checks]
            self._means.catalogue.primaries.note(row.uuid, **{CHECKS: told or None})
            details = {"checks": [one.name for one in checks]}
            self._means.catalogue.journal.write(row.uuid, "checks-changed", who, details=details)
        return checks


def script_place(settings: Settings) -> Path:
    """Whoever may change settings need not be root of this server, so scripts lie in a directory
    of root's."""
    return settings.data_dir / "checks"
