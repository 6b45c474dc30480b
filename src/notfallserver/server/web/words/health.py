"""How the emergency server itself is, in plain words: by the case of a finding. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from notfallserver.server.health.judge import Finding
from notfallserver.server.web.words.situation import Light, Size, Value, Words

NEEDS_LOOK = "The emergency server itself needs a look"

TITLES = {
    "space": "Space for copies",
    "forecast": "Space in the coming weeks",
    "disk": "The emergency server's own disk",
    "hypervisor": "Running stand-ins",
    "memory": "Memory for stand-ins",
    "bridge": "Network of the stand-ins",
    "witnesses": "Telling an outage from a pulled cable",
    "medium": "Rescue medium",
    "clock": "Clock",
    "server-certificate": "The server's certificate",
    "authority": "The server's authority",
    "receivers": "Notifications",
    "off-load": "Copies in a second place",
}

CASES: dict[str, tuple[str, str]] = {
    "space-unknown": (
        "The place for copies can't be read.",
        "Look whether its disks are connected and healthy.",
    ),
    "space-out": (
        "Only %(percent)s %% are free.",
        "Make room now, or new copies will fail: remove old copies, or add disks.",
    ),
    "space-stuck": (
        "Only %(percent)s %% are free, and no more copies may be removed.",
        "Add disks now, or new copies will fail. What could go before its time has gone; pinned "
        "copies may be unpinned.",
    ),
    "space-going": (
        "Only %(percent)s %% are free. Below %(limit)s %% the oldest copies go before their time.",
        "Add disks, or keep fewer copies.",
    ),
    "space-low": (
        "Only %(percent)s %% are free.",
        "Remove old copies, or add disks.",
    ),
    "space-enough": ("%(percent)s %% are free.", ""),
    "not-filling": ("It is not filling up, or too little is known yet.", ""),
    "filling": ("At this pace it is full in about %(time)s.", ""),
    "full-soon": (
        "At this pace it is full in about %(time)s.",
        "Order disks in time, or keep fewer copies.",
    ),
    "disk-unknown": (
        "It can't be told how full it is.",
        "Look whether it is healthy.",
    ),
    "disk-out": (
        "Only %(free)s are free; when it is full, nothing can be noted and no copy be made.",
        "Make room on it: move away what does not belong to the emergency server.",
    ),
    "disk-below": (
        "Only %(free)s are free, but the place for copies lies there in a file that may still grow "
        "by %(grows)s.",
        "Make room on it, or move that file to a larger disk, or new copies will fail before their "
        "place is full.",
    ),
    "disk-enough": ("%(free)s are free.", ""),
    "hypervisor-silent": (
        "The part that runs stand-ins (libvirt) does not answer: no stand-in can start.",
        "Restart libvirtd, or the emergency server. If it stays so, call whoever looks after it.",
    ),
    "no-accelerator": (
        "The processor's virtualisation (KVM) is not there: no stand-in can start.",
        "Switch it on in the machine's firmware settings (VT-x, AMD-V).",
    ),
    "emulated": (
        "Stand-ins are emulated: they work, but very slowly.",
        "Set accelerator to kvm, on a machine that has it.",
    ),
    "hypervisor-ready": ("Ready.", ""),
    "memory-short": (
        "%(name)s has %(needs)s of memory; its stand-in gets %(gets)s and may be slow.",
        "Put more memory into the emergency server.",
    ),
    "memory-enough": ("Enough for the largest server.", ""),
    "bridge-there": ("%(bridge)s is there.", ""),
    "no-bridge": (
        "The network bridge %(bridge)s is missing: stand-ins would have no network.",
        "Set it up, or name another one as lan_bridge in the settings file.",
    ),
    "witnesses-there": ("%(count)s addresses can be asked besides the servers.", ""),
    "witnesses-unknown": (
        "It can't be told which addresses could be asked.",
        "Name a switch or router that always answers on the settings page.",
    ),
    "no-witness": (
        "There is nobody to ask whether the network works, so no stand-in starts by a click.",
        "Name a switch or router that always answers on the settings page.",
    ),
    "medium-built": ("Built and ready to download.", ""),
    "medium-in-work": ("It is being built.", ""),
    "no-medium": (
        "It is not built, so stand-ins can't be made ready and no server can be brought back.",
        "Build it: notfall rescue build. Its job says what is missing.",
    ),
    "clock-unknown": ("It can't be told whether a time server keeps it right.", ""),
    "clock-right": ("A time server keeps it right.", ""),
    "clock-alone": (
        "No time server keeps it right; it may run wrong by and by.",
        "Switch time synchronisation on: systemctl enable --now systemd-timesyncd",
    ),
    "server-certificate-unreadable": (
        "It can't be read.",
        "Restart the emergency server: it makes a new one.",
    ),
    "server-certificate-ends": (
        "It ends in %(time)s; then no agent reaches this server any more.",
        "Restart the emergency server: it makes a new one.",
    ),
    "server-certificate-good": ("Good for another %(time)s.", ""),
    "authority-unreadable": (
        "It can't be read.",
        "Bring the directory ca of its data back, or call whoever looks after it.",
    ),
    "authority-ends": (
        "It ends in %(time)s; then all agents must be installed anew.",
        "Call whoever looks after the emergency server.",
    ),
    "authority-good": ("Good for another %(time)s.", ""),
    "nobody-told": (
        "Nobody is told when something is wrong.",
        "Add somebody on the page Notifications.",
    ),
    "mute": (
        "Notifications to %(names)s do not get through.",
        "Send a test on the page Notifications: it says why.",
    ),
    "somebody-told": ("%(count)s are told.", ""),
    "off-load-damaged": (
        "What was carried to %(names)s is damaged.",
        "Carry to another place now, and have a look at this one's disks.",
    ),
    "off-load-failed": (
        "Carrying copies to %(names)s failed.",
        "The page Off-load says why. It is tried again by itself.",
    ),
    "off-load-overdue": (
        "Carrying copies to %(names)s is overdue.",
        "Plug the disk in, or look on the page Off-load what stands in the way.",
    ),
    "off-load-key": (
        "Nobody has said yet that the key of %(names)s lies in a safe place.",
        "Print it on the page Off-load: without it, nobody reads what lies there.",
    ),
    "no-off-load": (
        "Nothing is carried to another place: a fire would take the copies as well. The page "
        "Off-load leads there.",
        "",
    ),
    "off-load-well": ("Copies are carried to %(count)s places.", ""),
}

TEXTS = (
    NEEDS_LOOK,
    *TITLES.values(),
    *(text for pair in CASES.values() for text in pair if text),
)

_SIZES = {"free", "grows", "needs", "gets"}
"""Which values are bytes."""


@dataclass(frozen=True)
class Told:
    """One finding for showing; ``remedy`` is empty where nothing is to be done."""

    light: Light
    title: str
    words: Words
    remedy: str


def in_words(finding: Finding) -> Told:
    """What was found, and what to do."""
    text, remedy = CASES[finding.case]
    values: dict[str, Value] = {
        key: Size(value) if key in _SIZES and isinstance(value, int) else value
        for key, value in finding.values.items()
    }
    return Told(Light(finding.grade), TITLES[finding.key], Words(text, values), remedy)
