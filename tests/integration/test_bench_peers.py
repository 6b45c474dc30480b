"""The peers of the benchmark really copy: a figure of a wrong copy would mean nothing."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from bench.networked import Bdsync, Nbdcopy, NbdcopyTls, find_bdsync
from bench.peers import Peer, Rsync
from bench.sample import Sample

MIB = 1 << 20


BDSYNC = find_bdsync(None)
"""Debian has no package of it: tested where it is."""
PEERS: dict[str, Callable[[Sample, Path], Peer]] = {
    "rsync": Rsync,
    "nbdcopy": Nbdcopy,
    "nbdcopy_tls": NbdcopyTls,
}
if BDSYNC is not None:
    PEERS["bdsync"] = partial(Bdsync, program=BDSYNC)


@pytest.mark.parametrize("name", PEERS)
def test_a_peer_copies_and_brings_its_copy_up_to_date(name: str, tmp_path: Path) -> None:
    image = tmp_path / "disk.img"
    with image.open("wb") as stream:
        stream.truncate(32 * MIB)
        stream.seek(8 * MIB)
        stream.write(os.urandom(4 * MIB))
    peer = PEERS[name](Sample(image, image, tmp_path), tmp_path / name)
    copy = tmp_path / name / "disk.raw"
    peer.prepare()
    peer.full()
    assert copy.read_bytes() == image.read_bytes()
    assert copy.stat().st_blocks * 512 < 16 * MIB, "holes were filled"
    with image.open("r+b") as stream:
        stream.seek(9 * MIB)
        stream.write(os.urandom(MIB))
        stream.seek(20 * MIB)
        stream.write(os.urandom(MIB))
    peer.again()
    assert copy.read_bytes() == image.read_bytes()
