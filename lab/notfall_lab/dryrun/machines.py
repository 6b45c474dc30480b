"""Machines as agents and rescue media have told of them; see :mod:`notfall_lab.dryrun.capture`."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from notfallserver.wire.facts import Machine, read_machine

CAPTURED = Path(__file__).parents[3] / "tests" / "data" / "machines"


def captured(name: str) -> Machine:
    return read_machine(json.loads((CAPTURED / f"{name}.json").read_text()))


def called(machine: Machine, name: str, number: int) -> Machine:
    """The same hardware as another machine: its name, its address, its card's number."""
    cards = [
        replace(
            card,
            mac=f"{card.mac[:9]}{number >> 8:02x}:{number & 255:02x}:{at:02x}",
            addresses=[f"192.0.2.{number % 250 + 2}/24"] if at == 0 else [],
        )
        for at, card in enumerate(machine.nics)
    ]
    return replace(machine, hostname=name, nics=cards, gateway="192.0.2.1")


def rehoused(original: Machine, target: Machine) -> Machine:
    """What the agent tells after the recovery: the original's system on the target's hardware."""
    cards = [
        replace(card, addresses=old.addresses)
        for card, old in zip(target.nics, original.nics, strict=False)
    ]
    return replace(
        target,
        hostname=original.hostname,
        system=original.system,
        kernel=original.kernel,
        ports=original.ports,
        gateway=original.gateway,
        nics=cards or original.nics,
    )
