"""Blocks that another primary has brought already are not sent, and cost no space."""

from __future__ import annotations

import os
from contextlib import closing

import pytest
from hand_agent import FEW, HandAgent
from server_process import ServerProcess

from notfallserver.server.host.clone import extents
from notfallserver.server.pool.version import check_version
from notfallserver.wire.blocks import BLOCK
from notfallserver.wire.frames import write_offer

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def test_a_similar_primary_sends_only_what_is_its_own(server: ServerProcess) -> None:
    with closing(HandAgent(server, "twin-one")) as one:
        stamp = one.protect()
        first = server.pool.primary(one.uuid).version(stamp)
        half = FEW // 2 * BLOCK
        own = os.urandom(half)
        with closing(HandAgent(server, "twin-two", own + one.disk[:half])) as two:
            assert two.begin()["resumed"] is True  # nothing of its own is there, but offering pays
            bitmap = two.send("offer", write_offer(0, two.entries(0, FEW)))
            assert bitmap == b"\xff\x00"
            two.send("blocks", two.blocks_frame(0, FEW // 2))
            stamp = two.seal()
            second = server.pool.primary(two.uuid).version(stamp)
    assert second.raw(0).read_bytes() == two.disk
    assert check_version(second) == []
    assert second.manifest.bytes_shared == half
    taken = {
        (piece.place + at) // BLOCK
        for piece in extents(first.raw(0))
        for at in range(0, piece.length, BLOCK)
    }
    shared = [piece for piece in extents(second.raw(0)) if piece.place // BLOCK in taken]
    assert sum(piece.length for piece in shared) >= half
