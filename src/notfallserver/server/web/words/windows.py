"""Why a copy of a Windows server can't be made ready to start, in plain words. Pure."""

from __future__ import annotations

_OLDER = "An older copy may be sound. Have the disks of the server checked."
WINDOWS = {
    "hive-damaged": ("A part of the settings of Windows is damaged in this copy.", _OLDER),
    "hive-log-damaged": ("The newest settings of Windows are damaged in this copy.", _OLDER),
    "hive-log-missing": (
        "Windows was writing its settings when this copy was taken, and they can't be made whole.",
        _OLDER,
    ),
    "hive-not-written": (
        "The settings of Windows could not be changed in the copy.",
        "Make some room on the Windows drive of the server, then copy again.",
    ),
    "windows-full": (
        "The Windows drive is so full that the copy can't be made ready to start.",
        "Make some room on it on the server, then copy again.",
    ),
    "windows-hibernated": (
        "Windows was asleep instead of off or running when this copy was taken. So it starts on "
        "its own hardware only.",
        "On the server run 'powercfg /h off' as administrator and restart it, then copy again.",
    ),
    "windows-encrypted": (
        "The Windows drive is encrypted with BitLocker, so nothing in the copy can be changed.",
        "Switch BitLocker off for this drive on the server and wait until that is done, then copy "
        "again.",
    ),
    "windows-dynamic-disk": (
        "Windows keeps its drive on dynamic disks, perhaps as a mirror. Such a copy can't be made "
        "ready to start.",
        "Have the disk of Windows made a basic one, without a mirror, then copy again.",
    ),
    "windows-volume-damaged": (
        "The Windows drive is damaged in this copy.",
        "Run 'chkdsk /f' for that drive on the server, then copy again.",
    ),
    "driver-missing": (
        "The server's system has no driver for the disks of the machine that it shall start on.",
        "Of a Windows: have the maker's driver put into the emergency server (manual, 'A Windows "
        "server'), then copy again. Of a Linux: have a kernel with that driver installed.",
    ),
    "drivers-broken": (
        "The drivers for Windows that lie in the emergency server can't be used.",
        "Have the list of them looked at (manual, 'A Windows server'), then try again.",
    ),
    "windows-too-old": (
        "This Windows is older than any that can be made ready to start.",
        "Windows XP, Server 2003 and newer can be protected.",
    ),
}

_LOOK = "Rehearse: only then it is known that it starts."
WINDOWS_READINESS = {
    "reboot-pending": (
        "Updates of Windows wait for a restart of the server.",
        "Restart it at a quiet hour: else its stand-in has to finish the updates when it starts.",
    ),
    "fast-start": (
        "Fast start-up is on: switched off, this Windows is only asleep.",
        "On the server run 'powercfg /h off' as administrator.",
    ),
    "oem-licence": (
        "This Windows is licensed to this very machine (OEM).",
        "Its stand-in works, and may ask to be activated. Ask whoever sold it what is allowed.",
    ),
    "copy-not-encrypted": (
        "The server's drive %(places)s is encrypted with BitLocker; its copy here is not.",
        "See that nobody takes disks out of the emergency server, or encrypt its pool. After the "
        "server was brought back, switch BitLocker on again.",
    ),
    "drive-locked": (
        "The drive %(places)s is locked by BitLocker: it is copied as it is, and can't be checked.",
        "Keep its recovery key at hand: without it nobody can read the drive, here either.",
    ),
    "windows-activation": (
        "Windows may ask to be activated again when the stand-in works.",
        "Nothing to do now. It works meanwhile.",
    ),
    "windows-address-unclear": (
        "It can't be told which network card an address belongs to: %(why)s",
        "Set it by hand in the stand-in if a service can't be reached.",
    ),
    "windows-controller-unknown": (
        "It can't be told whether Windows has a driver for the disk controller: %(why)s",
        _LOOK,
    ),
    "windows-driver-signature": (
        "A driver from the folder of drivers carries no signature of its own: %(why)s",
        "Take a newer one of its maker's. " + _LOOK,
    ),
    "windows-drive-letter": ("The drive of Windows may get another letter: %(why)s", _LOOK),
    "windows-old": ("This Windows is old: %(why)s", _LOOK),
    "windows-unclean": (
        "The Windows drive was in use when the copy was taken: %(why)s",
        "If that is told of every copy, run 'chkdsk /f' on the server at a quiet hour.",
    ),
}
