"""The journal in plain words."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime

from notfallserver.server.records.journal import Entry

EVENTS = {
    "invited": "Invited",
    "enrolled": "Its agent was installed",
    "first_version": "The first copy is complete",
    "version": "A copy was made",
    "capture": "The stand-in was copied",
    "outage_seen": "It stopped answering",
    "primary_back": "It answers again",
    "activate": "The stand-in was ordered to start",
    "standin_up": "The stand-in is working",
    "activation_failed": "The stand-in could not be started",
    "standin_dropped": "The stand-in was put away",
    "recover": "Bringing back to a new machine began",
    "recovery_failed": "Bringing back was broken off",
    "switch_back": "Switching back began",
    "switch_back_failed": "Switching back was broken off; the stand-in works on",
    "recovered": "The server is back on its own machine",
    "rehearse": "A rehearsal began",
    "rehearsal_ended": "The rehearsal is over",
    "refused": "The stand-in was not started",
    "overruled": "The check was overruled",
    "schedule-changed": "The schedule was changed",
    "limits-changed": "The limits were changed",
    "files-shown": "Files of a copy were opened",
    "job-cancelled": "A job was cancelled",
    "older-version-used": "An older copy was used",
    "damaged-version-used": "A damaged copy was used",
    "version-unreadable": "A copy can't be read",
    "certificates-revoked": "Its agent's key was withdrawn",
    "unseen-changes": "Changes were found that nobody had noticed",
    "stand-in-elsewhere": "Another emergency server runs its stand-in",
    "original-returned": "The original appeared beside the stand-in",
    "version-damaged": "A copy was found damaged",
    "version-repaired": "A damaged copy was repaired",
    "version-lost": "A copy can't be repaired",
    "damage-in-stand-in": "The stand-in was made of a damaged copy",
    "seed-begun": "A first copy by disk was begun",
    "seed-exported": "A copy was written to a disk",
    "stand-in-held-back": "The stand-in was not started again by itself",
    "stand-in-restarted": "The stand-in was started again",
    "receiver-added": "Somebody is told what is the matter",
    "receiver-changed": "What somebody is told was changed",
    "receiver-removed": "Somebody is not told any more",
    "receiver-tested": "A test notification was sent",
    "notices-lost": "Notifications did not get through",
    "settings-changed": "Settings of the emergency server were changed",
    "logged-in": "Logged in",
    "password-set": "A password was set",
    "person-added": "Somebody was added",
    "adopted": "Found in the pool and taken over",
    "removed": "Removed with all copies",
    "seed-forgotten": "A first copy by disk was given up",
}
GRAVE = frozenset(
    {
        "outage_seen",
        "activation_failed",
        "recovery_failed",
        "switch_back_failed",
        "refused",
        "version-unreadable",
        "damaged-version-used",
        "unseen-changes",
        "stand-in-held-back",
        "stand-in-elsewhere",
        "original-returned",
        "version-damaged",
        "version-lost",
        "damage-in-stand-in",
    }
)


@dataclass(frozen=True)
class Happening:
    """One line of the timeline; ``times`` entries of the same kind in a row, this is the newest."""

    at: datetime
    event: str
    who: str
    why: str
    grave: bool
    times: int = 1


def happening(one: Entry) -> Happening:
    """One entry."""
    kind = str(one.details.get("kind", ""))
    event = "capture" if one.event == "version" and kind == "capture" else one.event
    return Happening(one.at, event, one.who, one.why, event in GRAVE)


def happenings(entries: Iterable[Entry]) -> list[Happening]:
    """Newest first; copies one after another are one line."""
    told: list[Happening] = []
    for one in map(happening, entries):
        if told and told[-1].event == one.event and one.event in ("version", "capture"):
            told[-1] = replace(told[-1], times=told[-1].times + 1)
        else:
            told.append(one)
    return told
