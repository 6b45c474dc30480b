"""What was proved of a primary, and how long a start took: rehearsals of the catalogue, evidence of
the pool, and, of one that was removed, what the journal tells."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from notfallserver.server.cycle.means import Means
from notfallserver.server.cycle.rehearsals import picture_path
from notfallserver.server.pool.proof import Evidence, Standing, grade, standing
from notfallserver.server.pool.store import PrimaryStore
from notfallserver.server.records.journal import Entry
from notfallserver.server.records.rehearsals import Outcome, Rehearsal
from notfallserver.server.report.tree import Outage, Proof


class ProofFinder:
    """Of one report; ``pictures`` gathers what its proofs name, by SHA-256."""

    def __init__(self, means: Means) -> None:
        self._means = means
        self.pictures: dict[str, Path] = {}

    def last(self, uuid: str, store: PrimaryStore | None, until: datetime) -> Proof | None:
        """By the catalogue, or by the pool where that knows of a later one: it outlives it."""
        one = self._means.catalogue.rehearsals.last_telling(uuid, until)
        known = _known(store, until)
        if one is None or (known and one.began_at < datetime.fromisoformat(known[1].at)):
            return self._shown(uuid, *known) if known else None
        evidence = Evidence.from_json(one.evidence) if one.evidence else None
        passed = one.outcome is Outcome.PASSED
        return Proof(
            rehearsal=one.id,
            at=one.began_at,
            version=one.version,
            passed=passed,
            standing=standing(evidence) if evidence else _standing(passed),
            grade=grade(evidence, True) if evidence else None,
            failed_step=evidence.failed_step() if evidence else None,
            answered_s=one.answered_s,
            failed=str((one.error or {}).get("code", "")),
            picture_sha256=self._picture(uuid, one.id) if one.picture else "",
        )

    def _shown(self, uuid: str, version: str, evidence: Evidence) -> Proof:
        picture = self._picture(uuid, evidence.rehearsal) if evidence.picture else ""
        return Proof(
            rehearsal=evidence.rehearsal,
            at=datetime.fromisoformat(evidence.at),
            version=version,
            passed=bool(evidence.started) and evidence.failed_step() is None,
            standing=standing(evidence),
            grade=grade(evidence, True),
            failed_step=evidence.failed_step(),
            answered_s=evidence.start_s,
            picture_sha256=picture,
        )

    def _picture(self, uuid: str, rehearsal: str) -> str:
        """Its SHA-256; empty where the file is gone."""
        path = picture_path(self._means, uuid, rehearsal)
        if not path.is_file():
            return ""
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        self.pictures[digest] = path
        return digest


def measured_start(
    rehearsals: Sequence[Rehearsal], proof: Proof | None, outages: Sequence[Outage]
) -> tuple[float, datetime] | None:
    """The last time that was measured, and when."""
    found = [(one.answered_s, one.began_at) for one in rehearsals if _passed(one)]
    found += [(one.start_s, one.standin_at) for one in outages if one.standin_at]
    if proof and proof.passed:
        found.append((proof.answered_s, proof.at))
    measured = [(seconds, at) for seconds, at in found if seconds is not None and at is not None]
    return max(measured, key=lambda one: one[1], default=None)


def _passed(one: Rehearsal) -> bool:
    return one.outcome is Outcome.PASSED


def told_proof(entry: Entry) -> Proof:
    passed = entry.details["outcome"] == Outcome.PASSED
    return Proof(
        rehearsal="",
        at=entry.at,
        version=str(entry.details.get("version", "")),
        passed=passed,
        standing=_standing(passed),
        answered_s=entry.details.get("answered_s"),
    )


def _known(store: PrimaryStore | None, until: datetime) -> tuple[str, Evidence] | None:
    """The last evidence in the pool, and of which version it is."""
    proofs = store.proofs.all() if store else {}
    told = [
        (one.at, stamp, one)
        for stamp, one in proofs.items()
        if one.tells_something and (at := moment_of_text(one.at)) and at < until
    ]
    last = max(told, key=lambda one: one[0], default=None)
    return (last[1], last[2]) if last else None


def _standing(passed: bool) -> Standing:
    return Standing.PROVEN if passed else Standing.UNPROVEN


def moment_of_text(text: str) -> datetime | None:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
