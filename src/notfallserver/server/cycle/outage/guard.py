"""The guard's decision: may the stand-in start? Pure.

Any sign of life of the primary refuses, and so does the server's own isolation, because a server
that hears nobody cannot tell a dead primary from a pulled cable of its own; and a server that hears
machines but no gateway, because it may be on the wrong side of a cut. What cannot be told
refuses too, unless the primary was just switched off from afar: then its fence device has told.
A person may overrule with a reason; the caller journals the verdict.

Every text has a stable key; pages translate by key, never by text.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from notfallserver.server.cycle.outage.probe import Sighting, Way
from notfallserver.wire.errors import NotfallError


class Alive(StrEnum):
    YES = "yes"
    NO = "no"
    UNKNOWN = "unknown"


class Reason(StrEnum):
    """Why the guard decided so."""

    SILENT = "silent"  # allows: nothing lives, and the server would hear it
    FENCED = "fenced"  # allows: it was switched off from afar, and nothing lives
    ALIVE = "alive"
    WRONG_DEVICE = "wrong-device"
    CUT_OFF = "cut-off"
    SPLIT = "split"
    NO_WITNESS = "no-witness"
    CANNOT_TELL = "cannot-tell"
    OVERRULED = "overruled"


@dataclass(frozen=True)
class Findings:
    """What is known at one moment; ``heartbeat_age`` in seconds, None: never seen.

    ``fenced_age``: so many seconds ago its fence device said that it is off; None: it did not.
    ``gateways``: those of the witnesses that are a way out of the network.
    """

    primary: tuple[Sighting, ...]
    witnesses: tuple[Sighting, ...]
    heartbeat_age: float | None
    heartbeat_limit: float = 15.0
    fenced_age: float | None = None
    gateways: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Evidence:
    """One thing that speaks for or against the start; ``about`` is primary or witness."""

    about: str
    kind: str  # ping, arp, neighbour, tcp, heartbeat
    subject: str
    alive: Alive
    key: str
    text: str


@dataclass(frozen=True)
class Verdict:
    allowed: bool
    reason: Reason
    text: str
    remedy: str
    evidence: tuple[Evidence, ...]
    overruled_because: str = ""

    def require(self) -> None:
        """Raise unless the start is allowed."""
        if not self.allowed:
            signs = [
                one.text
                for one in self.evidence
                if one.alive is Alive.YES and one.about == "primary"
            ]
            told = self.reason in (Reason.ALIVE, Reason.WRONG_DEVICE)
            shown = " ".join(signs[:3]) if told else ""
            raise NotfallError(
                f"guard-{self.reason}", f"{self.text} {shown}".strip(), self.remedy, status=409
            )

    def to_json(self) -> dict[str, Any]:
        """For the journal and the API."""
        return {
            "allowed": self.allowed,
            "reason": str(self.reason),
            "text": self.text,
            "remedy": self.remedy,
            "overruled_because": self.overruled_because,
            "evidence": [
                {key: str(value) for key, value in vars(one).items()} for one in self.evidence
            ],
        }


def decide(findings: Findings) -> Verdict:
    """The guard's rules, strongest first."""
    heart = _heartbeat(findings)
    primary = [heart, *(_seen("primary", one) for one in findings.primary)]
    witnesses = [_seen("witness", one) for one in findings.witnesses]
    evidence = (*primary, *witnesses)
    asked = {one.subject for one in primary[1:]}
    answered_for = {one.subject for one in primary[1:] if one.alive is not Alive.UNKNOWN}
    if any(one.alive is Alive.YES for one in primary):
        if findings.fenced_age is not None:
            return _refuse(
                Reason.WRONG_DEVICE,
                "The primary was switched off from afar, but something still answers for it.",
                "Look which machine the fence device has switched off, and switch the primary off.",
                evidence,
            )
        return _refuse(
            Reason.ALIVE,
            "The primary shows signs of life, so its stand-in does not start.",
            "Switch the primary off or take it off the network, then try again.",
            evidence,
        )
    isolated = bool(witnesses) and not any(one.alive is Alive.YES for one in witnesses)
    # Cut off, the server could not notice that the wrong machine was switched off.
    if findings.fenced_age is not None and not isolated:
        return Verdict(
            True,
            Reason.FENCED,
            "The primary was switched off from afar, and nothing answers for it.",
            "",
            evidence,
        )
    if not asked or asked - answered_for:
        unasked = ", ".join(sorted(asked - answered_for)) or "the primary, which has no address"
        return _refuse(
            Reason.CANNOT_TELL,
            f"It cannot be told whether the primary lives: nobody could ask {unasked}.",
            "Check the server's network, or overrule with a reason after looking at the machine.",
            evidence,
        )
    if not witnesses:
        return _refuse(
            Reason.NO_WITNESS,
            "It cannot be told whether the primary is dead or the server is cut off: there is no "
            "other machine that the server could ask.",
            "Name an address that always answers ping under [guard] witnesses in the settings.",
            evidence,
        )
    if isolated:
        return _refuse(
            Reason.CUT_OFF,
            "None of the machines that normally answer does: the server itself is cut off from "
            "the network.",
            "Check the server's cable and switch, then try again.",
            evidence,
        )
    if silent := _silent_gateways(findings, witnesses):
        return _refuse(
            Reason.SPLIT,
            f"The gateway {silent} does not answer, though other machines do: the network may be "
            "cut in two, and the primary alive on the other side.",
            "Check the switches and the gateway, or overrule with a reason after looking at the "
            "machine.",
            evidence,
        )
    return Verdict(
        True, Reason.SILENT, "The primary is silent and the network works.", "", evidence
    )


def overrule(verdict: Verdict, because: str) -> Verdict:
    """The start allowed by a person; the caller journals who. A reason must be given."""
    because = because.strip()
    if len(because) < 3:
        raise NotfallError(
            "reason-missing",
            "Overruling the guard needs a reason.",
            "Say in a few words why the primary is known to be off.",
        )
    if verdict.allowed:
        return verdict
    return replace(
        verdict,
        allowed=True,
        reason=Reason.OVERRULED,
        text=f"Overruled: {because} (The guard had refused: {verdict.text})",
        remedy="",
        overruled_because=because,
    )


def _silent_gateways(findings: Findings, witnesses: list[Evidence]) -> str:
    """The gateways that were asked, if none of them answers; one of our machines' is no way out."""
    told = [
        one
        for one in witnesses
        if one.subject in findings.gateways
        and one.alive is not Alive.UNKNOWN
        and not one.key.endswith("-ours")
    ]
    if any(one.alive is Alive.YES for one in told):
        return ""
    return ", ".join(sorted({one.subject for one in told}))


def _refuse(reason: Reason, text: str, remedy: str, evidence: tuple[Evidence, ...]) -> Verdict:
    return Verdict(False, reason, text, remedy, evidence)


def _heartbeat(findings: Findings) -> Evidence:
    age, limit = findings.heartbeat_age, findings.heartbeat_limit
    if findings.fenced_age is not None:
        limit = min(limit, findings.fenced_age)  # what it said before says nothing any more
    if age is None:
        alive, text = Alive.UNKNOWN, "Its agent was never heard."
    elif age < limit:
        alive, text = Alive.YES, f"Its agent was heard {age:.0f} s ago."
    else:
        alive, text = Alive.NO, f"Its agent was last heard {age:.0f} s ago."
    return Evidence("primary", "heartbeat", "agent", alive, f"heartbeat-{alive}", text)


_DEEDS = {
    Way.PING: ("answers ping", "does not answer ping", "could not be pinged"),
    Way.ARP: ("answers ARP", "does not answer ARP", "could not be asked by ARP"),
    Way.NEIGHBOUR: (
        "answers neighbour solicitation",
        "does not answer neighbour solicitation",
        "could not be asked by neighbour solicitation",
    ),
    Way.TCP: ("answers on port {port}", "is silent on port {port}", "could not be asked"),
}


def _seen(about: str, one: Sighting) -> Evidence:
    yes, no, unknown = (text.format(port=one.port) for text in _DEEDS[one.way])
    if one.ours:
        # An answer of our own machine is neither the primary's life nor a proof of the network.
        text = f"{one.address} is answered by a virtual machine of this server."
        return Evidence(about, one.way, one.address, Alive.NO, f"{one.way}-ours", text)
    if one.alive is None:
        alive, text = Alive.UNKNOWN, f"{one.address} {unknown} ({one.trouble})."
    elif one.alive:
        by = f" (from {one.mac})" if one.mac else ""
        alive, text = Alive.YES, f"{one.address} {yes}{by}."
    else:
        alive, text = Alive.NO, f"{one.address} {no}."
    return Evidence(about, one.way, one.address, alive, f"{one.way}-{alive}", text)
