"""Mending a block index that is not the one that was sealed.

The manifest holds the hash of the whole index, so the right one is known when it is found. It is
sought among what the image's own content, the damaged index and the indices of other versions say;
they differ only in the few pages of the index that are damaged or whose blocks are.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from itertools import islice, product
from pathlib import Path

from notfallserver.server.host.clone import written_stretches
from notfallserver.server.host.direct import DirectReader, forget_cached
from notfallserver.server.host.files import sync_path
from notfallserver.server.pool.index import Index, hash_index, make_index
from notfallserver.server.pool.version import DiskImage, Version
from notfallserver.wire.blocks import (
    BLOCK,
    HASH,
    block_count,
    block_length,
    hash_block,
    split_runs,
)

PAGE = 4096
"""What a disk loses at once, in bytes of the index."""
_TRIES = 1024
_BYTES = 64 << 30
"""So much is hashed at most in the search for the right index."""
_PAGES = 4096
"""With more pages in doubt it is not sought any further."""
_AT_ONCE = DirectReader.MOST // BLOCK


def mend_index(
    version: Version,
    image: DiskImage,
    others: Sequence[Path],
    directory: Path,
    read: Callable[[int], None],
) -> bool:
    """Put the sealed index of a disk in its place again; False when it can't be found.

    ``others`` are indices of other versions of the disk, ``directory`` is where to work, ``read``
    is told the bytes read and may raise. Afterwards the index has its right length in any case.
    """
    path, fresh = version.idx(image.index), directory / version.idx(image.index).name
    fresh.unlink(missing_ok=True)
    _hash_image(version.raw(image.index), fresh, image.size, read)
    found = any(
        _search(fresh, _disputed(path, fresh, others, widely), image.index_hash)
        for widely in (False, True)
    )
    old = path.stat().st_size if path.exists() else -1
    if found or old != block_count(image.size) * HASH or not _readable(path):
        sync_path(fresh)
        fresh.replace(path)
        sync_path(path.parent)
    return found


def _hash_image(raw: Path, fresh: Path, size: int, read: Callable[[int], None]) -> None:
    make_index(fresh, size)
    with Index(fresh, write=True) as index, DirectReader(raw) as reader:
        contents = (
            (start // BLOCK, -(-end // BLOCK) - start // BLOCK)
            for start, end in written_stretches(reader.handle)
        )
        for first, count in split_runs(contents, _AT_ONCE):
            for number in range(first, first + count):
                length = block_length(number, size)
                try:
                    index[number] = hash_block(reader.read(number * BLOCK, length))
                except OSError:
                    continue  # unreadable: its entry must come from elsewhere
            read(count * BLOCK)


def _disputed(
    path: Path, fresh: Path, others: Sequence[Path], widely: bool
) -> dict[int, list[bytes]]:
    """By page number what the page may be, where damaged index and image differ.

    ``widely``: also where both agree and another version does not.
    """
    pages: dict[int, list[bytes]] = {}
    with ExitStack() as stack:
        told = [one for one in (fresh, path, *others) if one.exists()]
        handles = [stack.enter_context(one.open("rb", buffering=0)) for one in told]
        for number in range(-(-os.fstat(handles[0].fileno()).st_size // PAGE)):
            mine, *rest = (_page(one.fileno(), number) for one in handles)
            if rest and (widely or rest[0] != mine or path not in told):
                known = [one for one in rest if len(one) == len(mine)]
                options = list(dict.fromkeys([mine, _vote(mine, known), *known]))
                if len(options) > 1:
                    pages[number] = options
                if len(pages) > _PAGES:
                    return {}
    return pages


def _page(handle: int, number: int) -> bytes:
    try:
        return os.pread(handle, PAGE, number * PAGE)
    except OSError:
        return b""


def _vote(mine: bytes, rest: Sequence[bytes]) -> bytes:
    """Entry by entry what the image says, unless more of the rest say what the first of it says."""
    entries = []
    for at in range(0, len(mine), HASH):
        said = [mine[at : at + HASH], *(one[at : at + HASH] for one in rest)]
        entries.append(max(said[:2], key=said.count))
    return b"".join(entries)


def _search(fresh: Path, pages: dict[int, list[bytes]], wanted: str) -> bool:
    """Write one combination after the other into ``fresh`` until its hash is the sealed one."""
    tries = max(4, min(_TRIES, _BYTES // max(1, fresh.stat().st_size)))
    numbers = sorted(pages)
    with fresh.open("r+b", buffering=0) as stream:
        for chosen in islice(_combinations([pages[one] for one in numbers]), tries):
            for number, page in zip(numbers, chosen, strict=True):
                os.pwrite(stream.fileno(), page, number * PAGE)
            if hash_index(fresh) == wanted:
                return True
        for number in numbers:  # the best guess: what the image says
            os.pwrite(stream.fileno(), pages[number][0], number * PAGE)
    return False


def _combinations(options: Sequence[Sequence[bytes]]) -> Iterator[tuple[bytes, ...]]:
    """First each opinion for all pages, then mixtures."""
    for place in range(max((len(one) for one in options), default=1)):
        yield tuple(one[min(place, len(one) - 1)] for one in options)
    yield from product(*options)


def _readable(path: Path) -> bool:
    """An index with an unreadable sector must not stay: nobody could use the rest of it."""
    try:
        forget_cached(path)
        hash_index(path)
    except OSError:
        return False
    return True
