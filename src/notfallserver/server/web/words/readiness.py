"""What stands in the way of replacing a primary, in plain words, each with its remedy (pure)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from notfallserver.server.cycle.normal.readiness import Finding, Severity
from notfallserver.server.web.words.problems import in_plain_words
from notfallserver.server.web.words.situation import Light, Phrase, Size, Value, Words
from notfallserver.server.web.words.windows import WINDOWS_READINESS

WORDS: dict[str, tuple[str, str]] = {
    # blockers
    "never-heard": (
        "Its agent has never called.",
        "Paste the line on the server. If that was done, look whether the server reaches this "
        "emergency server over the network.",
    ),
    "no-copy-yet": (
        "There is no copy of this server yet.",
        "The first copy begins by itself where there is a schedule; else press “Copy now”.",
    ),
    "no-copy": (
        "The first copy could not be made: %(why)s",
        "Put this right, then copy again.",
    ),
    "not-prepared": (
        "The newest copy could not be made ready to start: %(why)s",
        "It is tried again every few minutes. If it stays so, call whoever looks after the server.",
    ),
    "no-firmware": (
        "The server starts by UEFI, and this emergency server has no UEFI for stand-ins.",
        "Install the package ovmf on the emergency server.",
    ),
    "no-hypervisor": (
        "The part of the emergency server that runs stand-ins does not answer.",
        "On the emergency server: systemctl enable --now libvirtd. Then look again.",
    ),
    "no-kvm": (
        "This machine can't run stand-ins at full speed: KVM is missing.",
        "Switch virtualization on in its firmware settings (VT-x, AMD-V or SVM).",
    ),
    "no-space": (
        "Too little space for a stand-in: %(free)s are free, %(needs)s are needed.",
        "Give the emergency server larger disks, or remove servers that need no protection.",
    ),
    "no-bridge": (
        "The network bridge %(bridge)s is missing, so a stand-in would have no network.",
        "The set-up page shows the lines that make it.",
    ),
    "no-witness": (
        "There is no machine to ask whether the network works, so no stand-in would start.",
        "Name a machine that always answers ping under witnesses in the settings.",
    ),
    "no-card": (
        "No network card of this server is known, so its stand-in would have none.",
        "Look at the server's network, then copy again.",
    ),
    "starts-not": (
        "Its copy did not start in a rehearsal, and none is known to start.",
        "Its page has a picture of the screen: show it to whoever looks after the server.",
    ),
    "too-little-memory": (
        "The emergency server has far too little memory for this stand-in: %(gets)s instead of "
        "%(has)s.",
        "Give the emergency server more memory.",
    ),
    "no-image-yet": (
        "There is no copy of this server yet.",
        "Import an image of its disks, or wait until the import is done.",
    ),
    "no-image": (
        "The image could not be imported: %(why)s",
        "Put this right, then import it again.",
    ),
    # warnings
    "no-agent": (
        "No agent runs on this server: its copy is as old as the image that was imported last.",
        "Import a newer image regularly, or install an agent where that can be done.",
    ),
    "import-failed": (
        "The last image could not be imported: %(why)s",
        "Put this right, then import it again. Until then the stand-in would have older data.",
    ),
    "imported-unfrozen": (
        "Nobody can tell whether the server stood still when its image was made.",
        "Shut the server down while its image is made, where that is possible. Databases usually "
        "repair themselves when they start from an image of a running server.",
    ),
    "no-address": (
        "No address of this server is known, so it can't be seen whether it is off: its stand-in "
        "starts only when somebody says so and gives a reason.",
        "Import its image again and name its addresses.",
    ),
    "agent-differs": (
        "Its agent has version %(agent)s, the emergency server %(program)s.",
        "Make a new line (notfall primary invite NAME --again) and paste it on the server.",
    ),
    "copy-failed": (
        "The last copy could not be made: %(why)s",
        "Put this right, then copy again. Until then the stand-in would have older data.",
    ),
    "no-schedule": (
        "Copies are made only on request.",
        "Set a schedule: further down, under Settings.",
    ),
    "line-too-thin": (
        "More is written on this server than the line can carry; the copies get older and older.",
        "Raise the limit or the line.",
    ),
    "runs-too-long": (
        "A copy takes longer than the schedule allows.",
        "Choose a longer interval, or raise the limit of the line.",
    ),
    "not-frozen": (
        "The last copy was taken without halting the file systems, as after a power cut.",
        "Its agent's log on the server says why. Databases usually repair themselves when they "
        "start from it.",
    ),
    "application-not-frozen": (
        "%(name)s did not hold still for the last copy: %(why)s",
        "Look after its settings on the server (/etc/notfall-agent).",
    ),
    "reads-all": (
        "Each copy reads all disks, because the server's kernel does not tell what was written.",
        "Copies are sound, but take longer. A kernel of 5.15 or newer with BPF does better.",
    ),
    "not-prepared-yet": (
        "The newest copy is still being made ready to start.",
        "Nothing to do: it takes a minute or two.",
    ),
    "nic-driver-missing": (
        "Its system lacks a driver for the stand-in's network card: %(why)s",
        "Install the usual kernel of the distribution on the server, then copy again.",
    ),
    "unknown-device": (
        "Its system waits for a disk that is not copied: %(why)s",
        "Take that line out, or add the option nofail, on the server.",
    ),
    "locked-system": (
        "Its system is encrypted: the stand-in is fitted to its hardware only after the key.",
        "Rehearse once with the key typed: only then it is known that the stand-in starts.",
    ),
    "locked-drivers": (
        "Its system is encrypted and can come back only to a machine of the same kind: %(why)s",
        "On the server write MODULES=most into /etc/initramfs-tools/initramfs.conf, run "
        "update-initramfs -u, then copy again.",
    ),
    **WINDOWS_READINESS,
    "image-warning": ("A note from making it ready: %(why)s", "Show it to whoever looks after it."),
    "disk-key": (
        "Its disks are encrypted: when the stand-in starts, somebody must type the key.",
        "See that the key is at hand on the worst day, and who knows it.",
    ),
    "less-memory": (
        "Its stand-in gets less memory: %(gets)s instead of %(has)s.",
        "It will be slower. Give the emergency server more memory if that is not enough.",
    ),
    "not-together": (
        "If all servers are down at once, only %(fits)s of %(servers)s stand-ins find room, and "
        "this one does not: %(missing)s of memory are missing.",
        "Give the emergency server more memory or some stand-ins less, or let this server start "
        "earlier: in the start plan.",
    ),
    "fewer-processors": (
        "Its stand-in gets fewer processors: %(gets)s instead of %(has)s.",
        "It will be slower. Nothing to do if that is enough for an emergency.",
    ),
    "memory-taken": (
        "Other machines take the memory now that its stand-in needs: %(takes)s, of which %(idle)s "
        "are free.",
        "Give the emergency server more memory, or see that not everything runs at once.",
    ),
    "newest-starts-not": (
        "Its newest copy did not start in a rehearsal. An older one did, and is kept ready.",
        "Its page has a picture of the screen: show it to whoever looks after the server.",
    ),
    "never-rehearsed": (
        "No copy of it was ever started in a rehearsal, and none is planned.",
        "Rehearse the emergency once; how often it happens by itself is in the settings.",
    ),
    "filesystem-damaged": (
        "A file system in its copy is damaged: %(volume)s (%(kind)s).",
        "Have that file system checked on the server itself, at its next restart.",
    ),
    "check-failed": (
        "In the rehearsal a check of its services failed. %(name)s: %(why)s",
        "See whether the service needs another machine, which there is none of in a rehearsal. "
        "Checks are in its settings.",
    ),
    "odd-boot-loader": (
        "It has a boot loader that is not known here: %(why)s",
        "Rehearse the emergency: if its copy starts there, it will start on the worst day.",
    ),
    "data-outside": (
        "It uses data that is in no copy, because it lies on other disks or machines: %(places)s",
        "See that this data is there without the server, or protect the machine that holds it.",
    ),
    "licence-key": (
        "A licence key is plugged into it, which its stand-in will not have: %(keys)s",
        "Ask the maker for a licence for emergencies, or plug the key into the emergency server "
        "and pass it on to the stand-in.",
    ),
    "no-services": (
        "No service of this server is known, so it can't be told whether its stand-in answers.",
        "Nothing to do if the server offers nothing on the network; else look at its firewall.",
    ),
    "addresses-unheard": (
        "The emergency server can't tell whether %(addresses)s is silent, so it would not start "
        "the stand-in by itself.",
        "Connect it to that network, or name what switches the server off from afar. If nobody is "
        "served there: ignored_networks under [guard] in the settings file.",
    ),
    "address-leased": (
        "Its address %(address)s comes from a DHCP server. The stand-in asks for it again.",
        "Reserve the address there, and see that the DHCP server is another machine.",
    ),
    "little-space": (
        "Little space is free for what a stand-in writes: %(free)s.",
        "Give the emergency server larger disks, or remove servers that need no protection.",
    ),
    "no-reflink": (
        "The pool can't share blocks: a start has to copy the whole disks and takes long.",
        "Put the pool on XFS or Btrfs; the set-up page says how.",
    ),
}
"""By key: what is so, and what to do."""

READY = "Nothing stands in the way of a stand-in"
NOT_READY = "A stand-in could not start today"
LOOK_AT = "A stand-in can start; look at this"
TEXTS = (*(text for pair in WORDS.values() for text in pair), READY, NOT_READY, LOOK_AT)
_SIZES = frozenset({"free", "needs", "missing", "idle", "takes"})
_LIGHTS = {Severity.BLOCKER: Light.BAD, Severity.WARNING: Light.WARN}


@dataclass(frozen=True)
class Told:
    """A finding in words."""

    key: str
    severity: Severity
    light: Light
    words: Words
    remedy: Words


@dataclass(frozen=True)
class Readiness:
    """All of them, worst first, under one title."""

    light: Light
    title: str
    list: tuple[Told, ...]


def told(findings: Sequence[Finding]) -> Readiness:
    """``findings`` are worst first."""
    rows = tuple(_told(one) for one in findings)
    if not rows:
        return Readiness(Light.GOOD, READY, rows)
    worst = rows[0].light
    return Readiness(worst, NOT_READY if worst is Light.BAD else LOOK_AT, rows)


def _told(one: Finding) -> Told:
    text, remedy = WORDS[one.key]
    sizes = _SIZES | ({"has", "gets"} if one.key.endswith("-memory") else set())
    values: dict[str, Value] = {
        key: Size(value) if key in sizes and isinstance(value, int) else value
        for key, value in one.values.items()
    }
    if "code" in values:
        plain, _ = in_plain_words(str(values["code"]), str(values["why"]), "")
        values["why"] = Phrase(plain)
    return Told(one.key, one.severity, _LIGHTS[one.severity], Words(text, values), Words(remedy))
