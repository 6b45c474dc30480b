"""Which disk of the target takes which disk of the original. Pure; nothing is opened here.

A disk is chosen without being named only when there is no doubt: the target has just as many disks
as are needed, or just that many of its disks are empty. In every other case a person names them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from notfallserver.wire.cards import real_cards
from notfallserver.wire.errors import NotfallError
from notfallserver.wire.facts import Disk, Machine

LESS = 0.9
"""Below this share of the original's memory a person is told; firmware keeps some of it."""


@dataclass(frozen=True)
class Pair:
    """Disk ``index`` of the original goes to ``disk`` of the target."""

    index: int
    original: Disk
    disk: Disk

    def order(self) -> dict[str, object]:
        return {
            "index": self.index,
            "serial": self.disk.serial,
            "name": self.disk.name,
            "size": self.disk.size,
        }


@dataclass(frozen=True)
class DiskPlan:
    """What a recovery will do to the target's disks."""

    pairs: tuple[Pair, ...]
    untouched: tuple[Disk, ...]
    warnings: tuple[str, ...] = ()

    def orders(self) -> list[dict[str, object]]:
        return [pair.order() for pair in self.pairs]


def plan_recovery(original: Machine, target: Machine, named: Mapping[str, str]) -> DiskPlan:
    """Plan, or refuse with the reason. ``named`` maps original disk names to target disk names."""
    if original.firmware != target.firmware:
        want, got = original.firmware.upper(), target.firmware.upper()
        raise NotfallError(
            "firmware-differs",
            f"The original starts by {want}, but the target was started by {got}.",
            f"Choose {want} in the target's set-up and boot the rescue medium again.",
        )
    chosen = _choose(original.disks, target.disks, named)
    pairs = []
    for index, (old, new) in enumerate(zip(original.disks, chosen, strict=True)):
        _check_fit(old, new)
        pairs.append(Pair(index, old, new))
    taken = {one.name for one in chosen}
    untouched = tuple(one for one in target.disks if one.name not in taken)
    return DiskPlan(tuple(pairs), untouched, tuple(_warnings(original, target)))


def _warnings(original: Machine, target: Machine) -> Iterator[str]:
    """What is weaker than on the original, but hinders nothing."""
    if target.memory < original.memory * LESS:
        has, had = _size(target.memory), _size(original.memory)
        yield f"The target has {has} of memory, the original had {had}."
    cards, before = len(real_cards(target)), len(real_cards(original))
    if cards < before:
        yield (
            f"The target has {cards} network card(s), the original had {before}: the networks of "
            "the others will be missing."
        )


def _size(size: int) -> str:
    return f"{size / (1 << 30):.1f} GiB"


def _choose(
    originals: Sequence[Disk], targets: Sequence[Disk], named: Mapping[str, str]
) -> list[Disk]:
    if named:
        return _choose_named(originals, targets, named)
    candidates = list(targets)
    if len(candidates) > len(originals):
        candidates = [one for one in targets if not one.table and not one.partitions]
        if len(candidates) != len(originals):
            raise NotfallError(
                "disks-not-clear",
                f"The original has {_disks(originals)}, the target has {_disks(targets)}, and it "
                "is not clear which of them may be overwritten.",
                "Name them: --disk ORIGINAL=TARGET for each disk of the original.",
            )
    if len(candidates) < len(originals):
        raise NotfallError(
            "too-few-disks",
            f"The original has {_disks(originals)}, the target only {_disks(targets)}.",
            "Put further disks into the target and boot the rescue medium again.",
        )
    # The largest original gets the largest candidate; with equal sizes the order stays.
    by_size = sorted(range(len(originals)), key=lambda at: (-originals[at].size, at))
    largest = sorted(candidates, key=lambda one: (-one.size, one.name))
    chosen = dict(zip(by_size, largest, strict=True))
    return [chosen[at] for at in range(len(originals))]


def _choose_named(
    originals: Sequence[Disk], targets: Sequence[Disk], named: Mapping[str, str]
) -> list[Disk]:
    known = {one.name: one for one in targets}
    missing = [one.name for one in originals if one.name not in named]
    strange = [old for old in named if old not in {one.name for one in originals}]
    wrong = [new for new in named.values() if new not in known]
    twice = len(set(named.values())) != len(named)
    if missing or strange or wrong or twice:
        raise NotfallError(
            "bad-disk-names",
            f"The original has {_disks(originals)}, the target has {_disks(targets)}; "
            "the given names don't assign each original disk to one target disk.",
            "Name each disk of the original once: --disk ORIGINAL=TARGET.",
        )
    return [known[named[one.name]] for one in originals]


def _check_fit(old: Disk, new: Disk) -> None:
    if new.size < old.size:
        raise NotfallError(
            "target-disk-too-small",
            f"The target's disk {new.name} ({_size(new.size)}) is smaller than the original's "
            f"{old.name} ({_size(old.size)}).",
            "Use a disk of the same size or larger.",
        )
    if new.sector != old.sector:
        raise NotfallError(
            "sector-size-differs",
            f"The target's disk {new.name} has sectors of {new.sector} bytes, the original's "
            f"{old.name} has {old.sector}.",
            "Use a disk with the same sector size.",
        )


def _disks(disks: Sequence[Disk]) -> str:
    inside = ", ".join(f"{one.name} ({_size(one.size)})" for one in disks)
    return f"{len(disks)} disk(s): {inside}" if disks else "no disks"
