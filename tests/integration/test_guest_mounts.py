"""Which system of an image is mounted, on real filesystems in loop devices."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from notfall_lab.guest_tree import loop_part, mounted
from notfallserver.guest.facts import Volume
from notfallserver.guest.mounts import mounted_system
from notfallserver.server.host.run import run
from notfallserver.wire.errors import NotfallError
from notfallserver.wire.facts import Machine

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

ORIGINAL = Machine("shop")
LUKS = Volume("/dev/null", 0, 9, "crypto_LUKS", "2222-luks")


@contextmanager
def volume(tmp_path: Path, kind: str, mib: int, uuid: str) -> Iterator[tuple[Volume, Path]]:
    """A new filesystem, and where it is mounted until the test unmounts it."""
    image, place = tmp_path / f"{kind}.raw", tmp_path / f"on-{kind}"
    with image.open("wb") as stream:
        stream.truncate(mib << 20)
    place.mkdir()
    with loop_part(image, 0, mib << 20) as device:
        run([f"mkfs.{kind}", "-q", device])
        yield Volume(device, 0, 1, kind, uuid), place


def put_system(base: Path, fstab: str) -> None:
    (base / "usr").mkdir(parents=True)
    (base / "etc").mkdir()
    (base / "etc/fstab").write_text(fstab)


def test_the_root_is_found_in_a_subvolume_with_any_name(tmp_path: Path) -> None:
    with volume(tmp_path, "btrfs", 128, "aaaa") as (root, place):
        with mounted(root.device, place):
            run(["btrfs", "subvolume", "create", place / "os"])
            put_system(place / "os", "UUID=aaaa / btrfs defaults,subvol=/os 0 0\n")
            run(["btrfs", "subvolume", "snapshot", "-r", place / "os", place / "before"])
            (place / "os/etc/hostname").write_text("now")
        with mounted_system([root], ORIGINAL) as system:
            assert (system.root / "etc/hostname").read_text() == "now"
            assert not system.locked
            (system.root / "etc/written").write_text("")
        assert not system.root.exists()


def test_of_an_encrypted_system_what_lies_outside_is_mounted(tmp_path: Path) -> None:
    with ExitStack() as stack:
        boot, place = stack.enter_context(volume(tmp_path, "ext4", 16, "bbbb"))
        with mounted(boot.device, place):
            (place / "vmlinuz-6.1").write_text("")
        with mounted_system([boot, LUKS], ORIGINAL) as system:
            assert system.locked
            assert list(system.mounts) == ["/boot"]
            assert (system.root / "boot/vmlinuz-6.1").is_file()
        assert not system.root.exists()


def test_an_encrypted_system_with_nothing_outside_is_refused_in_words(tmp_path: Path) -> None:
    with volume(tmp_path, "ext4", 16, "cccc") as (data, _):
        for volumes, code in (([data, LUKS], "boot-locked"), ([data], "no-system")):
            with pytest.raises(NotfallError) as caught, mounted_system(volumes, ORIGINAL):
                pass
            assert caught.value.code == code
