"""Makes a hive whole: what its transaction logs hold is put into a copy of it.

Windows changes a hive in its logs first and in the hive itself later, up to an hour, so on most
images the hive alone is neither new nor consistent. Windows replays the logs when it starts; it
would never do so once the hive was changed by somebody who ignores them. The hive itself is never
written here. Afterwards its number is higher than any in its logs, so Windows takes none of their
entries for a newer one.
"""

from __future__ import annotations

import os
import shutil
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import List, Optional, Sequence, Tuple

from notfallserver.guest.windows.base_block import (
    BIN,
    LOG_OF_2000,
    LOG_OF_DIRTY_PAGES,
    LOG_OF_ENTRIES,
    SIZE,
    BaseBlock,
    finished,
    read_base_block,
)
from notfallserver.guest.windows.entry_log import Entry, EntryLog, Page, read_entry_log
from notfallserver.guest.windows.page_log import PageLog, read_page_log
from notfallserver.wire.errors import NotfallError

LOG_LIMIT = 256 << 20
ANOTHER = "Use an older version of this primary, and look at the disks of the original."


@dataclass(frozen=True)
class Replay:
    """What makes the hive whole: a new base block, ``size`` bytes of data, pages to be written.

    ``entries`` counts what was taken from the logs; for the old format it is one log.
    """

    block: bytes
    size: int
    pages: Tuple[Page, ...] = ()
    entries: int = 0


def replay_logs(source: Path, logs: Sequence[Path], target: Path) -> int:
    """Write the whole hive to ``target``; returns how many entries its logs gave.

    ``logs``: the hive's LOG1 and LOG2, or its LOG. A clean hive is copied.
    """
    target.unlink(missing_ok=True)  # whatever is there was made of other files
    length = source.stat().st_size
    with source.open("rb") as file:
        head = file.read(SIZE + BIN)
    replay = plan_replay(source.name, head, length, [_read_log(one) for one in logs])
    try:
        shutil.copyfile(source, target)
        _write(source.name, replay, target)
    except BaseException:
        target.unlink(missing_ok=True)
        raise
    return replay.entries


def _write(name: str, replay: Replay, target: Path) -> None:
    missing = SIZE + replay.size - target.stat().st_size
    if missing > sum(len(page) for _, page in replay.pages):
        raise _damaged(name, f"{missing} bytes of it are missing")
    with target.open("r+b") as file:
        if missing > 0:
            file.truncate(SIZE + replay.size)
        for place, page in replay.pages:
            file.seek(SIZE + place)
            file.write(page)
        file.seek(0)
        file.write(replay.block)
        file.flush()
        _check_bins(name, file.fileno(), replay.size)
        os.fsync(file.fileno())


def plan_replay(name: str, head: bytes, length: int, logs: Sequence[bytes]) -> Replay:
    """Pure. ``head``: base block and first bin of the hive called ``name``, ``length`` bytes long;
    ``logs``: the content of each."""
    if len(head) < SIZE + BIN:
        raise _damaged(name, f"it has only {length} bytes")
    block = read_base_block(head)
    if block is not None and block.complete:
        if length < SIZE + block.size:
            raise _damaged(name, f"it should have {SIZE + block.size} bytes, and has {length}")
        return Replay(head[:SIZE], block.size)
    entry_logs, page_logs = _sound_logs(logs)
    if entry_logs:
        return _by_entries(name, head, block, entry_logs)
    if page_logs:
        return _by_pages(name, head, block, page_logs)
    if block is None:
        raise _damaged(name, "its first block is, and no log has a copy of it")
    raise _no_log(name)


def _read_log(path: Path) -> bytes:
    if path.stat().st_size > LOG_LIMIT:
        raise NotfallError("hive-log-damaged", f"The registry's log {path.name} is huge.", ANOTHER)
    return path.read_bytes()


def _sound_logs(
    logs: Sequence[bytes],
) -> Tuple[List[Tuple[bytes, EntryLog]], List[Tuple[bytes, PageLog]]]:
    """Those whose base block is right, each with the sector that holds it."""
    entry_logs, page_logs = [], []
    for data in logs:
        block = read_base_block(data)
        if block is None or not block.complete:
            continue
        if block.kind == LOG_OF_ENTRIES:
            entry_logs.append((data[: block.sector], read_entry_log(data, block)))
        elif block.kind in (LOG_OF_DIRTY_PAGES, LOG_OF_2000):
            pages = read_page_log(data, block)
            if pages is not None:
                page_logs.append((data[: block.sector], pages))
    return entry_logs, page_logs


def _by_entries(
    name: str, head: bytes, block: Optional[BaseBlock], logs: Sequence[Tuple[bytes, EntryLog]]
) -> Replay:
    """Both logs in the order of their numbers; only the newest where the base block is lost."""
    ordered = sorted(logs, key=lambda one: one[1].first)
    if block is None:
        sector, newest = ordered[-1]
        ordered = ordered[-1:]
        head = sector + head[len(sector) :]
        block = newest.block
    entries: List[Entry] = []
    for _, log in ordered:
        expected = entries[-1].sequence + 1 if entries else block.second
        if not entries and (log.first if log.entries else log.beyond) < expected:
            continue  # all of it is in the hive already
        if entries and log.first > expected:
            raise _damaged_log(name, expected)
        if log.beyond >= expected:
            raise _damaged_log(name, max(expected, log.last + 1))
        if entries and log.first < expected:
            continue
        entries += log.entries
    if not entries:
        raise _no_log(name)
    pages = [page for entry in entries for page in entry.pages]
    last = entries[-1]
    numbers = [block.first, last.sequence]
    numbers += [max(log.block.first, log.last, log.beyond) for _, log in logs]
    new = finished(head[:SIZE], max(numbers), last.size, last.flags)
    return Replay(new, last.size, tuple(pages), len(entries))


def _by_pages(
    name: str, head: bytes, block: Optional[BaseBlock], logs: Sequence[Tuple[bytes, PageLog]]
) -> Replay:
    """The log of the write that was broken off: by its time, which hive and log share."""
    written = block.written if block else int.from_bytes(head[SIZE + 20 : SIZE + 28], "little")
    fitting = [one for one in logs if one[1].block.written == written]
    if not fitting:
        raise _no_log(name)
    sector, log = max(fitting, key=lambda one: one[1].block.first)
    if block is None:
        head = sector + head[len(sector) :]
    number = max([log.block.first] + ([block.first] if block else []))
    return Replay(finished(head[:SIZE], number, log.block.size), log.block.size, log.pages, 1)


def _check_bins(name: str, file: int, size: int) -> None:
    """The data must be bins from end to end, each knowing its place."""
    at = 0
    while at < size:
        head = os.pread(file, 12, SIZE + at)
        if len(head) < 12 or head[:4] != b"hbin":
            raise _damaged(name, f"its data has a hole at {at}")
        place, extent = struct.unpack_from("<II", head, 4)
        if place != at or extent % BIN or not 0 < extent <= size - at:
            raise _damaged(name, f"its data is out of order at {at}")
        at += extent


def _damaged(name: str, why: str) -> NotfallError:
    return NotfallError("hive-damaged", f"The registry file {name} is damaged: {why}.", ANOTHER)


def _damaged_log(name: str, number: int) -> NotfallError:
    return NotfallError(
        "hive-log-damaged",
        f"The log of the registry file {name} is damaged at entry {number}; newer ones follow it.",
        ANOTHER,
    )


def _no_log(name: str) -> NotfallError:
    return NotfallError(
        "hive-log-missing",
        f"The registry file {name} was being written, and no log of that write is there.",
        ANOTHER,
    )
