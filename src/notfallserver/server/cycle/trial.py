"""The trial period after a switch-back: one click still leads back to the stand-in.

The stand-in's last disks stay, as the version that was captured of them and as a prepared image
that needs no adaptation: they have just worked. Going back is a planned handover of the recovered
machine, so what was written since comes along; where it does not answer any more, an ordinary
activation of the newest version. The period ends by itself, when a person says that all is well, or
with the next stand-in.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

from notfallserver.server.cycle.means import Means
from notfallserver.server.cycle.state import WITH_STANDIN, State
from notfallserver.server.records.primaries import Primary
from notfallserver.wire.errors import NotfallError

TRIAL = "trial"
"""In a primary's notes."""


@dataclass(frozen=True)
class Trial:
    """``version``: the last one of the stand-in."""

    since: str
    until: str
    version: str

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def end(self) -> datetime:
        return datetime.fromisoformat(self.until)


def read_trial(notes: Mapping[str, Any]) -> Trial | None:
    return Trial(**notes[TRIAL]) if TRIAL in notes else None


@dataclass(frozen=True)
class Trials:
    """Begins and ends them."""

    means: Means

    def begin(self, primary: str) -> None:
        """The recovered machine was heard."""
        version = self.means.pool.primary(primary).need_newest()
        hours = self.means.present().trial_hours
        if hours:
            now = datetime.now(timezone.utc)
            until = now + timedelta(hours=hours)
            trial = Trial(now.isoformat(), until.isoformat(), version.stamp)
            self.means.catalogue.primaries.note(primary, **{TRIAL: trial.to_json()})

    def need(self, row: Primary) -> Trial:
        trial = read_trial(row.notes)
        if trial is None:
            raise NotfallError(
                "no-trial",
                f"{row.name} is in no trial period after a switch-back.",
                status=409,
            )
        return trial

    def accept(self, row: Primary, who: str) -> None:
        """All is well: the period is over."""
        self.need(row)
        self._end(row, who)

    def look(self, row: Primary) -> None:
        """End it when its time is over; called every few seconds."""
        trial = read_trial(row.notes)
        if trial is None:
            return
        if State(row.state) in WITH_STANDIN:
            self.means.catalogue.primaries.note(row.uuid, **{TRIAL: None})
        elif row.state == State.NORMAL and datetime.now(timezone.utc) >= trial.end:
            self._end(row, "server")

    def _end(self, row: Primary, who: str) -> None:
        self.means.catalogue.primaries.note(row.uuid, **{TRIAL: None})
        self.means.catalogue.journal.write(row.uuid, "trial-ended", who)
