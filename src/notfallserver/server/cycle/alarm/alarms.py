"""The alarm's job and what people answer.

After each version it is measured and judged, in the background: a replication, a preparation or an
activation never waits for it, and nothing of it fails them. An alarm is kept in the pool before
anything else; then the last clean version is pinned, and people are told. What is half done after
a crash the next job makes whole, because each step may be repeated.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from notfallserver.server.cycle.alarm.judge import Measured, Verdict, judge, usual_rate
from notfallserver.server.cycle.alarm.measure import measure
from notfallserver.server.cycle.means import Means
from notfallserver.server.cycle.runner import JobContext, JobRunner
from notfallserver.server.cycle.scrub import Pace
from notfallserver.server.pool.incoming import utc_now
from notfallserver.server.pool.measures import Alarm, Answer, Measures, suspects
from notfallserver.server.pool.pins import Pin
from notfallserver.server.pool.store import PrimaryStore
from notfallserver.server.pool.version import Version
from notfallserver.server.records.primaries import Primary
from notfallserver.wire.errors import NotfallError

log = logging.getLogger(__name__)

JOB = "measure"
PIN = "alarm"
NOTE = "alarm"
"""In a primary's notes: what lists and the page show of an alarm that stands."""
AT_FIRST = 8
"""So many versions are measured where none was before: for the history."""
RATE = 32 << 20
"""Bytes a second that are read at most."""
NICE = 10


@dataclass(frozen=True)
class Told:
    """A version, what it shows, and whether an alarm marks it."""

    stamp: str
    measures: Measures
    suspect: bool
    there: bool


@dataclass(frozen=True)
class Standing:
    """How a primary stands: its alarms (the last may stand), its measures (newest first), the
    change rate above which a version is unusual (None: not known yet)."""

    alarms: tuple[Alarm, ...]
    measured: tuple[Told, ...]
    usual_rate: float | None

    @property
    def alarm(self) -> Alarm | None:
        return next((one for one in self.alarms if one.stands), None)


@dataclass(frozen=True)
class _Line:
    stamp: str
    base: str


class Alarms:
    """One per server. Thread-safe."""

    def __init__(self, means: Means, runner: JobRunner) -> None:
        self._means = means
        self._runner = runner
        self._one_at_a_time = threading.Semaphore(1)

    def register(self) -> None:
        self._runner.register(JOB, self.measure)

    def catch_up(self) -> None:
        """After a start: versions that nobody measured yet, alarms that a new catalogue lacks."""
        for row in self._means.catalogue.primaries.all():
            if not row.newest_version:
                continue
            try:
                store = self._means.pool.primary(row.uuid)
            except NotfallError as error:  # its images are lost
                log.warning("%s: %s", row.name, error)
                continue
            if row.newest_version > max(store.measures.all(), default=""):
                begin_measuring(self._runner, row.uuid)
            else:
                self.show(store)

    # -- the job ---------------------------------------------------------------------------------

    def measure(self, ctx: JobContext) -> dict[str, Any]:
        with contextlib.suppress(OSError, AttributeError):  # of this thread alone
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
        ctx.progress("waiting for other work")
        with self._one_at_a_time:
            return self._measure_all(ctx)

    def _measure_all(self, ctx: JobContext) -> dict[str, Any]:
        store = self._means.pool.primary(ctx.primary)
        pace = Pace(ctx, self._means.catalogue.jobs, RATE)
        measured = 0
        while (version := self._next(store)) is not None:
            ctx.progress("comparing with the last version")
            self._measure(store, version, pace)
            measured += 1
        self._settle(store)
        return {"measured": measured}

    def _next(self, store: PrimaryStore) -> Version | None:
        """The oldest that is not measured yet, but is newer than all that are."""
        known = store.measures.all()
        versions = store.versions(most=AT_FIRST)
        newest = max(known, default="")
        return next((one for one in reversed(versions) if one.stamp > newest), None)

    def _measure(self, store: PrimaryStore, version: Version, pace: Pace) -> None:
        versions = store.versions()
        alarms = store.measures.alarms()
        before = next((one for one in versions if one.stamp == version.manifest.base), None)
        since = max((one.until for one in alarms if one.until), default="")
        bad = suspects(_lines(versions), alarms)
        older = [
            one for one in versions if since < one.stamp < version.stamp and one.stamp not in bad
        ]
        try:
            found = measure(version, before, older, pace.spend)
        except (OSError, ValueError) as error:  # removed meanwhile, damaged, a disk that dies
            log.warning("%s of %s can't be measured: %s", version.stamp, store.uuid, error)
            found = Measures()
        earlier = [Measured(*one) for one in store.measures.all().items()]
        there = [one.stamp for one in versions if one.stamp not in bad]
        if store.measures.standing() is None:
            verdict = judge(Measured(version.stamp, found), earlier, alarms, there)
            if verdict.suspicious:  # before the measures: else a crash would lose it
                self._raise(store, version.stamp, verdict)
        store.measures.keep(version.stamp, found)

    def _raise(self, store: PrimaryStore, stamp: str, verdict: Verdict) -> None:
        alarm = Alarm(stamp, verdict.clean, verdict.reasons, utc_now(), levels=verdict.levels)
        if alarm.clean:  # held first: what is not pinned may be removed any moment
            self._hold(store, alarm)
        store.measures.keep_alarm(alarm)
        details = {
            "version": stamp,
            "clean": alarm.clean,
            "reasons": [{"key": one.key, **one.values} for one in alarm.reasons],
        }
        self._means.catalogue.journal.write(
            store.uuid, "alarm-raised", "server", in_words(alarm), details
        )

    def _hold(self, store: PrimaryStore, alarm: Alarm) -> None:
        """A record of pins that can't be read removes nothing either, and loses no alarm."""
        try:
            why = f"ransomware alarm of {alarm.since}"
            store.pins.pin(alarm.clean, PIN, Pin(why, "server", utc_now()))
        except NotfallError as error:
            log.error("%s can't be held: %s", alarm.clean, error)

    def _settle(self, store: PrimaryStore) -> None:
        """What an alarm that stands asks for; also where a crash came between."""
        alarm = store.measures.standing()
        if alarm is not None and alarm.clean:
            with contextlib.suppress(NotfallError):
                if PIN not in store.pins.all().get(alarm.clean, {}):
                    self._hold(store, alarm)
            if self._means.place.reflink and store.prepared(alarm.clean) is None:
                with contextlib.suppress(NotfallError):
                    self._runner.submit("prepare", store.uuid, {}, "server", join=True)
        self.show(store)

    def show(self, store: PrimaryStore) -> None:
        """Let the catalogue know, for lists and the page."""
        told = note_of(store.measures.standing())
        if self._means.catalogue.primaries.find(store.uuid).notes.get(NOTE) != told:
            self._means.catalogue.primaries.note(store.uuid, **{NOTE: told})

    # -- people ----------------------------------------------------------------------------------

    def standing(self, row: Primary) -> Standing:
        """What is known; empty where there is no version."""
        if not row.newest_version:
            return Standing((), (), None)
        store = self._means.pool.primary(row.uuid)
        alarms, known = store.measures.alarms(), store.measures.all()
        versions = store.versions()
        bad = suspects(_lines(versions), alarms)
        there = {one.stamp for one in versions}
        measured = tuple(
            Told(stamp, one, stamp in bad, stamp in there)
            for stamp, one in sorted(known.items(), reverse=True)
        )
        return Standing(alarms, measured, usual_rate(list(known.values())))

    def clear(self, row: Primary, why: str, who: str) -> Alarm:
        """All is well (again). Was it never called an attack, the marks go as well, and what was
        seen counts as usual from now on."""
        store, alarm = self._need(row)
        newest = store.need_newest().stamp
        answer = alarm.answer or Answer.WELL
        cleared = replace(
            alarm,
            answer=answer,
            who=who,
            why=_need_reason(why),
            answered_at=utc_now(),
            until=newest,
        )
        store.measures.keep_alarm(cleared)
        if alarm.clean:
            store.pins.unpin(alarm.clean, PIN)
        self._answered(store, cleared, "alarm-cleared")
        return cleared

    def confirm(self, row: Primary, why: str, who: str) -> Alarm:
        """It was an attack: pin and marks stay, until all is well again."""
        store, alarm = self._need(row)
        confirmed = replace(
            alarm,
            answer=Answer.ATTACK,
            who=who,
            why=why.strip(),
            answered_at=utc_now(),
        )
        store.measures.keep_alarm(confirmed)
        self._answered(store, confirmed, "alarm-confirmed")
        return confirmed

    def _answered(self, store: PrimaryStore, alarm: Alarm, event: str) -> None:
        details = {"version": alarm.since, "clean": alarm.clean}
        self._means.catalogue.journal.write(store.uuid, event, alarm.who, alarm.why, details)
        self.show(store)

    def _need(self, row: Primary) -> tuple[PrimaryStore, Alarm]:
        if row.newest_version:
            store = self._means.pool.primary(row.uuid)
            if (alarm := store.measures.standing()) is not None:
                return store, alarm
        raise NotfallError(
            "no-alarm",
            f"There is no alarm about {row.name}.",
            "Nothing needs to be done.",
            status=409,
        )


def begin_measuring(runner: JobRunner, primary: str) -> None:
    """After a version; that it can't begin must not fail what made the version."""
    try:
        runner.submit(JOB, primary, {}, "server", join=True)
    except NotfallError as error:
        log.warning("a version is not compared with the last one: %s", error)


def pinned_clean(store: PrimaryStore) -> str:
    """The version that an alarm that stands holds, or empty."""
    alarm = store.measures.standing()
    return alarm.clean if alarm else ""


def marked(store: PrimaryStore, versions: Sequence[Version]) -> set[str]:
    """The stamps of those of all ``versions`` that an alarm marks."""
    return suspects(_lines(versions), store.measures.alarms())


def note_of(alarm: Alarm | None) -> Mapping[str, Any] | None:
    if alarm is None:
        return None
    return {
        "since": alarm.since,
        "clean": alarm.clean,
        "answer": str(alarm.answer),
        "raised_at": alarm.raised_at,
        "reasons": [{"key": one.key, "values": dict(one.values)} for one in alarm.reasons],
    }


def in_words(alarm: Alarm) -> str:
    """For journal and log, in English."""
    return "; ".join(
        _WORDS[one.key].format(**one.values) for one in alarm.reasons if one.key in _WORDS
    )


_WORDS = {
    "scrambled": "{count} of {compared} watched files can't be recognised any more",
    "renamed": "{count} of {compared} watched files have a new extension (.{extension})",
    "strange": "{count} of {seen} watched files look random and say to be nothing",
    "turned": "{mib} MiB ({percent} %) became random within {days} days",
    "moved": "{mib} MiB ({percent} %) went while as much that is random came, within {days} days",
    "rate": "{percent} % changed at once, usual are {usual} %",
}


def _need_reason(why: str) -> str:
    if not why.strip():
        raise NotfallError(
            "no-reason",
            "It must be known why all is well.",
            "Say in a few words what was done on the server, such as: files were encrypted by us.",
        )
    return why.strip()


def _lines(versions: Sequence[Version]) -> list[_Line]:
    return [_Line(one.stamp, one.manifest.base) for one in versions]
