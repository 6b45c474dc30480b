"""What became of watched files between two versions. Pure.

A file is found again by its key. It is *renamed* where its name got another extension, *scrambled*
where its first bytes no longer say what it is, where it looks random and did not, or where its
middle does not pack any more while its beginning is as it was. That one is not found means little:
the choice of files shifts a little when directories fill. So *strange* files are counted beside:
those that look random and say to be nothing, of all that are seen, whatever their names.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import PurePosixPath

from notfallserver.server.pool.measures import FileMeasures
from notfallserver.server.pool.version import WatchedFile

HEAD, MIDDLE = 1, 2
EXAMPLES = 5
USUAL = frozenset({"gz", "bz2", "xz", "zst", "bak", "old", "orig", "save", "tmp", "part", "swp"})
"""Extensions that files get every day; numbers count as such, too."""


def compare(
    since: str, before: Sequence[WatchedFile], after: Sequence[WatchedFile]
) -> FileMeasures:
    """``since`` is the older version."""
    now: dict[str, list[WatchedFile]] = defaultdict(list)
    for one in after:
        now[one.key].append(one)
    paths_before = {one.path for one in before}
    extensions: Counter[str] = Counter()
    examples: list[str] = []
    compared = renamed = scrambled = hit = 0
    for old in before:
        alike = now.get(old.key, [])
        same = next((one for one in alike if one.path == old.path), None)
        moved = [one for one in alike if one.path not in paths_before]
        new = same or next(iter(sorted(moved, key=lambda one: one.path)), None)
        if new is None:
            continue
        compared += 1
        extension = _extension(new.path)
        is_renamed = same is None and not _usual(extension)
        is_scrambled = _scrambled(old, new)
        if is_renamed:
            renamed += 1
            extensions[extension] += 1
        scrambled += is_scrambled
        if is_renamed or is_scrambled:
            hit += 1
            told = f"{old.path} -> {new.path}" if is_renamed else old.path
            examples += [_printable(told)] if len(examples) < EXAMPLES else []
    common = extensions.most_common(1)
    return FileMeasures(
        since=since,
        compared=compared,
        renamed=renamed,
        scrambled=scrambled,
        hit=hit,
        extension=common[0][0] if common else "",
        alike=common[0][1] if common else 0,
        strange_before=sum(map(is_strange, before)),
        seen_before=len(before),
        strange=sum(map(is_strange, after)),
        seen=len(after),
        examples=tuple(examples),
    )


def _printable(told: str) -> str:
    """Names come from a machine that may be in an attacker's hands, and go to terminals."""
    return "".join(one if one.isprintable() else "?" for one in told)


def is_strange(one: WatchedFile) -> bool:
    return not one.kind and one.dense & HEAD != 0


def _scrambled(old: WatchedFile, new: WatchedFile) -> bool:
    if old.kind and not new.kind:
        return True
    if is_strange(new):
        return not is_strange(old)
    return bool(new.dense & MIDDLE and not old.dense & MIDDLE and new.kind == old.kind)


def _extension(path: str) -> str:
    return PurePosixPath(path).suffix.lstrip(".").lower()[:24]


def _usual(extension: str) -> bool:
    return not extension or extension.isdecimal() or extension.rstrip("~") in USUAL
