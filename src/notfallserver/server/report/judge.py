"""How a primary stands at the end of the report: what is not protected or not proven. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from notfallserver.server.cycle.state import State
from notfallserver.server.pool.proof import Standing
from notfallserver.server.report.tree import (
    Ages,
    Finding,
    Key,
    Light,
    PrimaryReport,
    Proof,
    Report,
    Summary,
)

LATE = 3
"""As on the page: so many intervals are a warning, and of so many times that an alarm."""
OLD_S = 26 * 3600.0
"""As on the page, where there is no schedule."""
KEPT_SHARE = 0.95
"""Less of the time within the target is worth a look."""
PROOF_HOLDS = timedelta(days=35)
"""A rehearsal older than a month and a bit proves little of today's copies."""
_WORKING = (State.EMERGENCY, State.RECOVERING, State.SWITCHING_BACK)


def findings_of(
    ages: Ages, proof: Proof | None, minutes: int, state: str, damaged: int, until: datetime
) -> tuple[Finding, ...]:
    """The gravest first."""
    found: list[Finding] = []
    if ages.at_end_s is None:
        return (Finding(Key.NO_VERSION, Light.BAD),)
    late = minutes * 60.0 * LATE if minutes else OLD_S
    if ages.at_end_s > late * LATE:
        found.append(Finding(Key.TOO_OLD, Light.BAD, seconds=ages.at_end_s))
    elif ages.at_end_s > late:
        found.append(Finding(Key.LATE, Light.WARN, seconds=ages.at_end_s))
    if proof is None:
        found.append(Finding(Key.NEVER_REHEARSED, Light.WARN))
    elif proof.standing is Standing.REFUTED:
        found.append(Finding(Key.STARTS_NOT, Light.BAD, at=proof.at))
    elif not proof.passed:
        found.append(Finding(Key.REHEARSAL_FAILED, Light.WARN, at=proof.at))
    elif until - proof.at > PROOF_HOLDS:
        found.append(Finding(Key.REHEARSAL_OLD, Light.WARN, at=proof.at))
    if ages.within is not None and ages.within < KEPT_SHARE:
        found.append(Finding(Key.GAPS, Light.WARN, count=ages.gap_count, seconds=ages.worst_s))
    if damaged:
        found.append(Finding(Key.DAMAGED, Light.WARN, count=damaged))
    if state in (State.OUTAGE, State.ACTIVATING):
        found.append(Finding(Key.DOWN, Light.BAD))
    if state in _WORKING:
        found.append(Finding(Key.STANDIN_WORKS, Light.WARN))
    return tuple(sorted(found, key=lambda one: one.light is not Light.BAD))


def light_of(findings: Sequence[Finding]) -> Light:
    """The worst of all."""
    lights = {one.light for one in findings}
    return Light.BAD if Light.BAD in lights else Light.WARN if lights else Light.GOOD


def alone(report: Report, one: PrimaryReport) -> Report:
    """The report of one primary, for whoever may not see the others: without them, and without
    what happened to the emergency server itself but for its downtimes."""
    return replace(report, primaries=(one,), summary=sum_up([one]), incidents=(), pool=None)


def sum_up(primaries: Sequence[PrimaryReport]) -> Summary:
    there = [one for one in primaries if one.light is not Light.GONE]
    ready = [one for one in there if one.replaceable]
    lights = [one.light for one in there]
    return Summary(
        primaries=len(there),
        replaceable=len(ready),
        warn=lights.count(Light.WARN),
        bad=lights.count(Light.BAD),
        longest_s=max((one.recovery_s for one in ready if one.recovery_s), default=None),
    )
