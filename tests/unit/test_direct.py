"""Writing past the page cache gives the same file from wherever the content lies in memory."""

from __future__ import annotations

import mmap
import os
from pathlib import Path

import pytest

from notfallserver.server.host.direct import WORTH, DirectFile

LENGTH = 3 << 20


@pytest.mark.parametrize("shift", [0, 16, 4096])
@pytest.mark.parametrize("length", [WORTH, LENGTH, LENGTH - 100])
def test_content_arrives_from_any_address(tmp_path: Path, shift: int, length: int) -> None:
    content = os.urandom(length)
    memory = mmap.mmap(-1, LENGTH + 8192)
    memory[shift : shift + length] = content
    path = tmp_path / "disk.raw"
    path.write_bytes(bytes(8 << 20))
    direct = DirectFile(path)
    with memoryview(memory) as view, view[shift : shift + length] as part:
        for data, at in ((part, 0), (content, 4 << 20)):
            written = direct.write(data, at)
            assert written == length // 4096 * 4096
            assert path.read_bytes()[at : at + length + 1] == content[:written] + bytes(
                length + 1 - written
            )
    direct.close()


def test_what_is_short_or_begins_elsewhere_is_left_to_the_cache(tmp_path: Path) -> None:
    path = tmp_path / "disk.raw"
    path.write_bytes(bytes(1 << 20))
    direct = DirectFile(path)
    assert direct.write(bytes(WORTH - 4096), 0) == 0
    assert direct.write(bytes(WORTH), 512) == 0
    direct.close()
