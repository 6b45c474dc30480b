"""Reading an image's files: links, initramfs archives, boot sectors."""

from __future__ import annotations

import gzip
import shutil
import subprocess
from io import BytesIO
from pathlib import Path

import pytest

from notfallserver.guest.apply import replace_text
from notfallserver.guest.cpio import Entry, file_entry, read_initramfs, write_archive
from notfallserver.guest.drivers import add_drivers
from notfallserver.guest.inspect import boot_code, carried_modules
from notfallserver.guest.mounts import fstab_lines
from notfallserver.guest.paths import inside, read_text
from notfallserver.wire.errors import NotfallError

MODULES = [
    file_entry("usr/lib/modules/6.1/kernel/drivers/nvme/host/nvme-core.ko", b"x" * 5000),
    file_entry("lib/modules/6.1/kernel/drivers/block/virtio_blk.ko.xz", b"y"),
    file_entry("etc/fstab", b"nothing"),
]


def archive(entries: list[Entry]) -> bytes:
    out = BytesIO()
    write_archive(entries, out)
    return out.getvalue()


def packed(tool: str, data: bytes) -> bytes:
    if tool == "gzip":
        return gzip.compress(data)
    if shutil.which(tool) is None:
        pytest.skip(f"{tool} is not installed")
    more = ["-l"] if tool == "lz4" else []
    return subprocess.run([tool, "-c", *more], input=data, capture_output=True, check=True).stdout


@pytest.mark.parametrize("tool", ["gzip", "zstd", "xz", "lz4", "bzip2"])
def test_modules_are_found_behind_microcode_in_every_packing(tmp_path: Path, tool: str) -> None:
    early = archive([file_entry("kernel/x86/microcode/GenuineIntel.bin", b"m" * 3000)])
    image = tmp_path / "initrd.img"
    image.write_bytes(early + bytes(1024) + packed(tool, archive(MODULES)))
    assert carried_modules(image) == {"nvme_core", "virtio_blk"}


def test_contents_and_links_come_back(tmp_path: Path) -> None:
    image = tmp_path / "plain"
    link = Entry("init", 0o120777, b"/sbin/start")
    image.write_bytes(archive([*MODULES, link]))
    read = {one.name: one.data for one in read_initramfs(image, lambda name: name == "etc/fstab")}
    assert read["etc/fstab"] == b"nothing"
    assert read["init"] == b"/sbin/start"
    assert read[MODULES[0].name] == b""


def test_our_archives_are_read_by_cpio(tmp_path: Path) -> None:
    done = subprocess.run(
        ["cpio", "-i", "--quiet", "--make-directories"],
        input=archive([Entry("a", 0o40755), file_entry("a/b", b"text")]),
        cwd=tmp_path,
        check=True,
    )
    assert done.returncode == 0
    assert (tmp_path / "a/b").read_text() == "text"


def test_unknown_packing_is_an_error_and_garbage_ends(tmp_path: Path) -> None:
    image = tmp_path / "odd"
    image.write_bytes(b"\x01\x02\x03\x04\x05\x06" * 100)
    with pytest.raises(NotfallError):
        carried_modules(image)
    image.write_bytes(archive(MODULES)[:200])
    assert carried_modules(image) <= {"nvme_core"}


def test_links_of_the_image_stay_in_the_image(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "usr/lib").mkdir(parents=True)
    (tmp_path / "usr/lib/os-release").write_text("NAME=guest")
    (tmp_path / "etc/os-release").symlink_to("/usr/lib/os-release")
    (tmp_path / "etc/evil").symlink_to("../../../../etc/hostname")
    (tmp_path / "etc/circle").symlink_to("circle")
    (tmp_path / "lib").symlink_to("usr/lib")
    assert read_text(tmp_path, "/etc/os-release") == "NAME=guest"
    assert inside(tmp_path, "/lib/os-release") == tmp_path / "usr/lib/os-release"
    assert inside(tmp_path, "/etc/evil") == tmp_path / "etc/hostname"
    with pytest.raises(NotfallError):
        inside(tmp_path, "/etc/circle")


def test_boot_code_is_judged_by_its_core(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    sector = bytearray(512)
    disk.write_bytes(bytes(1 << 20))
    assert boot_code(disk) == "none"
    sector[0:3] = b"\xeb\x63\x90"
    sector[0x5C:0x64] = (1).to_bytes(8, "little")
    sector[0x180:0x184] = b"GRUB"
    sector[510:] = b"\x55\xaa"
    disk.write_bytes(bytes(sector) + bytes(1 << 20))
    assert boot_code(disk) == "broken"
    disk.write_bytes(bytes(sector) + b"core".ljust(512, b"\0") + bytes(1 << 20))
    assert boot_code(disk) == "grub"


def test_outer_mount_points_come_first() -> None:
    lines = fstab_lines(
        "UUID=c /boot/efi vfat\n#x\nUUID=b /boot ext4\nUUID=a / btrfs subvol=@,rw\n"
    )
    assert lines == [
        ("UUID=a", "/", "subvol=@"),
        ("UUID=b", "/boot", ""),
        ("UUID=c", "/boot/efi", ""),
    ]


def test_a_replaced_file_keeps_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("old")
    path.chmod(0o600)
    replace_text(path, "new")
    assert path.read_text() == "new"
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("tool", ["", "gzip", "zstd", "xz", "lz4"])
def test_drivers_are_added_with_what_they_need(tmp_path: Path, tool: str) -> None:
    modules = tmp_path / "usr/lib/modules/6.1"
    for name in ("kernel/drivers/ata/ahci.ko", "kernel/drivers/ata/libahci.ko"):
        (modules / name).parent.mkdir(parents=True, exist_ok=True)
        (modules / name).write_text(name)
    ata = "kernel/drivers/ata"
    dep = f"{ata}/ahci.ko: {ata}/libahci.ko\n{ata}/libahci.ko:\n"
    (modules / "modules.dep").write_text(dep)
    (tmp_path / "lib").symlink_to("usr/lib")
    early = archive([file_entry("kernel/x86/microcode/GenuineIntel.bin", b"m" * 3000)])
    main = archive(
        [
            Entry("usr", 0o40755),
            Entry("lib", 0o120777, b"usr/lib"),
            Entry("usr/lib/modules/6.1", 0o40755),
            file_entry("usr/lib/modules/6.1/modules.dep", b"old"),
            file_entry("conf/modules", b"ext4\n"),
        ]
    )
    image = tmp_path / "initrd.img-6.1"
    image.write_bytes(early + (packed(tool, main) if tool else main))
    add_drivers(tmp_path, image, "6.1", ["ahci"])
    assert carried_modules(image) == {"ahci", "libahci"}
    assert image.read_bytes().startswith(early)
    last = {one.name: one for one in read_initramfs(image, lambda name: True)}
    assert last["conf/modules"].data == b"ext4\nahci\n"
    assert last["usr/lib/modules/6.1/modules.dep"].data.decode() == dep
    assert last["lib"].data == b"usr/lib"
    assert not list(tmp_path.glob(".initrd*"))


def test_an_archive_without_modules_is_left_alone(tmp_path: Path) -> None:
    image = tmp_path / "initrd"
    image.write_bytes(archive(MODULES))
    before = image.read_bytes()
    with pytest.raises(NotfallError) as caught:
        add_drivers(tmp_path, image, "9.9", ["ahci"])
    assert caught.value.code == "bad-initramfs"
    assert image.read_bytes() == before
