"""Has somebody taken this machine's place? Pure.

A stand-in is known by its MAC: it has those of the machine it stands in for. Another MAC at one of
several addresses is none: pairs of servers hand an address over to each other, and an address that
was leased long ago may be another's by now. But where all addresses are somebody else's, nobody
would reach this machine anyway, and it would only disturb whoever works there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import FrozenSet, Mapping, Sequence, Tuple

from notfallserver.agent.fence.own import Address


@dataclass(frozen=True)
class Finding:
    """``taken``: keep off the network. ``answers``: address and MAC of those that answered."""

    taken: bool
    stand_in: bool
    answers: Tuple[Tuple[str, str], ...]


def judge(
    addresses: Sequence[Address], macs: FrozenSet[str], found: Mapping[str, FrozenSet[str]]
) -> Finding:
    """``macs`` are this machine's own, ``found`` those that answered for each address."""
    answers = tuple((address, mac) for address in sorted(found) for mac in sorted(found[address]))
    stand_in = any(mac in macs for _, mac in answers)
    all_taken = bool(addresses) and all(found.get(one.address) for one in addresses)
    return Finding(stand_in or all_taken, stand_in, answers)
