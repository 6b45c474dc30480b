"""The rule that tells what did not change, the readers of inodes, and the record beyond a boot."""

from __future__ import annotations

import os
import random
import subprocess
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notfallserver.agent import commands
from notfallserver.agent.changes import boots
from notfallserver.agent.changes.kept import Kept, KeptFiles, PrintWriter
from notfallserver.agent.changes.unchanged import MARGIN_NS, Cover, unchanged
from notfallserver.agent.deep import unexplained
from notfallserver.agent.inodes import ext4, xfs
from notfallserver.agent.inodes.base import Inode, NotUnderstood, Read, understood
from notfallserver.wire.blocks import BLOCK
from notfallserver.wire.errors import NotfallError

TOOLS = {**os.environ, "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
NOW = 1_700_000_000 * 10**9
ONE = Inode(12, b"12345678", NOW - MARGIN_NS - 1, [(0, 4096)])


@pytest.mark.parametrize(
    ("now", "same"),
    [
        (ONE, True),
        (ONE._replace(fingerprint=b"12345679"), False),
        (ONE._replace(changed=NOW - MARGIN_NS), False),
        (ONE._replace(number=13), False),
    ],
)
def test_a_file_is_unchanged_by_fingerprint_and_age(now: Inode, same: bool) -> None:
    before = [(11, b"x" * 8), (12, b"12345678"), (14, b"y" * 8)]
    assert list(unchanged(before, [now], NOW)) == ([now] if same else [])


@given(
    st.dictionaries(st.integers(1, 60), st.sampled_from([b"a" * 8, b"b" * 8])),
    st.dictionaries(st.integers(1, 60), st.sampled_from([b"a" * 8, b"b" * 8])),
)
def test_both_lists_are_gone_through_together(
    before: dict[int, bytes], now: dict[int, bytes]
) -> None:
    inodes = [Inode(number, now[number], 0, []) for number in sorted(now)]
    found = [one.number for one in unchanged(sorted(before.items()), inodes, NOW)]
    assert found == [number for number in sorted(now) if before.get(number) == now[number]]


@given(st.data())
def test_a_block_is_skipped_only_if_all_of_it_that_is_used_is_unchanged(
    data: st.DataObject,
) -> None:
    """Against a model of one character per 512 bytes: free, changed, unchanged."""
    parts = data.draw(
        st.lists(st.tuples(st.sampled_from("fcu"), st.integers(1, 300)), min_size=1, max_size=12)
    )
    model = "".join(kind * length for kind, length in parts)
    extents: dict[str, list[tuple[int, int]]] = {"f": [], "c": [], "u": []}
    at = 0
    for kind, length in parts:
        extents[kind].append((at * 512, length * 512))
        at += length
    cover = Cover(len(model) * 512, extents["f"])
    for one in extents["u"]:
        if one[0] + one[1] <= len(model) * 512:
            cover.add(one)
    units = BLOCK // 512
    expected = {
        number
        for number in range(len(model) // units)  # the short last block is always read
        if (block := model[number * units : (number + 1) * units]) and "c" not in block
        if "u" in block
    }
    found = {first + one for first, count in cover.skippable() for one in range(count)}
    assert found - {len(model) // units} == expected
    if len(model) % units:
        assert len(model) // units not in found


def test_two_files_with_the_same_block_are_not_understood() -> None:
    for first, second in (
        ((0, BLOCK), (0, BLOCK)),
        ((0, BLOCK), (512, 512)),
        ((0, 512), (0, BLOCK)),
    ):
        cover = Cover(4 * BLOCK, [])
        cover.add(first)
        with pytest.raises(NotUnderstood):
            cover.add(second)
    for beyond in ((3 * BLOCK, 2 * BLOCK), (1, 512)):
        with pytest.raises(NotUnderstood):
            Cover(4 * BLOCK, []).add(beyond)


def _tool(*arguments: object) -> None:
    words = [str(one) for one in arguments]
    subprocess.run(words, check=True, capture_output=True, env=TOOLS, timeout=60)


@pytest.fixture
def four(tmp_path: Path) -> tuple[Path, bytes]:
    """An ext4 with a file, made without mounting it."""
    (tmp_path / "tree").mkdir()
    content = os.urandom(300_000)
    (tmp_path / "tree" / "file").write_bytes(content)
    image = tmp_path / "ext4.img"
    with image.open("wb") as stream:
        stream.truncate(16 << 20)
    _tool("mkfs.ext4", "-q", "-I", 256, "-d", tmp_path / "tree", image)
    return image, content


def reader(content: bytes) -> Read:
    return lambda at, length: content[at : at + length]


def test_a_file_of_ext4_is_found_with_its_blocks(four: tuple[Path, bytes]) -> None:
    image = four[0].read_bytes()
    read = reader(image)
    (found,) = ext4.inodes(read, ext4.read_super(read))
    told = b"".join(image[at : at + length] for at, length in found.extents)
    assert told.startswith(four[1])
    assert 0 < found.changed / 10**9 < 2**33


@pytest.mark.parametrize(
    ("offset", "instead"),
    [
        (0x38, b"\0\0"),  # no ext4
        (0x3A, b"\2\0"),  # errors
        (0x5C, b"\0\0\0\0"),  # no journal
        (0x60, b"\x12\0\0\0"),  # meta block groups
        (0x64, b"\0\2\0\0"),  # bigalloc
        (0x67, b"\x80"),  # something newer
        (0x58, b"\x80\0"),  # small inodes
    ],
)
def test_an_unknown_ext4_is_not_understood(
    four: tuple[Path, bytes], offset: int, instead: bytes
) -> None:
    image = bytearray(four[0].read_bytes())
    image[1024 + offset : 1024 + offset + len(instead)] = instead
    with pytest.raises(NotUnderstood):
        ext4.read_super(reader(bytes(image)))


@pytest.mark.parametrize("flag", [0x10, 0x800, 0x100000, 0x200000, 0x2000000, 0x10000000, 0x1])
def test_a_file_of_ext4_with_an_unknown_flag_is_left_out(
    four: tuple[Path, bytes], flag: int
) -> None:
    image = bytearray(four[0].read_bytes())
    read = reader(bytes(image))
    told = ext4.read_super(read)
    table, _, number = next(iter(ext4._tables(read, told)))
    (found,) = ext4.inodes(read, told)
    at = table + (found.number - number) * told.inode + 32
    flags = int.from_bytes(image[at : at + 4], "little")
    image[at : at + 4] = (flags | flag).to_bytes(4, "little")
    assert list(ext4.inodes(reader(bytes(image)), told)) == []


def test_an_xfs_is_understood_and_its_empty_tree_read(tmp_path: Path) -> None:
    image = tmp_path / "xfs.img"
    with image.open("wb") as stream:
        stream.truncate(330 << 20)
    _tool("mkfs.xfs", "-q", image)
    with image.open("rb") as disk:

        def read(at: int, length: int) -> bytes:
            disk.seek(at)
            return disk.read(length)

        told = xfs.read_super(read)
        assert told.size == 330 << 20
        assert list(xfs.inodes(read, told)) == []
        head = bytearray(read(0, 512))
        head[219] |= 0x10  # needs repair
        with pytest.raises(NotUnderstood):
            xfs.read_super(reader(bytes(head)))


@pytest.mark.parametrize("seed", range(60))
def test_a_broken_ext4_is_not_understood_or_tells_less(four: tuple[Path, bytes], seed: int) -> None:
    image = bytearray(four[0].read_bytes())
    dice = random.Random(seed)
    read = reader(bytes(image))
    places = [
        (1024, 1024),
        (2048, 64),
        *((at, 4096) for at, _, _ in ext4._tables(read, told(read))),
    ]
    for _ in range(8):
        start, length = dice.choice(places)
        image[start + dice.randrange(length)] = dice.randrange(256)
    with suppress(NotUnderstood):
        whole = reader(bytes(image))
        list(understood(lambda: ext4.inodes(whole, ext4.read_super(whole)))())


def told(read: Read) -> ext4.Ext4:
    return ext4.read_super(read)


KEPT = Kept("b", True, "p", "[]", "v", [[(0, 4)]], [[(1, 1)], []], NOW, 1.5, ["x", "y"], [])


def test_the_record_is_read_once_and_only_whole(tmp_path: Path) -> None:
    files = KeptFiles(tmp_path / "kept")
    prints = [[(one, bytes(8)) for one in range(9000)], [(7, b"12345678")]]

    def write() -> Kept:
        with files.begin() as stream:
            writer = PrintWriter(stream)
            for one in prints:
                writer.add(one)
            kept = replace(KEPT, counts=writer.counts)
            files.finish(stream, writer.digest, kept)
            return replace(kept, digest=writer.digest)

    kept = write()
    assert files.take() == kept
    assert [list(files.prints(kept, place)) for place in (0, 1)] == prints
    assert files.take() is None
    write()
    (tmp_path / "kept" / "prints").write_bytes(b"")
    assert files.take() is None
    write()
    record = tmp_path / "kept" / "kept"
    record.write_text(record.read_text().replace('"format": 1', '"format": 2'))
    assert files.take() is None
    files.drop()
    assert not (tmp_path / "kept").exists()


@pytest.mark.parametrize(
    ("lines", "bad"),
    [
        (["6,0,0,-;Linux", "6,1,1,-;EXT4-fs (sda1): mounted filesystem Opts: errors=ro"], False),
        (["6,0,0,-;Linux", "6,1,1,-;EXT4-fs (sda1): recovery complete"], True),
        (["6,0,0,-;Linux", "4,1,1,-;EXT4-fs error (device sda1): x"], True),
        (["6,0,0,-;Linux", "6,1,1,-;XFS (sdb): Ending clean mount"], False),
        (["6,0,0,-;Linux", "6,1,1,-;XFS (sdb): Starting recovery (logdev: internal)"], True),
        (["6,900,5,-;the log does not reach back"], True),
        ([], True),
    ],
)
def test_a_crash_is_seen_in_the_kernels_log(lines: list[str], bad: bool) -> None:
    assert boots.repaired(lines) == bad


@pytest.mark.parametrize(
    ("told", "in_order"),
    [
        ("data: clean, 11/65536 files, 9/262144 blocks\n", True),
        ("data: recovering journal\ndata: clean, 11/65536 files\n", False),
        (None, False),  # no journal: nothing is proved
    ],
)
def test_a_crash_is_seen_in_what_the_checks_at_boot_said(
    monkeypatch: pytest.MonkeyPatch, told: str | None, in_order: bool
) -> None:
    def run(_: list[str]) -> str:
        if told is None:
            raise NotfallError("command-failed", "There is no journal.")
        return told

    monkeypatch.setattr(boots, "read_log", lambda: ["6,0,0,-;Linux"])
    monkeypatch.setattr(commands, "run", run)
    assert boots.went_down_in_order() == in_order


def test_only_what_nobody_wrote_is_unexplained() -> None:
    held, used = [[(0, 10)]], [[(0, 6), (12, 2)]]
    written = [[(3, 1)]]
    assert unexplained([[8, 2, 3, 5, 12]], held, used, written) == [[(2, 1), (5, 1)]]
