"""Which copy a stand-in is started from: what is offered, and what is taken where nobody chooses.

The newest proven copy is offered first, because it starts for sure. Taken, where nobody chooses, is
the newest all the same, unless it is known not to start: proofs come by days, copies by minutes,
and a day of a company's work is worth more than the certainty to get the day before back.

Copies that a ransomware alarm marks (``suspect``) are different: the newest of the others is
offered first, and taken, also before anybody answered the alarm. An outage just after an alarm is
an attack more often than not, encrypted files serve nobody, and what is in the newest copy is not
lost: it is offered beside, with a warning, and its files can be looked at. Pure but for
:class:`Choice`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from notfallserver.server.cycle.alarm.alarms import marked
from notfallserver.server.cycle.means import Means
from notfallserver.server.pool.health import SOUND
from notfallserver.server.pool.layout import stamp_time
from notfallserver.server.pool.proof import Evidence, Grade, Standing, grade, standing
from notfallserver.server.pool.store import Clones, PrimaryStore
from notfallserver.server.records.primaries import Primary

WISH = "start_of"
"""In a primary's notes: the version that somebody wants started, while it is being started."""
CAPTURE = "capture"


class Role(StrEnum):
    """What a copy is offered as."""

    CLEAN = "clean"  # the newest that no alarm marks, where the newest is marked
    PROVEN = "proven"
    NEWEST = "newest"
    ORIGINAL = "original"  # the newest of the server itself, where the newest is of a stand-in


@dataclass(frozen=True)
class Candidate:
    """A version that could be started; ``base`` is what it was made from."""

    stamp: str
    kind: str
    base: str
    prepared: bool
    sound: bool = True
    evidence: Evidence | None = None
    suspect: bool = False


@dataclass(frozen=True)
class Offer:
    """``behind_s``: seconds by which it is older than the newest. ``taken``: where nobody chooses.
    ``proved_at``: when it was tried last, ISO 8601, or empty."""

    role: Role
    stamp: str
    taken_at: datetime
    kind: str
    behind_s: float
    prepared: bool
    grade: Grade
    standing: Standing
    failed_step: Grade | None = None
    proved_at: str = ""
    taken: bool = False
    suspect: bool = False


def offers_of(candidates: Sequence[Candidate]) -> tuple[Offer, ...]:
    """``candidates`` are newest first. A damaged one is offered only where none is sound."""
    known = [one for one in candidates if one.sound] or list(candidates)
    if not known:
        return ()
    newest = known[0]
    found: dict[str, Offer] = {}
    calm = [one for one in known if not one.suspect]
    clean = _best_of(calm) if calm and newest.suspect else None
    # One that is encrypted may well start: that proves nothing here.
    proven = _proven_of(calm or known)
    for role, one in (
        (Role.CLEAN, clean),
        (Role.PROVEN, proven),
        (Role.NEWEST, newest),
        (Role.ORIGINAL, _left_aside(known)),
    ):
        if one is not None:
            # The newest, where it is proven, is both; one name is enough.
            found.setdefault(one.stamp, _offer(role, one, newest))
    taken = (clean or _best_of(known)).stamp
    return tuple(replace(one, taken=one.stamp == taken) for one in found.values())


def _best_of(known: Sequence[Candidate]) -> Candidate:
    """The newest, unless it is known not to start and one is known to."""
    refuted = standing(known[0].evidence) is Standing.REFUTED
    return (_proven_of(known) if refuted else None) or known[0]


def _proven_of(known: Sequence[Candidate]) -> Candidate | None:
    return next((one for one in known if standing(one.evidence) is Standing.PROVEN), None)


def _left_aside(known: Sequence[Candidate]) -> Candidate | None:
    """The newest copy of the server itself, unless the newest copy goes back to it."""
    made_of = {one.stamp: one.base for one in known}
    own = next((one for one in known if one.kind != CAPTURE), None)
    at = known[0].stamp
    while at in made_of:
        if own is None or at == own.stamp:
            return None
        at = made_of.pop(at)
    return own


def _offer(role: Role, one: Candidate, newest: Candidate) -> Offer:
    at = stamp_time(one.stamp)
    return Offer(
        role=role,
        stamp=one.stamp,
        taken_at=at,
        kind=one.kind,
        behind_s=(stamp_time(newest.stamp) - at).total_seconds(),
        prepared=one.prepared,
        grade=grade(one.evidence, one.prepared),
        standing=standing(one.evidence),
        failed_step=one.evidence.failed_step() if one.evidence else None,
        proved_at=one.evidence.at if one.evidence else "",
        suspect=one.suspect,
    )


def candidates_of(store: PrimaryStore) -> list[Candidate]:
    """All versions, newest first."""
    health, proofs, versions = store.health.all(), store.proofs.all(), store.versions()
    marks = marked(store, versions)
    return [
        Candidate(
            stamp=one.stamp,
            kind=one.manifest.kind,
            base=one.manifest.base,
            prepared=store.prepared(one.stamp) is not None,
            sound=not health.get(one.stamp, SOUND).damaged,
            evidence=proofs.get(one.stamp),
            suspect=one.stamp in marks,
        )
        for one in versions
    ]


def taken_of(store: PrimaryStore) -> str:
    """The stamp of what is started where nobody chooses; empty where there is no version."""
    return next((one.stamp for one in offers_of(candidates_of(store)) if one.taken), "")


def ready_instead(store: PrimaryStore) -> Clones | None:
    """What can start now, where what should can't be made ready: the newest that may well start."""
    ready = [one for one in candidates_of(store) if one.prepared]
    hopeful = [one for one in ready if standing(one.evidence) is not Standing.REFUTED]
    calm = [one for one in hopeful or ready if not one.suspect]
    for one in calm or hopeful or ready:
        if (clones := store.prepared(one.stamp)) is not None:
            return clones
    return store.newest_prepared()


class Choice:
    """What people are offered, and what they chose."""

    def __init__(self, means: Means) -> None:
        self._means = means

    def offers(self, row: Primary) -> tuple[Offer, ...]:
        """The newest proven copy first."""
        if not row.newest_version:
            return ()
        return offers_of(candidates_of(self._means.pool.primary(row.uuid)))

    def settle(self, row: Primary, version: str | None) -> str:
        """The stamp that is to be started, or empty where the rule decides; remembered, so that a
        crash of the server just now starts nothing else. No version at all is an error."""
        store = self._means.pool.primary(row.uuid)
        store.need_newest()
        stamp = store.version(version).stamp if version else ""
        if row.notes.get(WISH, "") != stamp:
            self._means.catalogue.primaries.note(row.uuid, **{WISH: stamp or None})
        return stamp


def wished(row: Primary) -> str:
    """What :meth:`Choice.settle` remembers."""
    return str(row.notes.get(WISH, ""))


def forget_wish(means: Means, primary: str) -> None:
    """The activation is over."""
    if wished(means.catalogue.primaries.find(primary)):
        means.catalogue.primaries.note(primary, **{WISH: None})
