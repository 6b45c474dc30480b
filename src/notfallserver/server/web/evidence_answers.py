"""What the API answers about evidence: what was tried with a copy, and what came of it."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime

from pydantic import BaseModel

from notfallserver.server.pool.proof import Evidence, VolumeState


class VolumeCheckAnswer(BaseModel):
    """``told`` is the end of what the check printed, or why there was none."""

    volume: str
    filesystem: str
    state: VolumeState
    told: str


class ServiceCheckAnswer(BaseModel):
    name: str
    passed: bool
    told: str


class EvidenceAnswer(BaseModel):
    """What was tried with a copy. ``unchecked``: why its file systems were not checked; ``started``
    is empty where it never got as far as that; ``start_s``: until all answered. ``system``,
    ``failed_units`` and ``login``: what its systemd says, as far as its agent told;
    ``failed_before`` and ``login_before``: what was so in the original, null where that is not
    known; ``newly_failed``: what failed in the copy alone; ``lacks_login``: one can log in at the
    original, and not here. ``compared`` files were, ``differing`` of them are not as the
    original's were."""

    rehearsal: str
    at: datetime
    volumes: list[VolumeCheckAnswer]
    unchecked: str
    started: bool | None
    start_s: float | None
    ports: list[int]
    silent: list[int]
    checks: list[ServiceCheckAnswer]
    system: str
    failed_units: list[str]
    failed_before: list[str] | None
    newly_failed: list[str]
    login: bool | None
    login_before: bool | None
    lacks_login: bool
    compared: int
    differing: list[str]
    picture: bool

    @classmethod
    def of(cls, kept: Evidence | None) -> EvidenceAnswer | None:
        if kept is None:
            return None
        judged = {"newly_failed": kept.newly_failed, "lacks_login": kept.lacks_login}
        return cls.model_validate({**asdict(kept), **judged})
