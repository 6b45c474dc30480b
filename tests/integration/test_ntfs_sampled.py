"""Files of an NTFS volume, told by its file table, are found again in a copy as the appliance looks
for them; what is not stored plain, or is the adaptation's, is not told."""

from __future__ import annotations

import os
import shutil
import subprocess
from hashlib import sha256
from pathlib import Path

import pytest
from agent_receiver import command, loop_device

from notfallserver.agent import sampling
from notfallserver.agent.ntfs.names import names_of, path_of
from notfallserver.agent.ntfs.sample import take_sample
from notfallserver.agent.ntfs.volume import Volume
from notfallserver.guest.check import CLEAN, Comparison, check_filesystems
from notfallserver.server.pool.version import read_sample

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

TOLD = {
    "/Users/anna/Documents/order 1.txt": b"in its record",
    "/Users/anna/Documents/deep/er/order2": os.urandom(70_000),
    "/ledger": os.urandom(sampling.LARGEST),
    "/Windows/notepad.exe": os.urandom(5000),
}
NOT_TOLD = {
    "/Windows/System32/config/SYSTEM": b"the adaptation writes there",
    "/WINDOWS/System32/drivers/x.sys": b"and there",
    "/$Recycle.Bin/gone": b"gone",
    "/large": bytes([1]) * (sampling.LARGEST + 1),
    "/empty": b"",
    "/Users/Jörg.txt": b"how it is spelled depends on who mounts it",
    "/pagefile.sys": b"zeros in the copy",
}


@pytest.fixture
def image(tmp_path: Path) -> Path:
    image, place = tmp_path / "disk.img", tmp_path / "place"
    with image.open("wb") as stream:
        stream.truncate(32 << 20)
    place.mkdir()
    command("mkntfs", "-Q", "-F", "-q", "-p", 0, image, stderr=subprocess.DEVNULL)
    command("ntfs-3g", "-o", "compression", image, place)
    try:
        for path, content in (TOLD | NOT_TOLD).items():
            (place / path[1:]).parent.mkdir(parents=True, exist_ok=True)
            (place / path[1:]).write_bytes(content)
        with (place / "sparse").open("wb") as stream:
            stream.seek(500_000)
            stream.write(b"end")
        packed = place / "packed"
        packed.mkdir()
        os.setxattr(packed, "system.ntfs_attrib_be", (0x810).to_bytes(4, "big"))
        (packed / "text").write_bytes(b"compressed" * 5000)
        (place / "link").symlink_to("ledger")
        (place / "Users" / "junction").symlink_to("anna")
    finally:
        command("umount", place)
    return image


def volume_of(image: Path) -> Volume:
    raw = image.read_bytes()
    return Volume(lambda at, length: raw[at : at + length], len(raw))


def test_what_is_told_is_in_a_copy(
    image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    volume = volume_of(image)
    assert take_sample(volume, sampling.FILES) == []  # nothing there is a day old
    monkeypatch.setattr(sampling, "AT_REST_S", -1.0)
    found = take_sample(volume, sampling.FILES)
    assert {one["path"]: one["sha256"] for one in found} == {
        path: sha256(content).hexdigest() for path, content in TOLD.items()
    }
    assert [one.path for one in read_sample(found)] == [one["path"] for one in found]
    assert len(take_sample(volume, 2)) == 2
    assert take_sample(volume, 2, within_s=0.0) == []

    copy = Path(shutil.copyfile(image, tmp_path / "copy.img"))
    assert compared(copy, found).differing == []
    at = copy.read_bytes().index(TOLD["/Windows/notepad.exe"][:512])
    with copy.open("r+b") as stream:
        stream.seek(at + 100)
        stream.write(b"not as it was")
    assert compared(copy, found).differing == ["/Windows/notepad.exe"]


def compared(copy: Path, told: list[dict[str, object]]) -> Comparison:
    comparison = Comparison(told)
    with loop_device(copy) as device:
        (checked,) = check_filesystems([device], comparison)
    assert checked.state == CLEAN
    assert comparison.compared == len(told)
    return comparison


def test_paths_are_those_of_the_filesystem(image: Path, tmp_path: Path) -> None:
    volume, place = volume_of(image), tmp_path / "place"
    command("ntfs-3g", "-o", "ro", image, place)
    try:
        for file in place.rglob("*"):
            if not file.is_symlink() and "$" not in str(file):
                record = volume.record(file.stat().st_ino)
                assert path_of(volume, record) == f"/{file.relative_to(place)}"
                assert names_of(record)[0].name == file.name
    finally:
        command("umount", place)
