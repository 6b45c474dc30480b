"""The journal in plain words."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime

from notfallserver.server.records.journal import Entry, Wanted
from notfallserver.server.web.words.reasons import reason_of
from notfallserver.server.web.words.situation import Words

EVENTS = {
    "invited": "Invited",
    "enrolled": "Its agent was installed",
    "first_version": "The first copy is complete",
    "version": "A copy was made",
    "capture": "The stand-in was copied",
    "imported": "An image was imported as a copy",
    "added": "Added without an agent",
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
    "rehearsal_passed": "The rehearsal succeeded: its copy starts and answers",
    "rehearsal_failed": "The rehearsal failed: its copy did not start as it should",
    "hand_over": "A planned handover to the stand-in began",
    "handover_failed": "The handover was broken off; the server works on",
    "left": "The server was shut down, with everything in its last copy",
    "trial-ended": "The trial period after bringing back is over",
    "refused": "The stand-in was not started",
    "overruled": "The check was overruled",
    "schedule-changed": "The schedule was changed",
    "limits-changed": "The limits were changed",
    "start-plan-changed": "The start plan was changed",
    "start-plan-begun": "Several servers were ordered to start",
    "proof-adapt": "The copy did not start in the rehearsal: it is made ready anew",
    "proof-check": "The copy is still not as it should be: it is read once and checked",
    "proof-deep": "The copy is still not as it should be: the whole server is read once more",
    "alarm-raised": "Alarm: files may have been encrypted",
    "alarm-cleared": "The alarm was ended: all is well",
    "alarm-confirmed": "The alarm was confirmed: it is an attack",
    "checks-changed": "What is checked in rehearsals was changed",
    "fence-set": "What can switch the server off from afar was named",
    "fence-forgotten": "Nothing switches the server off from afar any more",
    "fenced": "The server was switched off from afar",
    "fence-failed": "The server could not be switched off from afar",
    "files-shown": "Files of a copy were opened",
    "files-copied": "Files were taken out of a copy",
    "job-cancelled": "A job was cancelled",
    "older-version-used": "An older copy was used",
    "older-version-chosen": "It was started from an older copy",
    "damaged-version-used": "A damaged copy was used",
    "version-unreadable": "A copy can't be read",
    "certificates-revoked": "Its agent's key was withdrawn",
    "unseen-changes": "Changes were found that nobody had noticed",
    "stand-in-elsewhere": "Another emergency server runs its stand-in",
    "original-returned": "The original appeared beside the stand-in",
    "original-kept-off": "The original was switched on; it keeps off the network by itself",
    "version-damaged": "A copy was found damaged",
    "version-repaired": "A damaged copy was repaired",
    "version-lost": "A copy can't be repaired",
    "damage-in-stand-in": "The stand-in was made of a damaged copy",
    "version-removed": "A copy was removed by the rules",
    "version-given-up": "A copy was removed before its time, because space ran out",
    "run-given-up": "What an unfinished copy had brought was dropped, because space ran out",
    "version-deleted": "A copy was deleted by hand",
    "version-pinned": "A copy was pinned: it stays",
    "version-unpinned": "A copy was unpinned",
    "deletion-ordered": "A copy is to be deleted",
    "deletion-confirmed": "A second administrator confirmed a deletion",
    "deletion-taken-back": "A deletion was taken back",
    "deletion-lapsed": "A deletion was dropped: nobody confirmed it in time",
    "retention-changed": "How long copies stay was changed",
    "seed-begun": "A first copy by disk was begun",
    "seed-exported": "A copy was written to a disk",
    "version-exported": "A copy was exported",
    "disk-export-begun": "A disk to take along was begun",
    "version-on-tape": "A copy was written to tape",
    "version-from-tape": "A copy was brought back from tape",
    "medium-changed": "A tape or disk was changed",
    "stand-in-held": "The stand-in stands still, because there is no space left for its changes",
    "stand-in-went-on": "The stand-in works again: there is space",
    "stand-in-held-back": "The stand-in was not started again by itself",
    "stand-in-restarted": "The stand-in was started again",
    "console-opened": "The stand-in's screen was opened",
    "power-shut-down": "The stand-in was told to shut down",
    "power-restart": "The stand-in was told to restart",
    "power-switch-off": "The stand-in was switched off at once",
    "power-start": "The stand-in was switched on",
    "set-up-begun": "The set-up was begun",
    "set-up-aside": "The set-up was put aside",
    "set-up-finished": "The set-up was finished",
    "card-changed": "The emergency card was changed",
    "receiver-added": "Somebody is told what is the matter",
    "receiver-changed": "What somebody is told was changed",
    "receiver-removed": "Somebody is not told any more",
    "receiver-tested": "A test notification was sent",
    "notices-lost": "Notifications did not get through",
    "report-made": "A report was made",
    "month-reported": "The monthly report is there",
    "metrics-token-made": "A token for a monitoring was made",
    "metrics-token-gone": "The monitoring was switched off",
    "settings-changed": "Settings of the emergency server were changed",
    "drivers-added": "Drivers for Windows were added",
    "drivers-removed": "Drivers for Windows were removed",
    "logged-in": "Logged in",
    "password-set": "A password was set",
    "person-added": "Somebody was added",
    "person-removed": "Somebody was removed",
    "role-viewer": "May only look now",
    "role-operator": "May act in an emergency now",
    "role-administrator": "Is an administrator now",
    "second-factor-on": "The second factor was switched on",
    "second-factor-off": "The second factor was switched off",
    "second-factor-required": "Everybody must have a second factor now",
    "second-factor-optional": "Each person decides about the second factor now",
    "recovery-codes-made": "New written codes were made",
    "recovery-code-used": "A written code was used instead of the telephone",
    "sessions-ended": "All other sessions were ended",
    "logins-braked": "Many wrong logins: slowed down",
    "offload-done": "Copies were carried to another place",
    "offload-failed": "Carrying copies to another place failed",
    "offload-checked": "An off-load was checked and is sound",
    "offload-check-failed": "An off-load could not be checked",
    "offload-damaged": "An off-load was found damaged",
    "offload-place-added": "A place for off-loads was added",
    "offload-place-changed": "A place for off-loads was changed",
    "offload-place-removed": "A place for off-loads was removed",
    "offload-key-shown": "The key of an off-load was shown",
    "offload-key-kept": "The key of an off-load was put away",
    "offload-host-trusted": "An SFTP server's key is trusted now",
    "version-restored": "A copy was brought back from an off-load",
    "disk-restored": "A disk was brought back from an off-load",
    "server-rebuilt": "The emergency server was lost and made again",
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
        "rehearsal_failed",
        "handover_failed",
        "refused",
        "alarm-raised",
        "alarm-confirmed",
        "version-unreadable",
        "damaged-version-used",
        "unseen-changes",
        "stand-in-held",
        "stand-in-held-back",
        "power-switch-off",
        "fence-failed",
        "stand-in-elsewhere",
        "original-returned",
        "version-damaged",
        "version-lost",
        "version-given-up",
        "run-given-up",
        "damage-in-stand-in",
        "logins-braked",
        "offload-failed",
        "offload-check-failed",
        "offload-damaged",
        "server-rebuilt",
    }
)

_SPECIAL = {
    ("version", "capture"): "capture",
    ("version", "import"): "imported",
    ("rehearsal_ended", "passed"): "rehearsal_passed",
    ("rehearsal_ended", "failed"): "rehearsal_failed",
}
"""By event and what its details say of it."""


@dataclass(frozen=True)
class Happening:
    """One line of the timeline; ``times`` entries of the same kind in a row, this is the newest.

    ``reasons`` say why; where they are None, ``why`` is as it was written. ``about`` is whom it was
    done to, where that is somebody who may log in.
    """

    at: datetime
    event: str
    who: str
    why: str
    grave: bool
    reasons: tuple[Words, ...] | None = None
    times: int = 1
    about: str = ""


GRAVE_ONLY = "grave"
"""The choice of a filter that stands for all grave events together."""


def wanted_events(chosen: str) -> Wanted:
    """The entries that a page calls ``chosen``: a kind of event, the grave ones, or all (empty)."""
    if chosen == GRAVE_ONLY:
        return Wanted(events=GRAVE)
    if chosen == "capture":
        return Wanted(events=("version",), kind="capture")
    if chosen == "imported":
        return Wanted(events=("version",), kind="import")
    if chosen == "version":
        return Wanted(events=("version",), kind="replication")
    return Wanted(events=(chosen,)) if chosen else Wanted()


def happening(one: Entry) -> Happening:
    """One entry."""
    event = _SPECIAL.get((one.event, _what(one)), one.event)
    if event == "role-changed":
        event = f"role-{one.details['role']}"
    about = str(one.details.get("name", "")) if one.primary is None else ""
    return Happening(
        one.at, event, one.who, one.why, event in GRAVE, reasons=reason_of(one), about=about
    )


def _what(one: Entry) -> str:
    return str(one.details.get("kind") or one.details.get("outcome") or "")


def happenings(entries: Iterable[Entry]) -> list[Happening]:
    """Newest first; copies one after another are one line, and files that one person took out."""
    told: list[Happening] = []
    for one in map(happening, entries):
        if told and _belong_together(told[-1], one):
            told[-1] = replace(told[-1], times=told[-1].times + 1)
        else:
            told.append(one)
    return told


def _belong_together(newer: Happening, older: Happening) -> bool:
    if newer.event != older.event:
        return False
    if newer.event == "files-copied":
        return newer.who == older.who
    return newer.event in ("version", "capture", "imported", "version-removed")
