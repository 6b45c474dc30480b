"""Seeds as files: parts of bounded size, every record proved, sealed last."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from notfallserver.server.pool.layout import check_stamp
from notfallserver.wire.errors import NotfallError
from notfallserver.wire.seed import Seed, SeedWriter, find_seed, part_name, seed_directory, stamp_of

BODY = {"seed": "1", "primary": "p", "name": "shop", "stamp": stamp_of(0), "seal": {}}
FRAMES = [os.urandom(100 + number) for number in range(50)]


def write(directory: Path, seal: bool = True) -> SeedWriter:
    directory.mkdir(exist_ok=True)
    writer = SeedWriter(directory, "secret", part_bytes=1000)
    for frame in FRAMES:
        writer.add([frame[:7], frame[7:]])
    if seal:
        writer.seal(BODY)
    writer.close()
    return writer


def test_a_seed_gives_back_every_frame_from_any_position(tmp_path: Path) -> None:
    writer = write(tmp_path)
    seed = Seed(tmp_path)
    seed.check("secret")
    read = list(seed.frames("secret"))
    assert [frame for _, frame in read] == FRAMES
    assert all(one.stat().st_size <= 1000 for one in tmp_path.glob("part-*"))
    assert sum(one.stat().st_size for one in tmp_path.glob("part-*")) == seed.size
    assert writer.written == seed.size
    for at, (position, _) in enumerate(read):
        assert [frame for _, frame in seed.frames("secret", position)] == FRAMES[at + 1 :]


def test_another_secret_is_refused(tmp_path: Path) -> None:
    write(tmp_path)
    with pytest.raises(NotfallError) as caught:
        Seed(tmp_path).check("other")
    assert caught.value.code == "seed-forged"


def test_every_changed_byte_and_every_exchange_is_found(tmp_path: Path) -> None:
    write(tmp_path)
    part = tmp_path / part_name(1)
    sound = part.read_bytes()

    def read() -> str:
        with pytest.raises(NotfallError) as caught:
            list(Seed(tmp_path).frames("secret"))
        assert caught.value.code == "seed-damaged"
        return caught.value.cause

    for at in range(0, len(sound), 13):
        part.write_bytes(sound[:at] + bytes([sound[at] ^ 0x40]) + sound[at + 1 :])
        assert part.name in read()
    part.write_bytes(sound[:-1])
    read()
    part.write_bytes((tmp_path / part_name(2)).read_bytes())
    read()
    part.unlink()
    read()
    part.symlink_to(part_name(2))
    read()


def test_an_unfinished_seed_is_none_and_makes_room_for_the_next(tmp_path: Path) -> None:
    with pytest.raises(NotfallError) as caught:
        find_seed(tmp_path)
    assert caught.value.code == "no-seed"
    first = seed_directory(tmp_path, "11111111-2", "aaaa")
    write(first, seal=False)
    assert find_seed(tmp_path) == first
    with pytest.raises(NotfallError) as caught:
        Seed(first)
    assert caught.value.code == "seed-unfinished"
    second = seed_directory(tmp_path, "11111111-2", "bbbb")
    assert not first.exists()
    write(second)
    third = seed_directory(tmp_path, "11111111-2", "cccc")
    write(third)
    with pytest.raises(NotfallError) as caught:
        find_seed(tmp_path)
    assert caught.value.code == "several-seeds"


def test_a_full_disk_says_so() -> None:
    writer = SeedWriter(Path("/"), "secret")
    writer._handle = os.open("/dev/full", os.O_WRONLY)
    writer._parts.append([0, 0])
    with pytest.raises(NotfallError) as caught:
        writer.add([b"x"])
    assert caught.value.code == "seed-disk-full"
    writer.close()


def test_a_broken_seal_is_told(tmp_path: Path) -> None:
    for broken in ("", "[]", "{}", "[" * 100000, '{"format": 2, "parts": [1]}'):
        (tmp_path / "seed.json").write_text(broken)
        with pytest.raises(NotfallError) as caught:
            Seed(tmp_path)
        assert caught.value.code == "seed-damaged"


def test_the_stamp_is_that_of_the_pool() -> None:
    assert check_stamp(stamp_of(1790000000123)) == "20260921T141320.123Z"
