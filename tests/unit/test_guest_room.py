"""An initramfs that grows where /boot is nearly full, and roots in subvolumes."""

from __future__ import annotations

import gzip
from io import BytesIO
from pathlib import Path

import pytest

from notfallserver.guest import replaced
from notfallserver.guest.cpio import file_entry, read_initramfs, write_archive
from notfallserver.guest.replaced import replace_initramfs
from notfallserver.guest.subvolumes import in_order, subvolume_paths
from notfallserver.wire.errors import NotfallError

MORE = [file_entry("lib/ahci.ko", b"driver" * 1000)]


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """In /boot of a tree."""
    (tmp_path / "boot").mkdir()
    (tmp_path / "var/tmp").mkdir(parents=True)
    out = BytesIO()
    write_archive([file_entry("init", b"first" * 1000)], out)
    path = tmp_path / "boot/initrd.img-6.1"
    path.write_bytes(gzip.compress(out.getvalue()))
    return path


def with_room(monkeypatch: pytest.MonkeyPatch, free: int) -> None:
    monkeypatch.setattr(replaced, "room", lambda folder: free)


def apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if /boot were a filesystem of its own."""
    monkeypatch.setattr(replaced, "same_filesystem", lambda one, other: False)


def names(image: Path) -> set[str]:
    return {one.name for one in read_initramfs(image, lambda name: False)}


def test_without_room_for_two_the_old_one_is_overwritten_at_last(
    image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    apart(monkeypatch)
    with_room(monkeypatch, replaced.SPARE + 4096)
    inode = image.stat().st_ino
    replace_initramfs(tmp_path, image, MORE)
    assert names(image) == {"init", "lib/ahci.ko"}
    assert image.stat().st_ino == inode
    assert not list((tmp_path / "var/tmp").iterdir())


def test_without_any_room_it_is_refused_and_the_old_one_stays(
    image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = image.read_bytes()
    with_room(monkeypatch, 100)
    with pytest.raises(NotfallError) as caught:
        replace_initramfs(tmp_path, image, MORE)
    assert caught.value.code == "boot-full"
    apart(monkeypatch)  # there is another filesystem to work on; /boot is no larger for it
    with pytest.raises(NotfallError) as caught:
        replace_initramfs(tmp_path, image, MORE)
    assert caught.value.code == "boot-full"
    assert image.read_bytes() == before
    assert not list((tmp_path / "var/tmp").iterdir())
    assert [one.name for one in image.parent.iterdir()] == [image.name]


def test_a_failure_while_overwriting_puts_the_old_one_back(
    image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    apart(monkeypatch)
    with_room(monkeypatch, replaced.SPARE + 4096)
    before = image.read_bytes()
    real = replaced.overwrite

    def fail(target: Path, source: Path) -> None:
        if not source.name.endswith("-old"):
            target.write_bytes(b"half")
            raise OSError("no space left")
        real(target, source)

    monkeypatch.setattr(replaced, "overwrite", fail)
    with pytest.raises(NotfallError):
        replace_initramfs(tmp_path, image, MORE)
    assert image.read_bytes() == before


def test_subvolumes_are_listed_with_blanks_in_their_names() -> None:
    told = (
        "ID 256 gen 10 top level 5 path @rootfs\n"
        "ID 257 gen 11 top level 256 path @rootfs/var/lib/my machines\n"
    )
    assert subvolume_paths(told) == ["@rootfs", "@rootfs/var/lib/my machines"]


def test_the_subvolume_that_names_itself_is_the_root_before_its_snapshots() -> None:
    fstab = "#x\nUUID=a / btrfs defaults,subvol=/system/now 0 0\n"
    paths = ("old", "snapshots/1/snapshot", "system/now")
    assert in_order(dict.fromkeys(paths, fstab))[0] == "system/now"
    plain = dict.fromkeys(("a/b/c", "@"), "UUID=a / btrfs defaults 0 0\n")
    assert in_order(plain) == ["@", "a/b/c"]
