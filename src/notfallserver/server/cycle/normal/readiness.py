"""Whether a primary could be replaced today: what stands in the way, known in peace time (pure).

A blocker keeps the stand-in from starting or from doing its work; a warning is something that
somebody should know before the worst day. Findings have stable keys; their words are the web's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from notfallserver.server.cycle.normal.forecast import Outlook
from notfallserver.server.pool.proof import Evidence, Standing, standing
from notfallserver.server.pool.version import Manifest
from notfallserver.wire.cards import real_cards
from notfallserver.wire.facts import Machine

KNOWN_NOTES = (
    *("nic-driver-missing", "unknown-device", "odd-boot-loader"),
    *("locked-system", "locked-drivers"),
    *("windows-activation", "windows-address-unclear", "windows-controller-unknown"),
    "windows-driver-signature",
    *("windows-drive-letter", "windows-old", "windows-unclean"),
)
"""Of the adaptation, that the page has words for."""
LOOK_BACK = 3
"""So many runs in a row that read everything are no accident."""
SCARCE = 0.1
"""Free space below this share of what the primary uses is little for what its stand-in writes."""
LEAST_FREE = 2 << 30
"""Bytes below which no stand-in should write."""
MUCH_LESS = 0.25
"""With less than this share of its memory a stand-in can't do the work."""
NEARLY = 0.9
"""Memory that is cut by less is no news: firmware and kernel keep some of it for themselves."""
LUKS = "crypto_LUKS"


class Severity(StrEnum):
    """Worst first."""

    BLOCKER = "blocker"
    WARNING = "warning"


@dataclass(frozen=True)
class Finding:
    """``values`` go into the words; sizes are bytes."""

    key: str
    severity: Severity
    values: Mapping[str, str | int] = field(default_factory=dict)


@dataclass(frozen=True)
class Host:
    """What this emergency server has for a stand-in; sizes in bytes.

    ``hypervisor``: it answers; ``accelerated``: it can what the settings want of it;
    ``witnesses``: there is somebody to ask whether the network works. ``idle_memory``: what nobody
    takes now; ``rehearses``: rehearsals begin by themselves.
    """

    cpus: int
    memory: int
    free: int
    reflink: bool
    bridge: str
    bridged: bool
    hypervisor: bool
    accelerated: bool
    uefi: bool
    witnesses: bool
    idle_memory: int
    rehearses: bool


@dataclass(frozen=True)
class Crowd:
    """Of ``servers`` stand-ins only ``fits`` find room together; bytes of memory are missing."""

    fits: int
    servers: int
    missing: int


@dataclass(frozen=True)
class Facts:
    """What is known of a primary. ``copies``: the newest versions that its agent made, newest
    first; ``prepared``: the newest can start; ``warnings``: code and text of what the adaptation
    noticed; ``failed``: code and
    cause of the error of jobs of a kind that failed and were not made good; ``evidence``: of the
    version that would start; ``proven``: some version is known to start; ``crowd``: it finds no
    room when all start together; ``unheard``: addresses whose silence would tell this server
    nothing; ``agentless``: its copies are imported, and nothing calls from it."""

    machine: Machine | None
    heard: bool
    agent: str
    program: str
    schedule_minutes: int
    copies: tuple[Manifest, ...] = ()
    used: int = 0
    prepared: bool = False
    warnings: tuple[tuple[str, str], ...] = ()
    failed: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    evidence: Evidence | None = None
    proven: bool = False
    outlook: Outlook | None = None
    crowd: Crowd | None = None
    unheard: tuple[str, ...] = ()
    agentless: bool = False


def find(facts: Facts, host: Host) -> tuple[Finding, ...]:
    """Blockers first."""
    found = [one for rule in _RULES for one in rule(facts, host)]
    return tuple(sorted(found, key=lambda one: list(Severity).index(one.severity)))


def _blocker(key: str, **values: str | int) -> Finding:
    return Finding(key, Severity.BLOCKER, values)


def _warning(key: str, **values: str | int) -> Finding:
    return Finding(key, Severity.WARNING, values)


def _why(facts: Facts, kind: str) -> dict[str, str]:
    """Why the last job of this kind failed; empty if it did not."""
    if kind not in facts.failed:
        return {}
    code, cause = facts.failed[kind]
    return {"code": code, "why": cause}


def _agent(facts: Facts, host: Host) -> Iterator[Finding]:
    if facts.agentless:
        yield _warning("no-agent")
    elif not facts.heard:
        yield _blocker("never-heard")
    elif facts.agent and facts.agent != facts.program:
        yield _warning("agent-differs", agent=facts.agent, program=facts.program)


def _copies(facts: Facts, host: Host) -> Iterator[Finding]:
    trouble = _why(facts, "image_import" if facts.agentless else "replicate")
    if not facts.copies:
        if facts.agentless:
            yield _blocker("no-image", **trouble) if trouble else _blocker("no-image-yet")
        elif facts.heard:
            yield _blocker("no-copy", **trouble) if trouble else _blocker("no-copy-yet")
        return
    if trouble:
        yield _warning("import-failed" if facts.agentless else "copy-failed", **trouble)
    if facts.agentless:
        if facts.copies[0].consistency == "crash":
            yield _warning("imported-unfrozen")
        return
    if not facts.schedule_minutes:
        yield _warning("no-schedule")
    if facts.outlook is Outlook.CANNOT_KEEP_UP:
        yield _warning("line-too-thin")
    elif facts.outlook is Outlook.LATE:
        yield _warning("runs-too-long")
    newest = facts.copies[0]
    if newest.consistency == "crash":
        yield _warning("not-frozen")
    for one in newest.applications:
        if one.error:
            yield _warning("application-not-frozen", name=one.name, why=one.error)
    later = [one for one in facts.copies if one.base and not one.deep][:LOOK_BACK]
    if len(later) == LOOK_BACK and all(one.read_all for one in later):
        yield _warning("reads-all")


def _image(facts: Facts, host: Host) -> Iterator[Finding]:
    if not facts.copies:
        return
    if not facts.prepared:
        trouble = _why(facts, "prepare")
        yield _blocker("not-prepared", **trouble) if trouble else _warning("not-prepared-yet")
    for code, text in facts.warnings:
        known = code in KNOWN_NOTES
        yield _warning(code if known else "image-warning", why=text)


def _proof(facts: Facts, host: Host) -> Iterator[Finding]:
    if not facts.copies:
        return
    evidence = facts.evidence
    if standing(evidence) is Standing.REFUTED:
        yield _warning("newest-starts-not") if facts.proven else _blocker("starts-not")
    elif evidence is None and not facts.proven and not host.rehearses:
        yield _warning("never-rehearsed")
    for one in evidence.damaged if evidence else ():
        yield _warning("filesystem-damaged", volume=one.volume, kind=one.filesystem)
    for check in evidence.failed_checks if evidence else ():
        yield _warning("check-failed", name=check.name, why=check.told)


def _beside(facts: Facts, host: Host) -> Iterator[Finding]:
    """What belongs to the machine, and is in no copy."""
    machine = facts.machine
    if machine is None:
        return
    if machine.outside:
        yield _warning("data-outside", places=", ".join(machine.outside))
    if machine.licence_keys:
        yield _warning("licence-key", keys=", ".join(machine.licence_keys))
    told = any(one.filesystem == LUKS for disk in machine.disks for one in disk.partitions)
    volumes = facts.evidence.volumes if facts.evidence else ()
    inside = [one.volume for one in volumes if one.filesystem == LUKS]
    if inside and not told:  # in a logical volume, where an agent does not look
        yield _warning("disk-key")


def _machine(facts: Facts, host: Host) -> Iterator[Finding]:
    machine = facts.machine
    if machine is None:
        return
    if machine.firmware == "uefi" and not host.uefi:
        yield _blocker("no-firmware")
    if any(part.filesystem == LUKS for disk in machine.disks for part in disk.partitions):
        yield _warning("disk-key")
    if host.memory < machine.memory * MUCH_LESS:
        yield _blocker("too-little-memory", has=machine.memory, gets=host.memory)
    elif host.memory < machine.memory * NEARLY:
        yield _warning("less-memory", has=machine.memory, gets=host.memory)
    if facts.crowd is not None:
        crowd = facts.crowd
        yield _warning(
            "not-together", fits=crowd.fits, servers=crowd.servers, missing=crowd.missing
        )
    takes = min(machine.memory, host.memory)
    if host.idle_memory < takes * NEARLY:
        yield _warning("memory-taken", idle=host.idle_memory, takes=takes)
    if host.cpus < machine.cpus:
        yield _warning("fewer-processors", has=machine.cpus, gets=host.cpus)
    if (facts.heard or facts.agentless) and not machine.ports:
        yield _warning("no-services")


def _windows(facts: Facts, host: Host) -> Iterator[Finding]:
    machine = facts.machine
    if machine is None:
        return
    for one in ("reboot-pending", "fast-start", "oem-licence"):  # as ``wire.facts`` calls them
        if one in machine.conditions:
            yield _warning(one)
    parts = [part for disk in machine.disks for part in disk.partitions]
    opened = [one for one in parts if one.encrypted and one.filesystem != one.encrypted]
    if opened:
        places = ", ".join(one.mountpoint or one.label or str(one.number) for one in opened)
        yield _warning("copy-not-encrypted", places=places)
    locked = [one for one in parts if one.encrypted and one.filesystem == one.encrypted]
    if locked:
        places = ", ".join(one.label or str(one.number) for one in locked)
        yield _warning("drive-locked", places=places)


def _network(facts: Facts, host: Host) -> Iterator[Finding]:
    if not host.bridged:
        yield _blocker("no-bridge", bridge=host.bridge)
    if not host.witnesses:
        yield _blocker("no-witness")
    if facts.machine is None:
        return
    if not real_cards(facts.machine):
        yield _blocker("no-card")
    if facts.agentless and not facts.machine.addresses():
        yield _warning("no-address")
    leased = [
        address.split("/")[0]
        for nic in facts.machine.nics
        for address in nic.leased
        if ":" not in address
    ]
    if facts.unheard:
        yield _warning("addresses-unheard", addresses=", ".join(facts.unheard))
    if leased:
        yield _warning("address-leased", address=", ".join(dict.fromkeys(leased)))


def _host(facts: Facts, host: Host) -> Iterator[Finding]:
    if not host.hypervisor:
        yield _blocker("no-hypervisor")
    elif not host.accelerated:
        yield _blocker("no-kvm")
    # Without reflink the stand-in's disks are a second copy of all that is used.
    needed = max(LEAST_FREE, 0 if host.reflink else facts.used)
    if host.free < needed:
        yield _blocker("no-space", free=host.free, needs=needed)
    elif host.free < facts.used * SCARCE:
        yield _warning("little-space", free=host.free)
    if not host.reflink:
        yield _warning("no-reflink")


_RULES: tuple[Callable[[Facts, Host], Iterator[Finding]], ...] = (
    *(_agent, _copies, _image, _proof, _host, _network, _machine, _windows, _beside),
)
