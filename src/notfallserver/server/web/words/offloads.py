"""Off-loads in plain words: how a place stands, and what went wrong. Pure."""

from __future__ import annotations

from notfallserver.server.offload.place import Kind, Standing
from notfallserver.server.web.words.situation import Light

STANDINGS: dict[Standing, tuple[Light, str]] = {
    Standing.WELL: (Light.GOOD, "Copies lie there"),
    Standing.NEW: (Light.BUSY, "Nothing was carried there yet"),
    Standing.OVERDUE: (Light.WARN, "Carrying copies there is overdue"),
    Standing.FAILED: (Light.WARN, "Carrying copies there failed"),
    Standing.DAMAGED: (Light.BAD, "What lies there is damaged"),
}
KINDS: dict[Kind, str] = {
    Kind.DIRECTORY: "A directory on the emergency server, such as a mounted network drive",
    Kind.DISK: "Removable disks, one or several in rotation",
    Kind.SFTP: "A server by SFTP",
    Kind.S3: "Cloud storage that speaks S3",
    Kind.REST: "A REST server of restic",
}

OFFLOADS = {
    "bad-place": (
        "Something that is needed to find the place is missing or wrong.",
        "Look at the details below and type it again.",
    ),
    "no-such-place": ("There is no such place.", "Choose one from the list."),
    "place-exists": ("There is a place of this name already.", "Take another name."),
    "place-away": (
        "The place is not there: no disk is plugged in, or nothing answers.",
        "Plug the disk in, or switch on what belongs there.",
    ),
    "key-put-away": (
        "The key was put away and is not shown again.",
        "Take it from where it lies. Root sees it on the emergency server itself.",
    ),
    "offload-wrong-key": (
        "The key does not open what lies there.",
        "Take the key that was printed when the place was made.",
    ),
    "offload-nothing-there": (
        "Nothing of ours lies at the place any more.",
        "Is it the right disk, is it mounted? To begin anew, remove the place and add it again.",
    ),
    "offload-locked": (
        "Something else works at the place just now, or was broken off there.",
        "Wait half an hour and try again.",
    ),
    "offload-full": ("The place is full.", "Keep fewer copies there, or take a larger disk."),
    "offload-no-way": (
        "The place can't be reached, or doesn't let us in.",
        "Look whether it is on, and whether address, name and keys are right.",
    ),
    "offload-broken-off": (
        "Carrying was broken off.",
        "Begin again: what has arrived is not carried once more.",
    ),
    "offload-failed": (
        "Carrying failed.",
        "The details tell what the program said; then begin again.",
    ),
    "offload-damaged": (
        "What lies at the place is not what was carried there.",
        "Carry to another place now, and have a look at this one's disks.",
    ),
    "offload-slow": (
        "The place does not answer in time, or something is under way there.",
        "Try again in a while.",
    ),
    "not-off-loaded": ("The place does not hold that.", "Choose a copy from the list."),
    "no-room-to-stage": (
        "There is too little room in the pool to carry this server's copy away.",
        "Make room, or put the pool on XFS or Btrfs.",
    ),
    "server-lost": (
        "The emergency server that did this was lost.",
        "Begin it again, if it is still wanted.",
    ),
}
"""By the error's code."""

TEXTS = (*KINDS.values(), *(text for _, text in STANDINGS.values()))
