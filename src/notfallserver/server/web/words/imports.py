"""Why an image can't be imported, in plain words by the error's code; see ``problems``. Pure."""

from __future__ import annotations

_AGAIN = "Copy the image again, or have it exported again by the program that wrote it."

IMPORTS = {
    "image-missing": (
        "There is no such image on the emergency server.",
        "Copy the image there, and write the whole path, such as /srv/images/shop.vmdk.",
    ),
    "image-twice": ("The same image is named twice.", "Name one file for each disk."),
    "image-packed": (
        "The file is packed and is no image yet.",
        "Unpack it, then name the images in it, one for each disk.",
    ),
    "image-format-unknown": (
        "The file is no image that is known here.",
        "Images are of the kinds raw, VHD, VHDX, VMDK or qcow2. Export the disk as one of these.",
    ),
    "image-is-part": (
        "The file is only a part of a disk.",
        "Name the small .vmdk file beside it that lists the parts.",
    ),
    "image-elsewhere": (
        "The image needs a file that does not lie beside it.",
        "Put all files of the disk into one directory; delete snapshots before you copy it.",
    ),
    "image-incomplete": (
        "A file that belongs to the image is missing.",
        "Put all files of the disk into one directory.",
    ),
    "image-is-difference": (
        "The file holds only what was written since a snapshot.",
        "Delete the snapshot (it is merged by that), or export the machine as a whole.",
    ),
    "image-superseded": (
        "There is a snapshot: the file holds an older state than the one beside it.",
        "Delete the snapshot, or name the newest file.",
    ),
    "image-encrypted": (
        "The image is encrypted.",
        "Have it exported without encryption by the program that wrote it.",
    ),
    "image-not-closed": (
        "The image was not closed properly: its machine still runs, or was cut off.",
        "Shut the machine down before its image is copied.",
    ),
    "image-in-use": (
        "The image is in use by a machine on the emergency server.",
        "Shut that machine down, or copy the image first.",
    ),
    "image-changed": (
        "Somebody wrote to the image while it was read.",
        "Shut its machine down, or copy the image first.",
    ),
    "image-damaged": ("The image is damaged.", _AGAIN),
    "image-cut-short": ("The image is cut short: its end is missing.", _AGAIN),
    "image-reader-failed": (
        "The image could not be read.",
        "Try again. If it stays so, have it exported again.",
    ),
    "image-empty": (
        "No partition and no file system was found in the images.",
        "Name the images of a whole server, that of its first disk first.",
    ),
    "image-old": (
        "The image is not newer than the newest copy.",
        "Import a newer one. If the date of the file is wrong, say of when the image is.",
    ),
    "has-agent": (
        "A server of this name has an agent, which makes its copies.",
        "Choose another name for what you import.",
    ),
    "no-agent": (
        "This server has no agent: its copies are imported.",
        "Import a newer image instead.",
    ),
    "agentless-no-address": (
        "No address of this server is known, so nobody could tell when it works again.",
        "Call whoever looks after the server: an agent must be installed in the stand-in first.",
    ),
    "bad-mac": (
        "This is no address of a network card.",
        "It looks like 52:54:00:12:34:56.",
    ),
    "bad-import": ("Something in the form is missing or is no number.", "Look at it again."),
    "no-such-disk": ("The machine has no such disk.", "Its screen shows its disks by name."),
    "bad-firmware": ("There is no such firmware.", "Choose BIOS or UEFI."),
    "no-boot-loader": (
        "The image does not start on a machine of that kind (BIOS or UEFI).",
        "Choose the other one, or none.",
    ),
}
