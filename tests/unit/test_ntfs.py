"""NTFS by its own structures: real volumes of mkntfs, and made ones with what it doesn't make."""

from __future__ import annotations

import os
import random
import subprocess
from pathlib import Path
from typing import Dict, List

import pytest

import notfall_lab.windows.ntfs_image as made
from notfallserver.agent.ntfs.bitmap import free_extents, zero_bits
from notfallserver.agent.ntfs.boot import Unreadable, read_shape
from notfallserver.agent.ntfs.record import (
    ATTRIBUTE_LIST,
    BITMAP,
    DATA,
    INDEX_ALLOCATION,
    INDEX_ROOT,
    STANDARD_INFORMATION,
    read_spans,
)
from notfallserver.agent.ntfs.volatile import root_entries, volatile_extents
from notfallserver.agent.ntfs.volume import Volume
from notfallserver.wire.blocks import BLOCK

TOOLS = {**os.environ, "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}


def tool(*arguments: object) -> bytes:
    words = [str(one) for one in arguments]
    return subprocess.run(words, check=True, capture_output=True, env=TOOLS, timeout=60).stdout


def volume_of(raw: bytes) -> Volume:
    return Volume(lambda at, length: raw[at : at + length], len(raw))


def new_volume(image: Path, mib: int, cluster: int, sector: int = 512, extra: int = 0) -> None:
    """``extra``: bytes behind the last whole cluster."""
    with image.open("wb") as stream:
        stream.truncate((mib << 20) + extra)
    tool("mkntfs", "-F", "-q", "-f", "-c", cluster, "-s", sector, "-p", 0, "-L", "data", image)


def fill(image: Path, tmp_path: Path, sizes: List[int]) -> Dict[str, bytes]:
    contents = {f"file{number}": os.urandom(size) for number, size in enumerate(sizes)}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        tool("ntfscp", "-f", image, tmp_path / name, name)
    return contents


@pytest.mark.parametrize(
    ("cluster", "sector"), [(512, 512), (4096, 512), (4096, 4096), (65536, 512), (262144, 512)]
)
def test_wiping_free_clusters_keeps_all_files(tmp_path: Path, cluster: int, sector: int) -> None:
    image = tmp_path / "ntfs.img"
    new_volume(image, 48, cluster, sector, 3 * sector)
    contents = fill(image, tmp_path, [1, 700, 5000, 700_000, 3_000_000])
    raw = bytearray(image.read_bytes())
    size = len(raw)

    free = free_extents(volume_of(bytes(raw)))

    assert sum(length for _, length in free) > size * 0.6
    assert all(start + length <= size - sector for start, length in free)  # copy of the boot sector
    assert all(length >= BLOCK for _, length in free)
    for start, length in free:
        raw[start : start + length] = b"\xee" * length
    image.write_bytes(raw)
    tool("ntfsfix", "-n", image)
    for name, content in contents.items():
        assert tool("ntfscat", image, name) == content


@pytest.mark.parametrize("cluster", [1024, 4096, 131072])
def test_free_space_is_what_another_reader_says(tmp_path: Path, cluster: int) -> None:
    image = tmp_path / "ntfs.img"
    new_volume(image, 64, cluster)
    fill(image, tmp_path, [200_000, 5_000_000, 1_000_000])
    raw = image.read_bytes()
    volume = volume_of(raw)

    told = tool("ntfsinfo", "-m", image).decode()
    assert f"Volume Size in Clusters: {volume.shape.clusters}" in told
    assert f"Cluster Size: {cluster}" in told
    bitmap = tool("ntfscat", "-i", 6, image)
    used = [one for one in range(volume.shape.clusters) if bitmap[one // 8] >> one % 8 & 1]
    least = -(-BLOCK // cluster)
    expected = made.runs_of_bits(used, volume.shape.clusters, least)
    assert [(at // cluster, size // cluster) for at, size in free_extents(volume)] == expected
    assert expected


def test_a_bitmap_that_grew_is_read_whole(tmp_path: Path) -> None:
    """ntfsresize gives it a new place, and more clusters than before."""
    image = tmp_path / "ntfs.img"
    new_volume(image, 40, 512)
    contents = fill(image, tmp_path, [4_000_000, 300_000])
    with image.open("r+b") as stream:
        stream.truncate(200 << 20)
    tool("ntfsresize", "-f", "-f", image)
    raw = bytearray(image.read_bytes())
    volume = volume_of(bytes(raw))
    assert volume.shape.covered > 190 << 20
    for start, length in free_extents(volume):
        raw[start : start + length] = b"\xee" * length
    image.write_bytes(raw)
    for name, content in contents.items():
        assert tool("ntfscat", "-f", image, name) == content


def test_the_uuid_is_what_blkid_says(tmp_path: Path) -> None:
    image = tmp_path / "ntfs.img"
    new_volume(image, 16, 4096)
    told = tool("blkid", "-p", "-s", "UUID", "-o", "value", image).decode().strip()
    assert volume_of(image.read_bytes()).shape.uuid == told


@pytest.mark.parametrize("cluster", [512, 4096, 65536])
def test_entries_of_a_large_root_directory(tmp_path: Path, cluster: int) -> None:
    image = tmp_path / "ntfs.img"
    new_volume(image, 16, cluster)
    contents = fill(image, tmp_path, [10] * 60)
    entries = root_entries(volume_of(image.read_bytes()))
    assert set(contents) < set(entries)
    assert entries["$bitmap"].number == 6


# -- made volumes --------------------------------------------------------------------------------

CLUSTERS = 200_003
TABLE: List[made.Span] = [(4, 16), (4, 900), (4, 300)]
BITS: List[made.Span] = [(3, 5000), (1, 100), (3, 70)]
LENGTH = -(-CLUSTERS // 64) * 8
USED = [0, 1, *range(16, 20), *range(900, 904), *range(300, 304), *range(5000, 5003)]
USED += [100, 70, 71, 72, 4096 * 8 - 1, 4096 * 8, CLUSTERS - 1]


def scattered(outside_list: bool = False, split_table: bool = True) -> made.Image:
    """The bitmap in three pieces, told by two records; the file table in three, too."""
    image = made.Image(CLUSTERS, TABLE)
    size = 12 * made.CLUSTER
    if split_table:
        entries = (
            made.listed(DATA, 0, 3) + made.listed(DATA, 15, 1, 4) + made.listed(DATA, 30, 2, 8)
        )
        image.records[0] = made.record(
            [made.resident(ATTRIBUTE_LIST, entries), made.outside(DATA, TABLE[:1], size, number=3)]
        )
        image.records[15] = with_base_of_table([made.outside(DATA, TABLE[1:2], 0, "", 1, 4)])
        image.records[30] = with_base_of_table([made.outside(DATA, TABLE[2:], 0, "", 2, 8)])
    else:
        image.records[0] = made.record([made.outside(DATA, TABLE, size)])
    entries = made.listed(DATA, 6, 4) + made.listed(DATA, 40, 7, 3) + made.listed(DATA, 24, 7, 4)
    image.records[6] = made.record(
        [bitmap_list(image, entries, outside_list), made.outside(DATA, BITS[:1], LENGTH, number=4)]
    )
    image.records[40] = made.record([made.outside(DATA, BITS[1:2], 0, "", 7, 3)], base=6)
    image.records[24] = made.record([made.outside(DATA, BITS[2:], 0, "", 7, 4)], base=6)
    image.put(BITS, made.bits_of(USED, CLUSTERS))
    return image.finish()


def with_base_of_table(attributes: List[bytes]) -> bytes:
    """An extension of record 0: its base is number 0, but with a sequence."""
    plain = bytearray(made.record(attributes))
    plain[32:40] = (1 << 48).to_bytes(8, "little")
    return bytes(plain)


def bitmap_list(image: made.Image, entries: bytes, outside_list: bool) -> bytes:
    if not outside_list:
        return made.resident(ATTRIBUTE_LIST, entries)
    image.put([(1, 7000)], entries)
    return made.outside(ATTRIBUTE_LIST, [(1, 7000)], len(entries))


@pytest.mark.parametrize("outside_list", [False, True])
@pytest.mark.parametrize("split_table", [False, True])
def test_pieces_of_bitmap_and_table_are_followed(outside_list: bool, split_table: bool) -> None:
    image = scattered(outside_list, split_table)
    volume = Volume(image.read, image.size)
    expected = made.runs_of_bits(USED, CLUSTERS, 16)
    assert [(at // 4096, size // 4096) for at, size in free_extents(volume)] == expected
    assert expected[-1] == (4096 * 8 + 1, CLUSTERS - 2 - 4096 * 8)


def test_a_missing_piece_is_no_free_space() -> None:
    image = scattered()
    entries = made.listed(DATA, 6, 4) + made.listed(DATA, 24, 7, 4)
    image.records[6] = made.record(
        [made.resident(ATTRIBUTE_LIST, entries), made.outside(DATA, BITS[:1], LENGTH, number=4)]
    )
    image.finish()
    with pytest.raises(Unreadable, match="missing"):
        free_extents(Volume(image.read, image.size))


def test_a_record_of_somebody_else_is_not_taken() -> None:
    image = scattered()
    image.records[40] = made.record([made.outside(DATA, BITS[1:2], 0, "", 7, 3)], base=9)
    image.finish()
    with pytest.raises(Unreadable, match="belong"):
        free_extents(Volume(image.read, image.size))


def test_a_short_bitmap_is_refused() -> None:
    image = scattered()
    image.clusters = CLUSTERS * 2
    image.finish()
    with pytest.raises(Unreadable, match="too short"):
        free_extents(Volume(image.read, image.size))


def test_a_torn_record_is_refused() -> None:
    image = scattered()
    first = bytearray(image.content[17])  # records 4 to 7
    first[2 * 1024 + 510] ^= 1
    image.content[17] = bytes(first)
    with pytest.raises(Unreadable, match="torn"):
        free_extents(Volume(image.read, image.size))


def with_volatile_files(flags: int = 6, links: int = 1, stored: int = 0) -> made.Image:
    image = scattered()
    spans: List[made.Span] = [(100, 20_000), (50, 30_000)]
    image.records[27] = made.record(
        [
            made.resident(STANDARD_INFORMATION, made.standard_information(flags)),
            made.outside(DATA, spans, 150 * 4096, flags=stored),
        ],
        links=links,
    )
    image.records[28] = made.record(
        [
            made.resident(STANDARD_INFORMATION, made.standard_information(6)),
            made.outside(DATA, [(7, 40_000)], 7 * 4096),
        ]
    )
    image.put([(1, 41_000)], made.index_block([made.index_entry("PAGEFILE.SYS", 27)]))
    image.records[5] = made.record(
        [
            made.resident(
                INDEX_ROOT, made.index_root([made.index_entry("hiberfil.sys", 28)]), "$I30"
            ),
            made.outside(INDEX_ALLOCATION, [(1, 41_000)], 4096, "$I30", 1),
            made.resident(BITMAP, b"\1" + bytes(7), "$I30", 2),
        ],
        flags=3,
    )
    return image.finish()


def test_paging_and_hibernation_files_are_found() -> None:
    image = with_volatile_files()
    assert sorted(volatile_extents(Volume(image.read, image.size))) == [
        (20_000 * 4096, 100 * 4096),
        (30_000 * 4096, 50 * 4096),
        (40_000 * 4096, 7 * 4096),
    ]


@pytest.mark.parametrize(("flags", "links", "stored"), [(2, 1, 0), (6, 2, 0), (6, 1, 1)])
def test_a_persons_file_of_that_name_is_kept(flags: int, links: int, stored: int) -> None:
    image = with_volatile_files(flags, links, stored)
    found = volatile_extents(Volume(image.read, image.size))
    assert found == [(40_000 * 4096, 7 * 4096)]


def test_a_real_pagefile_is_found(tmp_path: Path) -> None:
    """ntfscp makes a plain file; the attributes are Windows' own, set here in its record."""
    image = tmp_path / "ntfs.img"
    new_volume(image, 32, 4096)
    (tmp_path / "content").write_bytes(os.urandom(3_000_000))
    tool("ntfscp", "-f", image, tmp_path / "content", "pagefile.sys")
    raw = bytearray(image.read_bytes())
    assert volatile_extents(volume_of(bytes(raw))) == []
    number = root_entries(volume_of(bytes(raw)))["pagefile.sys"].number
    table = read_shape(bytes(raw[:512]), len(raw)).table * 4096
    place = raw.index((0x10).to_bytes(4, "little"), table + number * 1024)
    raw[place + 24 + 32 : place + 24 + 36] = (6).to_bytes(4, "little")

    found = volatile_extents(volume_of(bytes(raw)))

    assert sum(length for _, length in found) == -(-3_000_000 // 4096) * 4096
    content = b"".join(bytes(raw[at : at + length]) for at, length in found)
    assert content[:3_000_000] == (tmp_path / "content").read_bytes()


def test_damage_is_noticed_and_never_anything_else() -> None:
    luck = random.Random(5)
    whole = with_volatile_files(flags=6)
    looked_at = [0, *range(16, 20), *range(900, 904), *range(300, 304), 41_000]
    noticed = 0
    for _ in range(1500):
        image = made.Image(CLUSTERS, TABLE, content=dict(whole.content))
        for _ in range(luck.randint(1, 6)):
            number = luck.choice(looked_at)
            page = bytearray(image.content[number])
            at = luck.randrange(0, 4096) // 512 * 512 + luck.randrange(0, 200)
            page[at] = luck.choice([0, 1, 0x7F, 0x80, 0xFF, luck.randrange(256)])
            image.content[number] = bytes(page)
        try:
            volume = Volume(image.read, image.size)
            free_extents(volume)
            volatile_extents(volume)
        except Unreadable:
            noticed += 1
    assert noticed > 100


@pytest.mark.parametrize("content", [bytes(512), os.urandom(512), b"\xff" * 512])
def test_what_is_no_ntfs_is_refused(content: bytes) -> None:
    with pytest.raises(Unreadable):
        Volume(lambda at, length: (content * 300)[at : at + length], 512 * 300)


def test_runs_of_zero_bits_over_all_borders() -> None:
    luck = random.Random(3)
    for _ in range(200):
        bits = luck.randint(1, 900)
        used = [one for one in range(bits) if luck.random() < luck.choice([0.02, 0.5, 0.98])]
        least = luck.choice([1, 2, 3, 16, 128])
        whole = made.bits_of(used, bits)
        step = luck.choice([1, 3, 8, 64])
        pieces = [whole[at : at + step] for at in range(0, len(whole), step)]
        assert list(zero_bits(pieces, bits, least)) == made.runs_of_bits(used, bits, least)


@pytest.mark.parametrize(
    ("runs", "spans"),
    [
        (b"\x21\x18\x34\x56\x00", [(0x18, 0x5634)]),
        (b"\x11\x30\x60\x21\x10\x00\x01\x11\x20\xe0\x00", [(48, 96), (16, 352), (32, 320)]),
        (b"\x11\x30\x20\x01\x60\x11\x10\x30\x00", [(48, 32), (96, None), (16, 80)]),
    ],
)
def test_data_runs(runs: bytes, spans: List[made.Span]) -> None:
    assert list(read_spans(runs, 1 << 20)) == spans


@pytest.mark.parametrize(
    "runs", [b"\x21\x18", b"\x11\x30\xff\x00", b"\x19\x01\x01\x00", b"\x01\x00\x00"]
)
def test_broken_data_runs(runs: bytes) -> None:
    with pytest.raises(Unreadable):
        list(read_spans(runs, 1 << 20))
