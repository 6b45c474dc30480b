"""Which disk of the target takes which disks of the original. Pure; nothing is opened here.

A disk is chosen without being named only when there is no doubt: the target has just as many disks
as are needed, or just that many of its disks are empty. Where it has fewer, disks that are mirrored
on others are left out, and what several held goes onto one. In every other case a person names
them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from notfallserver.server.vm.fit import boot_disk
from notfallserver.wire.errors import NotfallError
from notfallserver.wire.facts import Disk, Machine

Mirrors = Mapping[int, frozenset[int]]
"""By the place of a disk: the disks that hold all that is on it."""


@dataclass(frozen=True)
class Assignment:
    """The disk of the target, and what of the original it takes; the first starts the machine."""

    disk: Disk
    sources: tuple[int, ...]


@dataclass(frozen=True)
class Assignments:
    """In the order of the original's disks; ``left_out`` are mirrored on others."""

    disks: tuple[Assignment, ...]
    left_out: tuple[int, ...] = ()


def assign(
    original: Machine, target: Machine, named: Mapping[str, str], mirrors: Mirrors
) -> Assignments:
    """``named`` maps original disk names to target disk names; empty: the server chooses."""
    if named:
        return _named(original, target, named, mirrors)
    needed = list(range(len(original.disks)))
    candidates = list(target.disks)
    if len(candidates) > len(needed):
        candidates = [one for one in target.disks if not one.table and not one.partitions]
        if not 0 < len(candidates) <= len(needed):
            raise _not_clear(original, target)
    left_out: tuple[int, ...] = ()
    if len(candidates) < len(needed):
        kept = _without_mirrors(needed, mirrors)
        left_out = tuple(one for one in needed if one not in kept)
        needed = kept
    if len(candidates) == 1 and len(needed) > 1:
        return Assignments((Assignment(candidates[0], _joined(original, needed)),), left_out)
    if len(candidates) != len(needed):
        if len(candidates) < len(needed):
            raise NotfallError(
                "too-few-disks",
                f"The original has {told(original.disks)}, the target only {told(target.disks)}.",
                "Put further disks into the target and boot the rescue medium again, or name where "
                "each shall go: --disk ORIGINAL=TARGET; several may go onto one.",
            )
        raise _not_clear(original, target)
    # The largest original gets the largest candidate; with equal sizes the order stays.
    by_size = sorted(needed, key=lambda at: (-original.disks[at].size, at))
    largest = sorted(candidates, key=lambda one: (-one.size, one.name))
    chosen = dict(zip(by_size, largest, strict=True))
    return Assignments(tuple(Assignment(chosen[at], (at,)) for at in needed), left_out)


def _not_clear(original: Machine, target: Machine) -> NotfallError:
    return NotfallError(
        "disks-not-clear",
        f"The original has {told(original.disks)}, the target has {told(target.disks)}, and it "
        "is not clear which of them may be overwritten.",
        "Name them: --disk ORIGINAL=TARGET for each disk of the original.",
    )


def _without_mirrors(needed: Sequence[int], mirrors: Mirrors) -> list[int]:
    """The first of those that hold the same."""
    kept: list[int] = []
    for at in needed:
        if not mirrors.get(at, frozenset()) & set(kept):
            kept.append(at)
    return kept


def _joined(original: Machine, sources: Sequence[int]) -> tuple[int, ...]:
    """The one that starts the machine first: its boot code and table stay."""
    first = boot_disk(original)
    return tuple(sorted(sources, key=lambda at: (at != first, at)))


def _named(
    original: Machine, target: Machine, named: Mapping[str, str], mirrors: Mirrors
) -> Assignments:
    known = {one.name: one for one in target.disks}
    places = {one.name: at for at, one in enumerate(original.disks)}
    taken = {places[old] for old in named if old in places}
    missing = [at for at in places.values() if at not in taken]
    lost = [at for at in missing if not mirrors.get(at, frozenset()) & taken]
    strange = [old for old in named if old not in places]
    wrong = [new for new in named.values() if new not in known]
    if lost or strange or wrong:
        raise NotfallError(
            "bad-disk-names",
            f"The original has {told(original.disks)}, the target has {told(target.disks)}; "
            "the given names don't assign each original disk to one target disk.",
            "Name each disk of the original once: --disk ORIGINAL=TARGET.",
        )
    by_target: dict[str, list[int]] = {}
    for at in sorted(taken):
        by_target.setdefault(named[original.disks[at].name], []).append(at)
    return Assignments(
        tuple(
            Assignment(known[name], _joined(original, sources))
            for name, sources in by_target.items()
        ),
        tuple(missing),
    )


def size_told(size: int) -> str:
    return f"{size / (1 << 30):.1f} GiB"


def told(disks: Sequence[Disk]) -> str:
    inside = ", ".join(f"{one.name} ({size_told(one.size)})" for one in disks)
    return f"{len(disks)} disk(s): {inside}" if disks else "no disks"
