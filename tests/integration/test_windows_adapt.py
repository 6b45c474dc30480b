"""Windows images on real NTFS: found, made whole, changed, and killed at every move meanwhile."""

from __future__ import annotations

import os
import shutil
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from notfall_lab import windows_image
from notfall_lab.driver_folder import rst
from notfall_lab.guest_tree import loop_part, mounted
from notfall_lab.hives import unpack
from notfallserver.guest.facts import Hardware, HardwareDisk, HardwareNic, Volume
from notfallserver.guest.windows import mounts
from notfallserver.guest.windows.adapt import adapt_windows, inspect_windows
from notfallserver.guest.windows.apply import ACL, apply_windows
from notfallserver.guest.windows.devices import pci_ids
from notfallserver.guest.windows.hive import Hive
from notfallserver.guest.windows.laid_down import PACKAGES, wanted_ids
from notfallserver.guest.windows.mounts import MountedWindows, mounted_windows, windows_volume
from notfallserver.guest.windows.packages import Windows
from notfallserver.guest.windows.plan import NETWORK_FILE, ROLE_FILE, plan_windows
from notfallserver.guest.windows.supplied import supplied_drivers
from notfallserver.guest.windows.workspace import FOLDER
from notfallserver.server.host.run import run
from notfallserver.wire.errors import NotfallError
from notfallserver.wire.facts import Machine, Nic

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

MIB = 1 << 20
ESP_AT, NTFS_AT, END = 1 * MIB, 17 * MIB, 113 * MIB
MAC = "52:54:00:77:00:0a"
ORIGINAL = Machine("wks", nics=[Nic("Ethernet", MAC, addresses=["198.51.100.10/24"])])
ADMINISTRATORS = struct.pack("<BB6sII", 1, 2, b"\0\0\0\0\0\5", 32, 544)
LOCAL_SYSTEM = struct.pack("<BB6sI", 1, 1, b"\0\0\0\0\0\5", 18)


@pytest.fixture(autouse=True)
def an_esp_may_be_ext4(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel that tests run on need not know FAT."""
    monkeypatch.setattr(mounts, "FAT", "ext4")


@dataclass
class Image:
    """A disk with an EFI system partition and Windows; nothing is mounted."""

    path: Path
    esp: Volume
    windows: Volume

    @property
    def volumes(self) -> tuple[Volume, ...]:
        return (self.esp, self.windows)

    @property
    def disks(self) -> list[str]:
        return [str(self.path)]


@contextmanager
def image(folder: Path, fill: Callable[[Path], Path], loader: bool = True) -> Iterator[Image]:
    path, place = folder / "disk.raw", folder / "place"
    with path.open("wb") as stream:
        stream.truncate(END)
    place.mkdir()
    with ExitStack() as stack:
        esp = stack.enter_context(loop_part(path, ESP_AT, NTFS_AT - ESP_AT))
        ntfs = stack.enter_context(loop_part(path, NTFS_AT, END - NTFS_AT))
        run(["mkfs.ext4", "-q", esp])
        run(["mkntfs", "-Q", "-F", "-q", ntfs])
        with mounted(esp, place):
            if loader:
                boot = place / "EFI/Microsoft/Boot"
                boot.mkdir(parents=True)
                (boot / "bootmgfw.efi").write_bytes(b"MZ loader")
                unpack("BCD", boot)
        with on_ntfs(ntfs, place):
            fill(place)
            for one in ("", "/SYSTEM"):
                os.setxattr(place / f"{windows_image.CONFIG}{one}", ACL, only_the_system())
        yield Image(
            path,
            Volume(esp, 0, 1, "ext4", part_uuid="eeee-01"),
            Volume(ntfs, 0, 2, "ntfs"),
        )


@contextmanager
def on_ntfs(device: str, place: Path) -> Iterator[Path]:
    run(["ntfs-3g", device, str(place)])
    try:
        yield place
    finally:
        run(["umount", str(place)])


def only_the_system() -> bytes:
    """A security descriptor as the hives have it."""
    entries = b""
    for who in (LOCAL_SYSTEM, ADMINISTRATORS):
        entries += struct.pack("<BBHI", 0, 0, 8 + len(who), 0x1F01FF) + who
    acl = struct.pack("<BBHHH", 2, 0, 8 + len(entries), 2, 0) + entries
    owner = 20 + len(acl)
    group = owner + len(ADMINISTRATORS)
    head = struct.pack("<BBHIIII", 1, 0, 0x8004, owner, group, 0, 20)
    return head + acl + ADMINISTRATORS + LOCAL_SYSTEM


TEN = Windows((10, 0), 19045, "amd64")
VMD = pci_ids(0x8086, 0x9A0B, 0x0B0E1028, 0, 0x010400)


def hardware(firmware: str = "uefi", role: str = "stand-in", driver: str = "ahci") -> Hardware:
    nics = [HardwareNic("Ethernet", MAC, MAC, "e1000e")]
    return Hardware(firmware, role, [HardwareDisk(driver)], nics)


def test_a_real_windows_on_ntfs(tmp_path: Path) -> None:
    with image(tmp_path, windows_image.ten) as disk:
        assert windows_volume(disk.volumes) == disk.windows
        told: list[str] = []
        planned = adapt_windows(
            disk.windows, disk.volumes, disk.disks, ORIGINAL, hardware(), carry_out=False
        )
        with on_ntfs(disk.windows.device, tmp_path / "place") as root:
            assert not (root / ROLE_FILE).exists() and not (root / FOLDER).exists()
        done = adapt_windows(
            disk.windows, disk.volumes, disk.disks, ORIGINAL, hardware(), tell=told.append
        )
        assert done == planned
        assert (done.system, done.boots_by, done.clock) == (
            "Windows 10 Pro",
            ("uefi",),
            "localtime",
        )
        assert "driver storahci starts with Windows on any machine" in done.changes
        assert told == done.changes
        with on_ntfs(disk.windows.device, tmp_path / "place") as root:
            config = root / windows_image.CONFIG
            with Hive(config / "SYSTEM") as hive:
                assert not hive.has("ControlSet001\\Services\\storahci\\StartOverride")
                assert hive.has("ControlSet001\\Services\\ad_driver"), "its logs were not replayed"
            role = root / "ProgramData/Notfallserver/Agent/role"
            assert role.read_text() == "stand-in\n"
            for path in (config / "SYSTEM", role, role.parent):
                assert os.getxattr(path, ACL) == only_the_system()
            assert not (root / FOLDER).exists()
        with mounted(disk.esp.device, tmp_path / "place"):
            assert (tmp_path / "place/EFI/Boot/bootx64.efi").read_bytes() == b"MZ loader"
        # a second time nothing is to be done, nor asked of the logs
        done = adapt_windows(disk.windows, disk.volumes, disk.disks, ORIGINAL, hardware())
        assert done.changes == []


def test_a_new_machine_gets_its_makers_driver(tmp_path: Path) -> None:
    """Disks behind Intel's VMD, which this Windows has never met."""
    folder = rst(tmp_path / "drivers")
    nics = [HardwareNic("Ethernet", MAC, MAC, "e1000e", pci_ids(0x8086, 0x15F2, 0, 0, 0x020000))]
    wanted = Hardware("uefi", "primary", [HardwareDisk("nvme", VMD)], nics)
    asked: list[Windows] = []

    def supply(windows: Windows, ids: Sequence[str]) -> Path:
        asked.append(windows)
        assert nics[0].ids[0] in ids
        return folder

    with image(tmp_path, windows_image.ten) as disk:
        place = (disk.windows, disk.volumes, disk.disks)
        # a build before that which the newest part of the INF is for
        done = adapt_windows(*place, ORIGINAL, wanted, supply)
        assert asked == [Windows((10, 0), 16299, "amd64")]
        told = [one for one in done.changes if "iastorvd" in one.lower()]
        assert len(told) == 3
        assert done.warnings == []
        with on_ntfs(disk.windows.device, tmp_path / "place") as root:
            driver = root / "Windows/System32/drivers/iaStorVD.sys"
            (package,) = (root / PACKAGES).iterdir()
            assert {one.name for one in package.iterdir()} == {
                *("iaStorVD.inf", "iastorvd.cat", "X64")
            }
            for path in (package, package / "X64/iaStorVD.sys", package / "iaStorVD.inf"):
                assert os.getxattr(path, ACL) == only_the_system()
            assert driver.read_bytes() == (package / "X64/iaStorVD.sys").read_bytes()
            with Hive(root / windows_image.CONFIG / "SYSTEM") as hive:
                assert hive.number("ControlSet001\\Services\\iaStorVD", "Start") == 0
        again = adapt_windows(*place, ORIGINAL, wanted, supply)
        assert again.changes == []
        without = replace(wanted, disks=[HardwareDisk("nvme", pci_ids(0x8086, 1, 0, 0, 0x010400))])
        done = adapt_windows(*place, ORIGINAL, without, supply)
        assert [one["code"] for one in done.warnings] == ["windows-controller-unknown"]


@pytest.mark.parametrize("role", ["stand-in", "primary"])
def test_killed_at_every_move_it_comes_to_the_same_end(tmp_path: Path, role: str) -> None:
    """The moves of files, each before it is done and, for contents, in the middle."""
    with ExitStack() as stack:
        disk = stack.enter_context(image(tmp_path, windows_image.small_ten))
        mount = stack.enter_context(mounted_windows(disk.windows, disk.volumes, disk.disks))
        assert mount.esp is not None
        wanted = hardware(role=role)
        drivers = rst(tmp_path / "drivers")
        if role == "primary":  # on its way home, to a new machine
            wanted = replace(wanted, disks=[HardwareDisk("nvme", VMD)])
            agent = mount.root / "ProgramData/Notfallserver/Agent"
            agent.mkdir(parents=True)
            (agent / "role").write_text("stand-in\n")
        before = tmp_path / "before"
        shutil.copytree(mount.root, before)
        assert adapt_in_child(mount, disk, wanted, 0, drivers) is None
        end = inspect_windows(mount, VMD)
        assert end.starts("iastorvd") is (role == "primary")
        assert len(end.packages) == (role == "primary")
        assert end.files[ROLE_FILE] == role + "\n"
        assert "198.51.100.10/24" in end.files[NETWORK_FILE]
        assert end.interfaces == ()
        moves = 0
        while True:
            restore(before, mount.root, mount.esp)
            moves += 1
            if adapt_in_child(mount, disk, wanted, moves, drivers) is None:
                break
            adapt(mount, disk, wanted, drivers)
            assert inspect_windows(mount, VMD) == end
            assert (mount.esp / "EFI/Boot/bootx64.efi").read_bytes() == b"MZ loader"
            assert not (mount.root / FOLDER).exists()
        assert moves > (12 if role == "stand-in" else 25)


def adapt(mount: MountedWindows, disk: Image, wanted: Hardware, drivers: Path) -> None:
    system = inspect_windows(mount, VMD)
    supplied = supplied_drivers(drivers, TEN, wanted_ids(wanted, system.generation))
    plan = plan_windows(system, wanted, ORIGINAL, supplied)
    apply_windows(plan, mount.root, mount.esp, disk.disks)


MOVES: tuple[tuple[Any, str], ...] = (
    *((os, "fsync"), (os, "setxattr"), (shutil, "copyfile"), (shutil, "copyfileobj")),
    *((Path, "rename"), (Path, "replace"), (Path, "unlink"), (Path, "mkdir"), (Path, "rmdir")),
    (Hive, "commit"),
)


def adapt_in_child(
    mount: MountedWindows, disk: Image, wanted: Hardware, stop_at: int, drivers: Path
) -> int | None:
    """None where it came to its end; else it was killed before (or in) move ``stop_at``."""
    child = os.fork()
    if child == 0:
        try:
            die_at(stop_at)
            adapt(mount, disk, wanted, drivers)
            os._exit(0)
        except BaseException:
            os._exit(1)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, 9)
    return None if code == 0 else code


def die_at(number: int) -> None:
    done = 0

    def counted(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def move(*arguments: Any, **more: Any) -> Any:
            nonlocal done
            done += 1
            if done == number:
                if name == "copyfileobj":
                    source, target = arguments[:2]
                    target.write(source.read(9000))
                    target.flush()
                os._exit(9)
            return real(*arguments, **more)

        return move

    for owner, name in MOVES:
        setattr(owner, name, counted(name, getattr(owner, name)))


def restore(before: Path, root: Path, esp: Path) -> None:
    """The image as it was; contents only, as another version would bring them."""
    for path in root.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    shutil.copytree(before, root, dirs_exist_ok=True)
    if (esp / "EFI/Boot").is_dir():
        shutil.rmtree(esp / "EFI/Boot")


@pytest.mark.parametrize("active", [False, True])
def test_by_which_firmware_it_starts(tmp_path: Path, active: bool) -> None:
    with image(tmp_path, windows_image.xp, loader=False) as disk:
        if active:
            with disk.path.open("r+b") as raw:
                raw.write(b"\xeb\x63")
                raw.seek(446 + 16)
                raw.write(b"\x80")
                raw.seek(510)
                raw.write(b"\x55\xaa")
        with on_ntfs(disk.windows.device, tmp_path / "place") as root:
            (root / "NTLDR").write_bytes(b"MZ")
        wanted = hardware("bios", driver="ata_piix")
        if not active:
            with pytest.raises(NotfallError) as told:
                adapt_windows(disk.windows, disk.volumes, disk.disks, ORIGINAL, wanted)
            assert told.value.code == "no-boot-loader"
            return
        done = adapt_windows(disk.windows, disk.volumes, disk.disks, ORIGINAL, wanted)
        assert done.boots_by == ("bios",)


def test_a_sleeping_windows_is_refused_and_stays_as_it_is(tmp_path: Path) -> None:
    with image(tmp_path, windows_image.xp) as disk:
        with on_ntfs(disk.windows.device, tmp_path / "place") as root:
            (root / "hiberfil.sys").write_bytes(b"hibr" + bytes(8188))
        before = disk.path.read_bytes()
        with pytest.raises(NotfallError) as told:
            adapt_windows(disk.windows, disk.volumes, disk.disks, ORIGINAL, hardware())
        assert told.value.code == "windows-hibernated"
        assert "powercfg /h off" in told.value.remedy
        assert disk.path.read_bytes() == before


def test_a_drive_that_was_in_use_is_adapted_and_told(tmp_path: Path) -> None:
    """Its journal has pages that say so, and no entries that could be played back."""
    with image(tmp_path, windows_image.small_ten) as disk:
        device = disk.windows.device
        told = run(["ntfscluster", "-f", "-I", "2", device]).out
        place = next(line.split() for line in told.splitlines() if line.split()[:1] == ["0"])
        with open(device, "r+b") as raw:
            raw.seek(int(place[1]) * 4096)
            raw.write(restart_page(int(place[2]) * 4096) * 2)
            os.fsync(raw.fileno())
        done = adapt_windows(disk.windows, disk.volumes, disk.disks, ORIGINAL, hardware())
        assert "windows-unclean" in [one["code"] for one in done.warnings]
        done = adapt_windows(disk.windows, disk.volumes, disk.disks, ORIGINAL, hardware())
        assert done.changes == []
        assert [one["code"] for one in done.warnings] == ["windows-activation"]


def restart_page(size: int) -> bytes:
    """Of a journal of ``size`` bytes whose user has not ended: with marks at each sector's end."""
    page = bytearray(4096)
    struct.pack_into("<4sHHqIIHhhH", page, 0, b"RSTR", 30, 9, 0, 4096, 4096, 48, 1, 1, 1)
    area = (4096, 1, 0xFFFF, 0, 0, 67 - size.bit_length(), 208, 48, size, 0, 48, 64, 1, 0)
    struct.pack_into("<qHHHHIHHqIHHII", page, 48, *area)
    struct.pack_into("<qqHHH6sI", page, 96, 4096, 4096, 0xFFFF, 0xFFFF, 0, b"", 8)
    page[128:136] = "NTFS".encode("utf-16-le")
    for sector in range(1, 9):
        end = sector * 512 - 2
        page[30 + 2 * sector : 32 + 2 * sector] = page[end : end + 2]
        struct.pack_into("<H", page, end, 1)
    return bytes(page)


def test_an_encrypted_windows_is_refused(tmp_path: Path) -> None:
    with image(tmp_path, windows_image.xp) as disk:
        with on_ntfs(disk.windows.device, tmp_path / "place") as root:
            (root / "Windows").rename(root / "Data")
        assert windows_volume(disk.volumes) is None
        locked = Volume("/dev/null", 0, 3, "BitLocker")
        with pytest.raises(NotfallError) as told:
            windows_volume((*disk.volumes, locked))
        assert told.value.code == "windows-encrypted"


def test_half_a_mirror_is_not_changed(tmp_path: Path) -> None:
    with image(tmp_path, windows_image.xp) as disk:
        for kind in ("0x42", "AF9B60A0-1431-4F62-BC68-3311714A69AD"):
            half = replace(disk.windows, kind=kind)
            with pytest.raises(NotfallError) as told:
                windows_volume((disk.esp, half))
            assert told.value.code == "windows-dynamic-disk"
        # a drive of data may be one
        data = Volume("/dev/null", 1, 1, "ntfs", kind="0x42")
        assert windows_volume((data, *disk.volumes)) == disk.windows
