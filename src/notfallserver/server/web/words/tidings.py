"""What people are told without being asked, in plain words: from situations and findings. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from notfallserver.server.cycle.state import WITH_STANDIN, State
from notfallserver.server.health.judge import Finding, Grade
from notfallserver.server.records.receivers import Kind
from notfallserver.server.tell.notice import Seen
from notfallserver.server.web.answers import PrimaryAnswer
from notfallserver.server.web.words import health
from notfallserver.server.web.words.alarm import ALARM
from notfallserver.server.web.words.situation import (
    CAN_SWITCH,
    DAMAGED,
    NOT_YET,
    OVERDUE,
    SHOULD_BE,
    SILENT,
    STARTS_NOT,
    Situation,
)

COPIES_FAIL = "Copies do not succeed"
NOT_READY = "The copy can't be made ready to start"
COPY_DAMAGED = "Copies are damaged"
UNPROVEN = "The copy did not start as it should in a rehearsal"
READY = "Ready to switch back"

HERE = "This emergency server"
OVER = "over: %(what)s"
STILL = "still: %(what)s"
MORE = "%(first)s (and %(count)s more)"
ALL_WELL = "All is well"
LOOK_NEEDED = "Not all is well"
ITS_PAGE = "Its page: %(address)s"
THE_PAGE = "The page: %(address)s"
SENT_BY = "Sent by the emergency server %(name)s, %(time)s."
TEST = "Test message"
TEST_BODY = "This is a test. Notifications of the emergency server arrive here."

TEXTS = (
    *(COPIES_FAIL, NOT_READY, COPY_DAMAGED, UNPROVEN, READY, HERE, OVER, STILL, MORE, ALL_WELL),
    *(LOOK_NEEDED, ITS_PAGE, THE_PAGE, SENT_BY, TEST, TEST_BODY),
)

TROUBLES = {"replicate": COPIES_FAIL, "capture": COPIES_FAIL, "seed_import": COPIES_FAIL}
TROUBLES["image_import"] = COPIES_FAIL
TROUBLES["prepare"] = NOT_READY
"""Jobs that failed and were not made good, as troubles; others are told by the journal."""

FIRST_COPY_WITHIN = timedelta(days=1)
TRIES_AGAIN = timedelta(minutes=20)
"""What is tried again every few minutes is told when it still fails then."""


@dataclass(frozen=True)
class Standing:
    """A primary with its words; ``failed`` is the kind of a job that failed and matters now."""

    primary: PrimaryAnswer
    situation: Situation
    failed: str


def troubles_of(one: Standing) -> list[Seen]:
    """What is wrong with a primary and lasts."""
    primary, situation = one.primary, one.situation
    state = State(primary.state)
    found: list[Seen] = []

    def see(key: str, what: str, kind: Kind, patience: timedelta = timedelta(0)) -> None:
        uuid = primary.uuid
        found.append(Seen(f"{key}:{uuid}", what, uuid, primary.name, kind, patience))

    texts = {words.text for words in situation.words}
    if state in (State.OUTAGE, State.ACTIVATING):
        see("outage", SILENT, Kind.URGENT)
    if state is State.NEW:
        see("unprotected", NOT_YET, Kind.WARNING, FIRST_COPY_WITHIN)
    if situation.title == OVERDUE or SHOULD_BE in texts:
        see("overdue", OVERDUE, Kind.WARNING)
    if one.failed in TROUBLES:
        see("failing", TROUBLES[one.failed], Kind.WARNING, TRIES_AGAIN)
    if DAMAGED in texts:
        see("damaged", COPY_DAMAGED, Kind.WARNING)
    if STARTS_NOT in texts:
        see("unproven", UNPROVEN, Kind.WARNING, TRIES_AGAIN)
    if primary.alarm and not primary.alarm.answer:
        see("alarm", ALARM, Kind.URGENT)
    if CAN_SWITCH in texts:
        see("ready", READY, Kind.WARNING)
    return found


def hushed_of(primary: PrimaryAnswer) -> list[str]:
    """Whose end is no news: a stand-in took over, or the server was brought back."""
    state, uuid = State(primary.state), primary.uuid
    hushed = [f"ready:{uuid}"]
    if primary.alarm and primary.alarm.answer:
        hushed.append(f"alarm:{uuid}")  # a person knows
    if state in WITH_STANDIN:
        hushed += [f"{key}:{uuid}" for key in ("outage", "overdue", "failing")]
    return hushed


def troubles_here(findings: Sequence[Finding]) -> list[Seen]:
    """What is wrong with the emergency server itself."""
    kinds = {Grade.BAD: Kind.URGENT, Grade.WARNING: Kind.WARNING}
    return [
        Seen(
            f"health:{one.key}",
            health.TITLES[one.key],
            "",
            "",
            kinds[one.grade],
            timedelta(minutes=2),
        )
        for one in findings
        if one.grade in kinds
    ]
