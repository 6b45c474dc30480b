"""How frames are packed: whether at all, by line and content, and how hard."""

from __future__ import annotations

import os
import zlib
from itertools import count

import pytest

from notfallserver.agent.packing import LADDER, Packing, Way, Yield, best_way, sample_share
from notfallserver.wire.blocks import BLOCK, hash_block
from notfallserver.wire.errors import NotfallError
from notfallserver.wire.frames import (
    PLAIN,
    XZ,
    ZLIB,
    ZSTD,
    blocks_parts,
    pack,
    read_blocks,
    readable_codecs,
)

MIB = 1 << 20
TEXT = b"".join(f"line {one} of a log that repeats itself\n".encode() for one in range(40_000))[
    :MIB
]
NOISE = os.urandom(MIB)
YIELDS = {
    (ZLIB, 1): Yield(0.52, 1 / 77e6),
    (ZLIB, 4): Yield(0.50, 1 / 62e6),
    (XZ, 0): Yield(0.43, 1 / 15e6),
    (XZ, 1): Yield(0.39, 1 / 10e6),
}
"""As measured on a mix of programs, documents and logs."""


@pytest.mark.parametrize(
    ("mbit", "best"),
    [(0, (ZLIB, 1)), (2, (XZ, 1)), (10, (XZ, 1)), (35, (XZ, 0)), (50, (XZ, 0)), (400, (ZLIB, 1))],
)
def test_a_thin_line_deserves_a_thorough_level(mbit: int, best: Way) -> None:
    assert best_way(LADDER[ZLIB], YIELDS, mbit * 125_000, 2) == best


def settle(
    packing: Packing, plain: float, packed: float, content: bytes, frames: int = 1000
) -> list[Way]:
    chosen = []
    for _ in range(frames):
        way = packing.choose(content)
        chosen.append(way)
        if way[0] == PLAIN:
            packing.measured(False, len(content), 0, plain)
        else:
            packing.measured(True, len(content), packed / 2, packed / 2)
    return chosen


def test_on_a_line_that_is_clearly_slow_plain_is_not_even_tried() -> None:
    packing = Packing(ZLIB, [PLAIN, ZLIB], 2, lambda: 0.0)
    for _ in range(100):
        assert packing.choose(TEXT)[0] == ZLIB
        packing.measured(True, MIB, 0.01, 1.0)
    packing.measured(True, MIB, 0.01, 0.02)  # now it is fast
    assert packing.choose(TEXT)[0] == PLAIN


@pytest.mark.parametrize(("plain", "packed", "best"), [(1.0, 9.0, PLAIN), (9.0, 1.0, ZLIB)])
def test_packing_settles_on_what_is_faster(plain: float, packed: float, best: int) -> None:
    chosen = settle(Packing(ZLIB, [PLAIN, ZLIB], 2, lambda: 0.0), plain, packed, TEXT)
    codecs = [codec for codec, _ in chosen]
    assert codecs.count(best) > 980
    assert len(set(codecs[:2])) == 2


def test_a_line_that_is_faster_than_packing_gets_plain_content() -> None:
    packing = Packing(ZLIB, [PLAIN, ZLIB], 2, lambda: 100e6)
    assert packing.choose(TEXT) == (PLAIN, 0)  # and does not even try
    for _ in range(200):
        way = packing.choose(TEXT)
        if way == (PLAIN, 0):
            packing.measured(False, MIB, 0, 0.5)  # the server is busy, not the line
        else:
            packing.measured(True, MIB, MIB / 50e6, 0.01)
    assert packing.way == (PLAIN, 0)


def test_a_slow_primary_on_a_slow_line_packs_if_that_is_faster() -> None:
    """Where the processor encrypts more slowly than it packs, the line seems to be slow, too."""
    packing = Packing(ZLIB, [PLAIN, ZLIB], 1, lambda: 2e6)
    for _ in range(200):
        if packing.choose(TEXT) == (PLAIN, 0):
            packing.measured(False, MIB, 0, MIB / 2e6)
        else:
            packing.measured(True, MIB, MIB / 6e6, MIB / 8e6)
    assert packing.way[0] == ZLIB


def test_where_processors_are_short_the_quickest_level_is_used() -> None:
    """Sending waits for a processor, too: the line looks thin, however fast it is."""
    packing = Packing(ZLIB, readable_codecs(), 1, lambda: 1e5, clock=count().__next__)
    for waited in (0.0, 0.6):
        for _ in range(100):
            plain = packing.choose(TEXT)[0] == PLAIN
            packing.measured(not plain, len(TEXT), 1.0, 9.0 if plain else 2.0, waited)
        assert (packing.way == (ZLIB, 1)) == bool(waited)


def test_content_that_does_not_pack_goes_plain_and_is_told_by_a_sample() -> None:
    packing = Packing(ZLIB, [PLAIN, ZLIB], 2, lambda: 0.0)
    settle(packing, 9.0, 1.0, TEXT)
    assert packing.choose(NOISE) == (PLAIN, 0)
    assert packing.choose(TEXT)[0] == ZLIB
    assert sample_share(NOISE, (ZLIB, 1)) > 0.99
    assert sample_share(TEXT, (ZLIB, 1)) < 0.5


def test_the_level_follows_the_line() -> None:
    line = [100_000.0]
    packing = Packing(ZLIB, readable_codecs(), 2, lambda: line[0], clock=count().__next__)
    settle(packing, 0.1, 0.002, TEXT, 100)
    thin = packing.way
    line[0] = 4e8
    settle(packing, 0.1, 0.002, TEXT, 100)
    assert thin != packing.way
    ladder = LADDER[ZLIB]
    assert ladder.index(thin) > ladder.index(packing.way)


def test_only_codecs_that_both_sides_have_are_used() -> None:
    for codec, codecs in ((ZLIB, [PLAIN, ZLIB]), (ZSTD, []), (PLAIN, [PLAIN]), (77, [])):
        packing = Packing(codec, codecs, 2, lambda: 1000.0)
        if codec == ZSTD and ZSTD not in readable_codecs():
            continue
        assert {one for one, _ in settle(packing, 9.0, 1.0, TEXT)} <= {PLAIN, codec}


@pytest.mark.parametrize("way", [one for ladder in LADDER.values() for one in ladder])
def test_every_level_can_be_read_by_the_server(way: Way) -> None:
    if way[0] not in readable_codecs():
        pytest.skip("this Python has no such codec")
    content = TEXT[: 4 * BLOCK]
    entries = [(one, hash_block(content[one * BLOCK : (one + 1) * BLOCK])) for one in range(4)]
    used, packed = pack(way[0], content, way[1])
    assert used == way[0] and len(packed) < len(content) // 2
    frame = b"".join(blocks_parts(0, entries, len(content), used, packed))
    assert bytes(read_blocks(frame).payload) == content


def test_an_xz_bomb_and_broken_xz_are_refused() -> None:
    entries = [(0, hash_block(b"x" * BLOCK))]
    for packed in (
        pack(XZ, bytes(64 * MIB))[1],  # far more than it says
        pack(XZ, bytes(BLOCK))[1][:40],
        zlib.compress(bytes(BLOCK)),
        b"",
    ):
        with pytest.raises(NotfallError) as caught:
            read_blocks(b"".join(blocks_parts(0, entries, BLOCK, XZ, packed)))
        assert caught.value.code == "bad-frame"
