"""What the guard found, in plain words (pure)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from notfallserver.server.cycle.outage.guard import Alive, Evidence, Reason, Verdict
from notfallserver.server.web.words.situation import LAST_SIGN, NO_SIGN, Light, Words

TITLES = {
    Reason.SILENT: "It is really down",
    Reason.FENCED: "It was switched off from afar",
    Reason.ALIVE: "It still shows signs of life",
    Reason.WRONG_DEVICE: "Something still answers for it",
    Reason.CUT_OFF: "The emergency server is cut off itself",
    Reason.SPLIT: "Part of the network is missing",
    Reason.NO_WITNESS: "It can't be told who is cut off",
    Reason.CANNOT_TELL: "It can't be told whether it is down",
    Reason.OVERRULED: "The check was overruled",
}
REMEDIES = {
    Reason.SILENT: (
        "Nothing answers under its addresses, and the network works. Its copy can start."
    ),
    Reason.ALIVE: (
        "Two servers with the same address would damage your data. Switch the server off, or "
        "pull its power plug. Then look again."
    ),
    Reason.FENCED: "Nothing answers under its addresses any more. Its copy can start.",
    Reason.WRONG_DEVICE: (
        "It was switched off from afar, but a machine still answers under its addresses. Perhaps "
        "another one was switched off. Go there and look."
    ),
    Reason.CUT_OFF: (
        "None of the machines that normally answer does. Check the network cable and the switch "
        "of the emergency server. Then look again."
    ),
    Reason.SPLIT: (
        "Other machines answer, but the way out (the router) doesn't. Perhaps the server works on "
        "where the router is. Check the switches and the router, or go to the server and look "
        "whether it is off."
    ),
    Reason.NO_WITNESS: (
        "There is no other machine that the emergency server could ask. Go to the server and "
        "look whether it is off. Whoever runs this system can name such a machine in the settings."
    ),
    Reason.CANNOT_TELL: (
        "Some of its addresses could not be asked. Go to the server and look whether it is off."
    ),
    Reason.OVERRULED: "",
}
ANSWERS = {
    "ping": ("%(who)s answers ping", "%(who)s doesn't answer ping", "%(who)s could not be asked"),
    "arp": (
        "%(who)s: the network address is in use",
        "%(who)s: the network address is free",
        "%(who)s: the network could not be asked",
    ),
    "tcp": (
        "%(who)s: a service answers",
        "%(who)s: no service answers",
        "%(who)s: its services could not be asked",
    ),
}
WITNESS = (
    "%(who)s answers: the network works",
    "%(who)s doesn't answer",
    "%(who)s could not be asked",
)
TEXTS = (
    *(*TITLES.values(), *(one for one in REMEDIES.values() if one)),
    *(text for group in ANSWERS.values() for text in group),
    *WITNESS,
)


@dataclass(frozen=True)
class Sign:
    """One thing that was found; ``speaks`` is how it bears on the start: good, bad or warn."""

    speaks: Light
    words: Words


@dataclass(frozen=True)
class Found:
    """The guard's decision and all it rests on."""

    allowed: bool
    title: str
    remedy: str
    signs: tuple[Sign, ...]


def findings_of(verdict: Verdict, last_seen: datetime | None) -> Found:
    """``last_seen``: when its agent called last."""
    signs: dict[str, Sign] = {}
    for one in verdict.evidence:
        sign = _sign(one, last_seen)
        signs.setdefault(f"{sign.words.text}{sign.words.values}", sign)
    return Found(
        verdict.allowed, TITLES[verdict.reason], REMEDIES[verdict.reason], tuple(signs.values())
    )


def _sign(one: Evidence, last_seen: datetime | None) -> Sign:
    dead_is_good = {Alive.YES: Light.BAD, Alive.NO: Light.GOOD, Alive.UNKNOWN: Light.WARN}
    place = (Alive.YES, Alive.NO, Alive.UNKNOWN).index(one.alive)
    if one.about == "witness":
        speaks = {Alive.YES: Light.GOOD, Alive.NO: Light.WARN, Alive.UNKNOWN: Light.WARN}
        return Sign(speaks[one.alive], Words(WITNESS[place], {"who": one.subject}))
    if one.kind == "heartbeat":
        words = Words(LAST_SIGN, {"at": last_seen}) if last_seen else Words(NO_SIGN)
        never = one.alive is Alive.UNKNOWN
        return Sign(Light.GOOD if never else dead_is_good[one.alive], words)
    texts = ANSWERS["arp" if one.kind == "neighbour" else one.kind]
    return Sign(dead_is_good[one.alive], Words(texts[place], {"who": one.subject}))
