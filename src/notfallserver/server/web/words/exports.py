"""Why a copy can't be carried away or brought back, in plain words by the error's code. Pure."""

from __future__ import annotations

EXPORTS = {
    "export-exists": (
        "There is something of this name already; nothing is overwritten.",
        "Remove or rename it, or take another directory.",
    ),
    "export-no-space": (
        "There is not enough space there.",
        "Make room, or take a larger disk.",
    ),
    "export-in-pool": (
        "This directory belongs to the emergency server's own copies.",
        "Take a directory elsewhere, such as that of a mounted disk.",
    ),
    "export-sector": (
        "The server has a disk of a kind that this format does not know.",
        "Export it as qcow2 or raw.",
    ),
    "export-failed": (
        "The file could not be written.",
        "Look at the disk that it shall lie on; then try again.",
    ),
    "export-differs": (
        "What was written does not read back as it should.",
        "The copy or the disk is damaged: take another disk; if it happens again, another copy.",
    ),
    "no-such-directory": (
        "There is no such directory on the emergency server.",
        "Mount the disk, and name the directory in which it is.",
    ),
    "bad-directory": (
        "This is no directory.",
        "Write the whole path, such as /mnt/disk.",
    ),
    "disk-unknown": (
        "There is no such disk in the emergency server.",
        "Plug it in again and look at the list of disks.",
    ),
    "export-disk-busy": (
        "The disk is in use. Nothing was written.",
        "Take another one. If it is really the right one, have it unmounted.",
    ),
    "export-disk-changed": (
        "This is not the disk that was confirmed: it was unplugged, or the emergency server "
        "restarted. It does not start.",
        "Choose and confirm it again.",
    ),
    "disk-not-confirmed": (
        "What was typed is not what the disk shows. Nothing was written.",
        "Compare it with what is printed on the disk, then type it exactly.",
    ),
    "disk-internal": (
        "The disk is built in, or a part of something larger. Nothing was written.",
        "Take a disk that can be pulled out.",
    ),
    "disk-small": (
        "The disk is smaller than that of the server. Nothing was written.",
        "Take a larger one.",
    ),
    "disk-sector": (
        "The disk is of another kind (its sectors have another size). Nothing was written.",
        "Take another one.",
    ),
    "disk-count": (
        "The server has another number of disks than was chosen.",
        "Choose one for each, in their order.",
    ),
    "disk-twice": (
        "The same disk was chosen twice.",
        "Choose another one for each disk of the server.",
    ),
    "disk-adapt-all": (
        "Only a whole server can be adapted.",
        "Choose all of its disks, or leave it as it is.",
    ),
    "disk-write-failed": (
        "The disk can't be written. It does not start.",
        "It may be worn out, or was pulled out: take another one.",
    ),
    "disk-differs": (
        "The disk gives back something else than was written. It does not start.",
        "It is worn out or a fraud: take another one.",
    ),
    "copy-damaged": (
        "The copy is damaged.",
        "Take another copy.",
    ),
    "tape-empty-drive": (
        "There is no tape in the drive.",
        "Insert one and wait until the drive has loaded it.",
    ),
    "tape-write-protected": (
        "The tape is write-protected.",
        "Move its switch, or insert another one.",
    ),
    "tape-busy": (
        "The drive is in use.",
        "Wait until it is free.",
    ),
    "tape-no-place": (
        "This can't be used to write or read copies.",
        "Name a tape drive (/dev/nst0), a directory that is there, or a new file.",
    ),
    "tape-holds-set": (
        "There are copies on this medium already. Nothing was overwritten.",
        "Insert an empty one.",
    ),
    "tape-foreign": (
        "There is something else on this medium. Nothing was overwritten.",
        "Insert an empty one.",
    ),
    "tape-unreadable": (
        "This medium can't be read: it is new, or damaged. Nothing was overwritten.",
        "If it is new, write over it. Else insert another one.",
    ),
    "tape-differs": (
        "What was written does not read back: the medium is worn out.",
        "Insert another one; it is written anew.",
    ),
    "tape-write-failed": (
        "The medium can't be written.",
        "Insert another one; it is written anew.",
    ),
    "medium-too-small": (
        "The medium is too small.",
        "Insert a larger one.",
    ),
    "medium-no-room": (
        "There is no room left on the disk.",
        "Mount another disk at the same place, then go on.",
    ),
    "tape-encrypted": (
        "The medium is encrypted.",
        "The file with the secret key is needed.",
    ),
    "tape-wrong-key": (
        "This key does not open the medium.",
        "Take the secret key that belongs to it.",
    ),
    "tape-other-set": (
        "This medium belongs to another set.",
        "Insert one of the set that is being read.",
    ),
    "tape-not-ours": (
        "This is no medium of this program.",
        "Insert another one.",
    ),
    "tape-incomplete": (
        "Something is missing: a medium was not there, or is damaged.",
        "Read the missing media, too, or take another copy.",
    ),
    "tape-wrong": (
        "What was read is not what was written.",
        "Take other media.",
    ),
    "tape-waits-not": (
        "Nothing waits for a medium any more.",
        "Look at what is under way.",
    ),
}
