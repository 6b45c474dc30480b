"""The first start in steps, each with a lamp, plain words and its remedy (pure)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from notfallserver.server.cycle.surroundings import Surroundings
from notfallserver.server.host.bridge_lines import Recipe, bridge_recipe
from notfallserver.server.host.network import Link, Manager
from notfallserver.server.vm.spec import Accelerator
from notfallserver.server.web.words.situation import Light, Size, Words

USUAL = 100 * 10**9
"""What a server in a small company has in use, in bytes."""
GROWTH = 1.5
"""So many times that its versions and its stand-in take."""
VERY_LITTLE = 20 * 10**9
"""Bytes below which no server at all finds room."""

TITLES = {
    "password": "A password of your own",
    "pool": "Space for the copies",
    "network": "The network for stand-ins",
    "hypervisor": "The part that runs stand-ins",
    "medium": "The rescue medium",
    "server": "The first server",
}

OWN = "The password is your own."
MADE_UP = "The password is still the one that was made up at the installation."
CHANGE_IT = "Choose one that you can remember, and don't write it on the emergency card."

ROOM = (
    "%(room)s of %(size)s are free: room for about %(count)s servers with %(usual)s of data each."
)
NO_ROOM = "%(room)s of %(size)s are free. That is too little for a server with %(usual)s of data."
PLACE = "The copies are in %(path)s."
SHARES = "Copies share what is equal, so each further copy takes little space."
NO_SHARING = "This file system can't share equal blocks: every copy takes its whole space."
IN_A_FILE = "The space is a file (%(path)s) on the system's disk."
MORE_SPACE = "Give it a disk of its own, or enlarge it. These lines do it, as root:"
USE_XFS = "Put the pool on a file system that can: XFS or Btrfs. These lines do it, as root:"

BRIDGE_GOOD = "The bridge %(bridge)s is there, with the network card %(cards)s."
BRIDGE_MISSING = "The bridge %(bridge)s is missing: stand-ins would have no network."
BRIDGE_EMPTY = "The bridge %(bridge)s is there, but no network card is on it."
NO_CABLE = "No cable is plugged into %(cards)s."
PLUG_IN = "Plug in the cable to the company's network, and look whether the switch is on."
ITS_ADDRESS = "Its address: %(address)s."
OTHER_BRIDGE = (
    "There is a bridge %(other)s already. If it leads to the company's network, write "
    'lan_bridge = "%(other)s" into the settings and restart the emergency server.'
)
MAKE_BRIDGE = (
    "Do this at the machine itself, not over the network: the line is cut for a moment. Take what "
    "is written about %(card)s out of the network settings, and put this there instead."
)
NO_CARD = "No network card was found that a bridge could use. A wireless card can't carry one."
GATEWAY_ANSWERS = "%(who)s answers: so it can be told whether the network works."
GATEWAY_SILENT = "%(who)s does not answer ping."
NOBODY = "There is no gateway and no witness."
NAME_WITNESS = (
    "Name a machine that always answers ping (a switch, a printer) in the settings: [guard] "
    'witnesses = ["ADDRESS"]. Without one no stand-in starts, because nobody could tell a dead '
    "server from a pulled cable."
)

RUNS = "It answers (libvirt %(libvirt)s, QEMU %(qemu)s)."
HAS = "A stand-in can have %(cpus)s processors and %(memory)s of memory."
SILENT = "It does not answer."
START_LIBVIRT = "On this machine, as root: systemctl enable --now libvirtd"
NO_KVM = "KVM is missing, so stand-ins can't run at full speed."
SWITCH_ON = (
    "Switch virtualization on in this machine's firmware settings (VT-x, AMD-V or SVM). If this is "
    "a virtual machine itself, allow nested virtualization."
)
EMULATED = (
    'Stand-ins are emulated, because the settings say so (accelerator = "tcg"). That is slow.'
)
USE_KVM = "Take the line accelerator out of the settings, unless this is only a trial."

MEDIUM_THERE = "It is built. Write it to a USB stick now and put it beside the servers."
MEDIUM_BUILDING = "It is being built. This takes some minutes."
MEDIUM_MISSING = "It is not built."
BUILD_IT = "Build it now. This machine must reach a Debian archive for that."

NO_SERVER = "No server is protected yet."
ON_ITS_WAY = "On its way: %(names)s."
PROTECTED = "Protected: %(names)s."

OWN_DISK = "A disk of its own"
TEXTS = (
    *TITLES.values(),
    OWN_DISK,
    *(OWN, MADE_UP, CHANGE_IT, ROOM, NO_ROOM, PLACE, SHARES, NO_SHARING, IN_A_FILE, MORE_SPACE),
    *(
        USE_XFS,
        BRIDGE_GOOD,
        BRIDGE_MISSING,
        BRIDGE_EMPTY,
        NO_CABLE,
        PLUG_IN,
        ITS_ADDRESS,
        OTHER_BRIDGE,
    ),
    *(MAKE_BRIDGE, NO_CARD, GATEWAY_ANSWERS, GATEWAY_SILENT, NOBODY, NAME_WITNESS, RUNS, HAS),
    *(SILENT, START_LIBVIRT, NO_KVM, SWITCH_ON, EMULATED, USE_KVM, MEDIUM_THERE, MEDIUM_BUILDING),
    *(MEDIUM_MISSING, BUILD_IT, NO_SERVER, ON_ITS_WAY, PROTECTED),
)


@dataclass(frozen=True)
class Lines:
    """Lines to copy, under a title that is the same in every language; ``parts`` are the file that
    they are written into (empty: a shell), and the lines."""

    title: str
    parts: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Step:
    """One step; ``lines`` belong to the remedy, the most fitting first."""

    key: str
    light: Light
    words: tuple[Words, ...]
    remedy: tuple[Words, ...] = ()
    lines: tuple[Lines, ...] = ()

    @property
    def title(self) -> str:
        return TITLES[self.key]


@dataclass(frozen=True)
class Progress:
    """What else the steps need: whether the password was changed, whether the medium is being
    built, and the names of the servers that are protected and that are not yet."""

    own_password: bool
    building: bool
    protected: Sequence[str] = ()
    coming: Sequence[str] = ()


def steps(around: Surroundings, progress: Progress) -> tuple[Step, ...]:
    """All steps in their order."""
    return (
        _password(progress),
        _pool(around, not progress.protected and not progress.coming),
        _network(around),
        _hypervisor(around),
        _medium(around, progress),
        _server(progress),
    )


def _password(progress: Progress) -> Step:
    if progress.own_password:
        return Step("password", Light.GOOD, (Words(OWN),))
    return Step("password", Light.WARN, (Words(MADE_UP),), (Words(CHANGE_IT),))


def _pool(around: Surroundings, empty: bool) -> Step:
    count = int(around.room / (USUAL * GROWTH))
    values = {"room": Size(around.room), "size": Size(around.size), "usual": Size(USUAL)}
    words = [Words(ROOM, {**values, "count": count}) if count else Words(NO_ROOM, values)]
    words.append(Words(PLACE, {"path": around.pool}))
    words.append(Words(SHARES if around.reflink else NO_SHARING))
    if around.image:
        words.append(Words(IN_A_FILE, {"path": around.image}))
    if count and around.reflink:
        return Step("pool", Light.GOOD, tuple(words))
    light = Light.BAD if around.room < VERY_LITTLE else Light.WARN
    lines = [_enlarge(around)] if around.image and around.reflink else []
    if empty:  # else there are copies, and moving them is no matter of four lines
        lines.append(_own_disk(around))
    remedy = Words(MORE_SPACE if around.reflink else USE_XFS)
    return Step("pool", light, tuple(words), (remedy,), tuple(lines))


def _own_disk(around: Surroundings) -> Lines:
    text = ["systemctl stop notfallserver"]
    if around.image:
        text += [f"umount {around.pool}", f"mv {around.image} {around.image}.old"]
    text += [
        "mkfs.xfs -m reflink=1 /dev/DISK",
        f'echo "/dev/DISK {around.pool} xfs noatime,nofail 0 0" >> /etc/fstab',
        f"mount {around.pool}",
        "systemctl start notfallserver",
    ]
    return Lines(OWN_DISK, (("", "\n".join(text) + "\n"),))


def _enlarge(around: Surroundings) -> Lines:
    text = [
        f"truncate -s +200G {around.image}",
        f"losetup -c $(losetup -n -O NAME -j {around.image})",
        f"xfs_growfs {around.pool}",
    ]
    return Lines("+ 200 GB", (("", "\n".join(text) + "\n"),))


def _network(around: Surroundings) -> Step:
    values = {"bridge": around.bridge}
    cards = [one for one in around.links if one.bridge == around.bridge and _outside(one)]
    names = ", ".join(one.name for one in cards)
    if not around.bridged or not cards:
        text = BRIDGE_EMPTY if around.bridged else BRIDGE_MISSING
        remedy, lines = _make_bridge(around)
        return Step("network", Light.BAD, (Words(text, values),), remedy, lines)
    words = [Words(BRIDGE_GOOD, {**values, "cards": names})]
    remedy = ()
    if not any(one.carrier for one in cards):
        words.append(Words(NO_CABLE, {"cards": names}))
        remedy = (Words(PLUG_IN),)
    address = [one for link in around.links if link.name == around.bridge for one in link.addresses]
    if address:
        words.append(Words(ITS_ADDRESS, {"address": ", ".join(address)}))
    asked = (*around.gateways, *around.witnesses)
    silent = [one for one in asked if one not in around.answering]
    if around.answering:
        words.append(Words(GATEWAY_ANSWERS, {"who": ", ".join(around.answering)}))
    if silent:
        words.append(Words(GATEWAY_SILENT, {"who": ", ".join(silent)}))
    if not asked:
        words.append(Words(NOBODY))
    if not around.answering and not remedy:
        remedy = (Words(NAME_WITNESS),)
    return Step("network", Light.BAD if remedy else Light.GOOD, tuple(words), remedy)


def _outside(link: Link) -> bool:
    """It leads out of this machine: a card, several of them together, or a VLAN on one."""
    return link.card or link.kind in ("bond", "team", "vlan")


def _make_bridge(around: Surroundings) -> tuple[tuple[Words, ...], tuple[Lines, ...]]:
    ports = {one.bridge for one in around.links if one.bridge and _outside(one)}
    others = [one.name for one in around.links if one.kind == "bridge" and one.name in ports]
    if others:
        return (Words(OTHER_BRIDGE, {"other": others[0]}),), ()
    free = [one for one in around.links if _outside(one) and not one.bridge and not one.wireless]
    if not free:
        return (Words(NO_CARD),), ()
    card = min(free, key=lambda one: (not one.addresses, not one.carrier, one.name))
    managers = sorted(Manager, key=lambda one: one is not around.manager)
    recipes = [bridge_recipe(one, around.bridge, card, around.gateways) for one in managers]
    return (Words(MAKE_BRIDGE, {"card": card.name}),), tuple(_as_lines(one) for one in recipes)


def _as_lines(recipe: Recipe) -> Lines:
    return Lines(recipe.manager, (*recipe.files, ("", recipe.command + "\n")))


def _hypervisor(around: Surroundings) -> Step:
    known = around.hypervisor
    if known is None:
        return Step("hypervisor", Light.BAD, (Words(SILENT),), (Words(START_LIBVIRT),))
    runs = Words(RUNS, {"libvirt": known.libvirt, "qemu": known.qemu})
    if not around.accelerated:
        return Step("hypervisor", Light.BAD, (runs, Words(NO_KVM)), (Words(SWITCH_ON),))
    has = Words(HAS, {"cpus": around.cpus, "memory": Size(around.memory)})
    if around.accelerator is Accelerator.TCG:
        words = (runs, has, Words(EMULATED))
        return Step("hypervisor", Light.WARN, words, (Words(USE_KVM),))
    return Step("hypervisor", Light.GOOD, (runs, has))


def _medium(around: Surroundings, progress: Progress) -> Step:
    if around.medium:
        return Step("medium", Light.GOOD, (Words(MEDIUM_THERE),))
    if progress.building:
        return Step("medium", Light.BUSY, (Words(MEDIUM_BUILDING),))
    return Step("medium", Light.WARN, (Words(MEDIUM_MISSING),), (Words(BUILD_IT),))


def _server(progress: Progress) -> Step:
    words = []
    for text, names in ((PROTECTED, progress.protected), (ON_ITS_WAY, progress.coming)):
        if names:
            words.append(Words(text, {"names": ", ".join(names)}))
    if progress.protected:
        return Step("server", Light.GOOD, tuple(words))
    if progress.coming:
        return Step("server", Light.BUSY, tuple(words))
    return Step("server", Light.WARN, (Words(NO_SERVER),))
