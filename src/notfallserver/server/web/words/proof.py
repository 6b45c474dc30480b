"""What is proved of a copy, in plain words. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from notfallserver.server.cycle.choice import Role
from notfallserver.server.pool.proof import Grade
from notfallserver.server.web.words.situation import Light

GRADES: dict[Grade, str] = {
    Grade.NONE: "",
    Grade.PREPARED: "",
    Grade.CHECKED: "its file systems are sound",
    Grade.STARTED: "started in a rehearsal",
    Grade.LOGIN: "started in a rehearsal, up to the login screen",
    Grade.SERVING: "started in a rehearsal, and its services answered",
    Grade.EQUAL: "started in a rehearsal, its services answered, and its files are right",
}
"""What is worth a word beside "ready to start"."""
FAILED: dict[Grade, str] = {
    Grade.CHECKED: "a file system in it is damaged",
    Grade.STARTED: "did not start in a rehearsal",
    Grade.LOGIN: "started in a rehearsal, but no login screen came",
    Grade.SERVING: "started in a rehearsal, but not all its services answered",
    Grade.EQUAL: "started in a rehearsal, but files in it are wrong",
}
UNTRIED = "never started in a rehearsal"
OFFERS: dict[Role, str] = {
    Role.CLEAN: "The newest copy before the alarm",
    Role.PROVEN: "The newest copy that is known to start",
    Role.NEWEST: "The newest copy",
    Role.ORIGINAL: "The newest copy of the server itself",
}
TEXTS = (
    *(text for text in (*GRADES.values(), *FAILED.values()) if text),
    *(UNTRIED, *OFFERS.values()),
)


@dataclass(frozen=True)
class OfferWords:
    """What a copy is, and what is known of it."""

    title: str
    light: Light
    proved: str


def offer_words(offer: Proved, failed_step: Grade | None) -> OfferWords:
    light, proved = proof_words(offer.grade, failed_step)
    if failed_step is None and not offer.grade.reaches(Grade.STARTED):
        light, proved = Light.BUSY, UNTRIED
    return OfferWords(OFFERS[offer.role], light, proved)


class Proved(Protocol):
    """An offer, whoever tells of it."""

    @property
    def role(self) -> Role: ...

    @property
    def grade(self) -> Grade: ...


def proof_words(grade: Grade, failed_step: Grade | None) -> tuple[Light, str]:
    """A light and a few words; no words where nothing was found out."""
    if failed_step is not None:
        return Light.WARN, FAILED[failed_step]
    return Light.GOOD, GRADES[grade]
