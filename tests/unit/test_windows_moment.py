"""A whole Windows disk as of one moment: a real NTFS volume in a disk of bytes, with snapshots."""

from __future__ import annotations

import random
import struct
from contextlib import suppress
from pathlib import Path
from typing import List, Sequence, Set, Tuple

import pytest

import notfall_lab.windows.structures as w
from notfall_lab.windows.machine import MIB, Device, Machine, disk, of_bytes, volume
from notfall_lab.windows.scene import (
    DISK_SIZE,
    SHADOW,
    SIZE,
    START,
    Base,
    C,
    D,
    E,
    Scene,
    make_base,
    tool,
)
from notfallserver.agent.applications.application import Applied
from notfallserver.agent.disks.runs import total
from notfallserver.agent.disks.windows import see_disks
from notfallserver.agent.ntfs.volume import Volume
from notfallserver.agent.windows import answers
from notfallserver.agent.windows.composed import BLANK, Overlay, Piece, compose
from notfallserver.agent.windows.moment import hold_moment
from notfallserver.agent.windows.space import space_of
from notfallserver.agent.windows.survey import see_volumes
from notfallserver.agent.windows.system import Answer, Handle, Refused
from notfallserver.agent.windows.vss import SnapshotSet
from notfallserver.wire.blocks import BLOCK
from notfallserver.wire.errors import NotfallError


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    return make_base(tmp_path_factory.mktemp("base"))


# -- pieces --------------------------------------------------------------------------------------


def test_a_disk_is_covered_without_gap_or_overlap() -> None:
    pieces = compose(1000, [Overlay(600, 200, 2), Overlay(100, 300, 1)], [(150, 50), (390, 20)])
    assert pieces == [
        Piece(0, 100, 0, 0),
        Piece(100, 50, 1, 0),
        Piece(150, 50, BLANK, 0),
        Piece(200, 190, 1, 100),
        Piece(390, 10, BLANK, 0),
        Piece(400, 10, BLANK, 0),
        Piece(410, 190, 0, 410),
        Piece(600, 200, 2, 0),
        Piece(800, 200, 0, 800),
    ]


def test_pieces_of_any_disk() -> None:
    luck = random.Random(11)
    for _ in range(300):
        size = luck.randint(1, 300)
        cuts = sorted(luck.sample(range(size + 1), min(size + 1, luck.randint(2, 8))))
        overlays = [
            Overlay(a, b - a, at + 1)
            for at, (a, b) in enumerate(zip(cuts, cuts[1:]))
            if luck.random() < 0.5
        ]
        blank = [(luck.randrange(size), luck.randint(1, 40)) for _ in range(luck.randint(0, 4))]
        wanted = [(0, at) for at in range(size)]
        for one in overlays:
            for at in range(one.length):
                wanted[one.start + at] = (one.source, at)
        for start, length in blank:
            for at in range(start, min(start + length, size)):
                wanted[at] = (BLANK, 0)
        found = [
            (one.source, one.at + at if one.source != BLANK else 0)
            for one in compose(size, overlays, blank)
            for at in range(one.length)
        ]
        assert found == wanted


def test_volumes_that_overlap_are_refused() -> None:
    with pytest.raises(ValueError, match="overlap"):
        compose(100, [Overlay(0, 60, 1), Overlay(50, 10, 2)], [])


# -- moments -------------------------------------------------------------------------------------


@pytest.fixture
def scene(base: Base) -> Scene:
    return Scene(base)


def check_volume(scene: Scene, image: bytes, tmp_path: Path) -> None:
    """Partition's surroundings are those of the disk, the volume is that of the snapshot."""
    assert image[:START] == scene.raw[:START]
    assert image[START + SIZE :] == scene.raw[START + SIZE :]
    copy = tmp_path / "copy.img"
    copy.write_bytes(image[START : START + SIZE])
    tool("ntfsfix", "-n", copy)
    for name in ("ledger", "small"):
        assert tool("ntfscat", copy, name) == scene.contents[name]
    assert image[START + SIZE - 512 : START + SIZE] == scene.still[-512:]  # boot sector's copy


def test_a_moment_of_a_disk(scene: Scene, tmp_path: Path) -> None:
    moment, image = scene.hold()

    assert (moment.consistency, moment.loose) == ("filesystem", [])
    assert moment.frozen_at == "2024-01-17T21:20:00.000+00:00"
    assert [one.name for one in moment.applied] == ["NTDS"]
    assert total(moment.used[0]) * BLOCK < 30 * MIB  # 24 of them are no volume's
    check_volume(scene, image, tmp_path)
    at, length = scene.paging
    assert image[at : at + length] == bytes(length)
    assert scene.windows.names[-1] == "Release"
    assert "BackupComplete" in scene.windows.names
    assert [one.allowed_all for one in scene.machine.handles].count(True) == 1


def test_of_an_open_bitlocker_volume_the_copy_is_decrypted(base: Base, tmp_path: Path) -> None:
    scene = Scene(base, bitlocker=True)
    _, image = scene.hold()
    check_volume(scene, image, tmp_path)


def test_a_snapshot_that_is_shorter_than_its_volume(scene: Scene, tmp_path: Path) -> None:
    """The rest, which has the copy of the boot sector, comes from the disk."""
    scene.add_shadow(SHADOW, scene.still[:-512])
    _, image = scene.hold()
    assert image[START + SIZE - 512 : START + SIZE] == scene.raw[START + SIZE - 512 :][:512]
    assert image[START : START + 512] == scene.still[:512]


def test_what_breaks_while_reading_is_no_success(scene: Scene) -> None:
    with suppress(RuntimeError):
        disks, volumes = see_disks(scene.machine), see_volumes(scene.machine)
        with hold_moment(scene.machine, disks, volumes, scene.take):
            raise RuntimeError
    assert scene.windows.names[-2:] == ["AbortBackup", "Release"]
    assert not any(one.open for one in scene.machine.handles)


def test_a_snapshot_that_is_lost_while_reading(scene: Scene) -> None:
    disks, volumes = see_disks(scene.machine), see_volumes(scene.machine)
    with (
        pytest.raises(NotfallError) as caught,
        hold_moment(scene.machine, disks, volumes, scene.take) as moment,
    ):
        scene.machine.other[SHADOW].read = lost
        scene.image_of(moment)
    assert (caught.value.code, caught.value.retry) == ("snapshot-lost", True)
    assert "AbortBackup" in scene.windows.names


def lost(_at: int, _length: int) -> bytes:
    raise Refused(433, "ReadFile")  # ERROR_NO_SUCH_DEVICE


def test_a_volume_that_no_provider_takes_is_loose(scene: Scene) -> None:
    scene.windows.unsupported = [C]
    with pytest.raises(NotfallError, match="0x8004230c"):
        scene.hold()


def test_other_filesystems_are_told(scene: Scene) -> None:
    exfat = bytearray(512)
    exfat[3:11] = b"EXFAT   "
    at, size = START + SIZE + 512, 2 * MIB
    scene.machine.mounted[E] = volume(
        of_bytes(bytes(exfat)), [(0, at, size)], "exFAT", "", ("E:\\",)
    )
    moment, _ = scene.hold()
    assert (moment.consistency, moment.loose) == ("crash", ["E:\\"])


@pytest.mark.parametrize("shown", [True, False])
def test_a_locked_volume_is_read_as_it_is(scene: Scene, shown: bool) -> None:
    """Its own handle shows the locked content, or nothing."""
    locked = bytearray(512)
    locked[3:11] = b"-FVE-FS-"
    at, size = START + SIZE + 512, 2 * MIB
    scene.raw = scene.raw[:at] + bytes(locked) + scene.raw[at + 512 :]
    table = w.mbr_layout(0xCAFE, [(7, START, SIZE), (7, at, size), *[(0, 0, 0)] * 2])
    scene.machine.devices[0] = disk(of_bytes(scene.raw), DISK_SIZE, table)
    content = of_bytes(bytes(locked)) if shown else lost
    scene.machine.mounted[D] = volume(content, [(0, at, size)], "", "", ("D:\\",))
    moment, image = scene.hold()
    assert moment.consistency == "filesystem"
    assert image[at : at + size] == scene.raw[at : at + size]


def test_a_volume_that_shows_nothing_is_told(scene: Scene) -> None:
    at, size = START + SIZE + 512, 2 * MIB
    scene.machine.mounted[D] = volume(lost, [(0, at, size)], "", "", ("D:\\",))
    moment, _ = scene.hold()
    assert (moment.consistency, moment.loose) == ("crash", ["D:\\"])


def test_free_space_of_an_efi_partition_is_known(scene: Scene, tmp_path: Path) -> None:
    esp = tmp_path / "esp.img"
    with esp.open("wb") as stream:
        stream.truncate(16 * MIB)
    tool("mkfs.fat", "-F", "16", esp)
    at = START + SIZE + 512
    raw = bytearray(scene.raw)
    raw[at : at + 16 * MIB] = esp.read_bytes()
    scene.raw = bytes(raw)
    table = w.mbr_layout(0xCAFE, [(7, START, SIZE), (0xEF, at, 16 * MIB), *[(0, 0, 0)] * 2])
    scene.machine.devices[0] = disk(of_bytes(scene.raw), DISK_SIZE, table)
    scene.machine.mounted[E] = volume(of_bytes(esp.read_bytes()), [(0, at, 16 * MIB)], "FAT32")
    moment, image = scene.hold()
    assert moment.consistency == "filesystem"
    assert image[at : at + MIB // 8] == scene.raw[at : at + MIB // 8]
    assert any(one.flushed for one in scene.machine.handles)
    last = (at + 12 * MIB) // BLOCK
    assert not any(first <= last < first + count for first, count in moment.used[0])


def test_disks_that_change_meanwhile_are_not_put_together(scene: Scene) -> None:
    disks, volumes = see_disks(scene.machine), see_volumes(scene.machine)

    def take(names: Sequence[str]) -> Tuple[SnapshotSet, Tuple[Applied, ...]]:
        grown = [(0, START, SIZE + MIB)]
        codes = scene.machine.mounted[C].device.answers
        codes[answers.VOLUME_GET_VOLUME_DISK_EXTENTS] = w.disk_extents(grown)
        return scene.take(names)

    with (
        pytest.raises(NotfallError) as caught,
        hold_moment(scene.machine, disks, volumes, take),
    ):
        pass
    assert caught.value.code == "disks-changed"
    assert scene.windows.names[-2:] == ["AbortBackup", "Release"]


# -- free space told by Windows ------------------------------------------------------------------


class Asked(Handle):
    """A snapshot that tells its free clusters, as much as ``most`` bytes take at a time."""

    def __init__(self, content: bytes, cluster: int, bits: bytes, most: int = 1 << 20) -> None:
        self._content, self._bits, self._most = content, bits, most
        self._clusters = len(bits) * 8
        self._told = w.NtfsVolumeData(clusters=self._clusters, sector=512, cluster=cluster)
        self.asked_for: List[int] = []

    def control(self, code: int, given: bytes = b"", size: int = 1024) -> Answer:
        if code == answers.GET_NTFS_VOLUME_DATA:
            return Answer(bytes(self._told))
        (first,) = struct.unpack("<q", given)
        self.asked_for.append(first)
        rest = w.volume_bitmap(first, self._clusters - first, self._bits[first // 8 :])
        return Answer(rest[: self._most], len(rest) <= self._most)

    def read_into(self, view: memoryview, at: int) -> int:
        part = self._content[at : at + len(view)]
        view[: len(part)] = part
        return len(part)


def clusters_of(extents: List[Tuple[int, int]], cluster: int) -> Set[int]:
    return {
        number
        for at, length in extents
        for number in range(at // cluster, (at + length) // cluster)
    }


def test_windows_is_asked_where_ntfs_is_not_understood() -> None:
    clusters, luck = 30_000, random.Random(2)
    used = {one for one in range(clusters) if luck.random() < 0.02} | set(range(100))
    bits = bytearray(clusters // 8)
    for one in used:
        bits[one // 8] |= 1 << one % 8
    handle = Asked(bytes(MIB), 4096, bytes(bits), 1000)
    space = space_of(handle, clusters * 4096, 512, "C:")
    free = clusters_of(space.free, 4096)
    assert not free & used
    assert len(free) > 15_000
    assert (space.blank, handle.asked_for) == ([], [0, 984 * 8, 984 * 16, 984 * 24])


def bitmap_of(base: Base) -> bytearray:
    volume = Volume(lambda at, length: base.still[at : at + length], SIZE)
    stored = volume.stored(6, 0x80)
    assert stored is not None
    return bytearray(volume.read(stored, 0, -(-volume.shape.clusters // 8)))


def test_free_is_only_what_both_call_free(base: Base) -> None:
    """The log has a cluster that the bitmap on the disk does not have yet, or not any more."""
    bits = bitmap_of(base)
    same = space_of(Asked(base.still, 4096, bytes(bits)), SIZE, 512, "C:")
    at = same.free[-1][0] // 4096 + 50
    assert bits[at // 8] == 0
    bits[at // 8] = 0xFF
    bits[0] = bits[1] = bits[2] = 0  # the boot sector, says Windows, is free
    space = space_of(Asked(base.still, 4096, bytes(bits)), SIZE, 512, "C:")
    free = clusters_of(space.free, 4096)
    assert not free & set(range(at // 8 * 8, at // 8 * 8 + 8))
    assert min(free) == min(clusters_of(same.free, 4096))
    assert clusters_of(same.free, 4096) - free == set(range(at // 8 * 8, at // 8 * 8 + 8))


RESTART = struct.Struct("<4sHHQLLHHH")


def restart_page(lsn: int, used_by: int, flags: int, torn: bool = False) -> bytes:
    page = bytearray(4096)
    page[: RESTART.size] = RESTART.pack(b"RSTR", 30, 9, 0, 4096, 4096, 48, 1, 1)
    struct.pack_into("<QHHHH", page, 48, lsn, 1, 0xFFFF, used_by, flags)
    for end in range(512, 4097, 512):
        page[end - 2 : end] = b"\x07\x00"
    page[30:32] = b"\x08\x00" if torn else b"\x07\x00"
    return bytes(page)


@pytest.mark.parametrize(
    ("pages", "clean"),
    [
        (restart_page(5, 0xFFFF, 0) + restart_page(4, 0, 0), True),
        (restart_page(5, 0, 2) + restart_page(4, 0, 0), True),
        (restart_page(5, 0, 0) + restart_page(4, 0xFFFF, 2), False),
        (restart_page(5, 0xFFFF, 0) + restart_page(6, 0, 0), False),
        (restart_page(5, 0xFFFF, 0) + restart_page(4, 0, 0, torn=True), False),
        (b"CHKD" + bytes(8188), False),
        (bytes(8192), False),
    ],
)
def test_a_log_in_use(base: Base, pages: bytes, clean: bool) -> None:
    """Then the bitmap alone says nothing; and what is worthless is not believed."""
    still = bytearray(base.still)
    volume = Volume(lambda at, length: bytes(still[at : at + length]), SIZE)
    stored = volume.stored(2, 0x80)
    assert stored is not None
    at, _ = volume.extents(stored)[0]
    still[at : at + len(pages)] = pages
    machine = Machine()
    machine.other["x"] = Device(of_bytes(bytes(still)), SIZE)
    alone = space_of(machine.open("x"), SIZE, 512, "C:")
    assert bool(alone.free) == bool(alone.blank) == clean
    bits = bitmap_of(base)
    assert space_of(Asked(bytes(still), 4096, bytes(bits)), SIZE, 512, "C:").blank
    bits[-1] ^= 0xFF
    bits[-9] ^= 0xFF
    assert bool(space_of(Asked(bytes(still), 4096, bytes(bits)), SIZE, 512, "C:").blank) == clean


def test_all_is_used_where_nobody_knows() -> None:
    machine = Machine()
    machine.other["x"] = Device(of_bytes(bytes(MIB)), MIB)
    assert space_of(machine.open("x"), MIB, 512, "C:").free == []


def test_who_does_not_take_the_end_spoils_nothing(scene: Scene, tmp_path: Path) -> None:
    scene.windows.results["BackupComplete"] = 0x80042301
    _, image = scene.hold()
    check_volume(scene, image, tmp_path)
    assert "AbortBackup" in scene.windows.names


def test_a_snapshot_that_does_not_tell_its_length(scene: Scene, tmp_path: Path) -> None:
    scene.machine.other[SHADOW].answers.clear()
    _, image = scene.hold()
    check_volume(scene, image, tmp_path)
