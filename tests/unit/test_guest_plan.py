"""What the adaptation decides, on captured facts."""

from __future__ import annotations

from dataclasses import replace

import pytest

from notfallserver.guest.facts import (
    Esp,
    Hardware,
    HardwareDisk,
    HardwareNic,
    Kernel,
    System,
    Volume,
    read_hardware,
)
from notfallserver.guest.network import link_text
from notfallserver.guest.plan import (
    MODULES_FILE,
    NO_WAITING,
    ROLE_FILE,
    AddBootEntry,
    AddDrivers,
    CopyFile,
    InstallGrub,
    Plan,
    WriteFile,
    plan_adaptation,
)
from notfallserver.guest.windows.devices import pci_ids
from notfallserver.wire.errors import NotfallError
from notfallserver.wire.facts import Disk, Machine

ROOT = Volume("/dev/vda1", 0, 1, "ext4", "1111-root", "root", "aaaa-01")
SWAP = Volume("/dev/vda5", 0, 5, "swap", "5555-swap")
DATA = Volume("/dev/vdb1", 1, 1, "ext4", "2222-data")
LOGICAL = Volume("/dev/mapper/vg--0-root", filesystem="ext4", uuid="3333-lv")
ESP = Volume("/dev/vda1", 0, 1, "vfat", "ABCD-1234", part_uuid="eeee-01")

KERNEL = Kernel(
    "6.1.0-18-amd64",
    "/boot/initrd.img-6.1.0-18-amd64",
    carried=frozenset({"virtio_pci", "virtio_blk", "ext4"}),
    available=frozenset({"virtio_blk", "virtio_pci", "nvme", "ahci", "sd_mod", "e1000e"}),
)
FSTAB = """# /etc/fstab
UUID=1111-root / ext4 errors=remount-ro 0 1
/dev/sdb1 /srv/data ext4 defaults 0 2
/dev/sda5 none swap sw 0 0
/dev/sr0 /media/cdrom0 udf,iso9660 user,noauto 0 0
"""
ORIGINAL = Machine(
    hostname="shop", disks=[Disk("sda", 10 << 30, serial="S3R1AL-A"), Disk("sdb", 20 << 30)]
)
MAC, NEW_MAC = "52:54:00:77:00:0a", "aa:bb:cc:00:00:01"


def system(**changes: object) -> System:
    plain = System(
        name="Debian GNU/Linux 12 (bookworm)",
        root=ROOT,
        volumes=(ROOT, SWAP, DATA, LOGICAL),
        files={"/etc/fstab": "UUID=1111-root / ext4 defaults 0 1\n"},
        kernels=(KERNEL,),
        boot_code=("grub", "none"),
        tools=frozenset({"update-initramfs", "grub-install"}),
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


def hardware(
    driver: str = "virtio_blk", firmware: str = "bios", role: str = "stand-in", mac: str = MAC
) -> Hardware:
    nic = HardwareNic("ens18", mac, MAC, "e1000e")
    return Hardware(firmware, role, [HardwareDisk(driver)] * 2, [nic])


def texts(plan: Plan) -> dict[str, str]:
    return {one.path: one.text for one in plan.steps if isinstance(one, WriteFile)}


def steps_of(plan: Plan, kind: type) -> list[object]:
    return [one for one in plan.steps if isinstance(one, kind)]


def test_an_image_that_fits_gets_its_role_and_interface_names_only() -> None:
    plan = plan_adaptation(system(), hardware(), ORIGINAL)
    assert set(texts(plan)) == {ROLE_FILE, "/etc/systemd/network/10-notfall-ens18.link"}
    assert len(plan.steps) == 2
    assert texts(plan)[ROLE_FILE] == "stand-in\n"


def test_a_second_adaptation_has_nothing_to_do() -> None:
    files = {
        "/etc/fstab": FSTAB,
        "/boot/grub/grub.cfg": "linux /vmlinuz root=/dev/sda1 ro quiet\n",
        "/etc/default/grub": "GRUB_DISABLE_LINUX_UUID=true\n",
        "/etc/netplan/01.yaml": f"ethernets:\n  x:\n    match:\n      macaddress: '{MAC}'\n",
    }
    first = system(files=files)
    plan = plan_adaptation(first, hardware("nvme", mac=NEW_MAC), ORIGINAL)
    assert steps_of(plan, AddDrivers)
    rebuilt = replace(KERNEL, carried=KERNEL.carried | {"nvme"})
    second = replace(first, files={**files, **texts(plan)}, kernels=(rebuilt,))
    assert plan_adaptation(second, hardware("nvme", mac=NEW_MAC), ORIGINAL).steps == ()


def test_device_names_become_uuids() -> None:
    plan = plan_adaptation(system(files={"/etc/fstab": FSTAB}), hardware(), ORIGINAL)
    lines = texts(plan)["/etc/fstab"].splitlines()
    assert lines[1] == FSTAB.splitlines()[1]
    assert lines[2] == "UUID=2222-data /srv/data ext4 defaults 0 2"
    assert lines[3] == "UUID=5555-swap none swap sw 0 0"
    assert lines[4] == FSTAB.splitlines()[4]
    assert plan.warnings == ()


def test_by_id_names_are_found_by_the_disk_serial() -> None:
    fstab = "/dev/disk/by-id/ata-VENDOR_X_S3R1AL-A-part1 / ext4 defaults 0 1\n"
    plan = plan_adaptation(system(files={"/etc/fstab": fstab}), hardware(), ORIGINAL)
    assert texts(plan)["/etc/fstab"].startswith("UUID=1111-root / ")


def test_an_unknown_device_is_a_warning() -> None:
    fstab = "/dev/sdz1 /backup ext4 defaults 0 2\n/dev/sdy1 /usb ext4 nofail 0 2\n"
    plan = plan_adaptation(system(files={"/etc/fstab": fstab}), hardware(), ORIGINAL)
    assert [one.code for one in plan.warnings] == ["unknown-device"]
    assert "/dev/sdz1" in plan.warnings[0].text


def test_nobody_waits_for_swap_that_did_not_come_along() -> None:
    there = "UUID=5555-swap none swap sw 0 0\n/dev/mapper/vg-swap none swap sw 0 0\n"
    gone = "UUID=9999-gone none swap sw,pri=5 0 0\n/dev/sdz2\tnone\tswap\tsw\t0\t0\n"
    files = {"/etc/fstab": f"{there}/swapfile none swap sw 0 0\n{gone}"}
    plan = plan_adaptation(system(files=files), hardware(), ORIGINAL)
    told = texts(plan)["/etc/fstab"]
    assert told.startswith(f"{there}/swapfile none swap sw 0 0\n")
    assert told.endswith(
        f"UUID=9999-gone none swap sw,pri=5,{NO_WAITING} 0 0\n"
        f"/dev/sdz2\tnone\tswap\tsw,{NO_WAITING}\t0\t0\n"
    )
    assert plan.warnings == ()
    again = plan_adaptation(system(files={"/etc/fstab": told}), hardware(), ORIGINAL)
    assert "/etc/fstab" not in texts(again) and again.warnings == ()


def test_logical_volumes_keep_their_names() -> None:
    fstab = "/dev/mapper/vg--0-root / ext4 defaults 0 1\n/dev/vg-0/swap none swap sw 0 0\n"
    plan = plan_adaptation(system(files={"/etc/fstab": fstab}), hardware(), ORIGINAL)
    assert "/etc/fstab" not in texts(plan)


def test_the_root_on_the_kernel_line_becomes_a_uuid() -> None:
    files = {"/boot/grub/grub.cfg": "\tlinux /boot/vmlinuz root=/dev/sda1 ro resume=/dev/sda5\n"}
    plan = plan_adaptation(system(files=files), hardware(), ORIGINAL)
    assert texts(plan)["/boot/grub/grub.cfg"] == (
        "\tlinux /boot/vmlinuz root=UUID=1111-root ro resume=UUID=5555-swap\n"
    )


@pytest.mark.parametrize("driver", ["nvme", "ahci"])
def test_a_missing_driver_means_a_rebuilt_initramfs(driver: str) -> None:
    plan = plan_adaptation(system(), hardware(driver), ORIGINAL)
    rebuilds = steps_of(plan, AddDrivers)
    assert [one.version for one in rebuilds] == [KERNEL.version]  # type: ignore[attr-defined]
    assert driver in texts(plan)[MODULES_FILE].split()
    order = [type(one) for one in plan.steps]
    assert order.index(AddDrivers) > order.index(WriteFile)


def test_an_nvme_disk_behind_vmd_is_not_seen_without_its_driver() -> None:
    vmd = pci_ids(0x8086, 0x9A0B, 0x00008086, 0, 0x010400)
    behind = replace(hardware("nvme"), disks=[HardwareDisk("nvme", vmd)])
    kernel = replace(KERNEL, available=KERNEL.available | {"vmd"})
    plan = plan_adaptation(system(kernels=(kernel,)), behind, ORIGINAL)
    assert "vmd" in texts(plan)[MODULES_FILE].split()
    own = pci_ids(0x144D, 0xA808, 0xA801144D, 0, 0x010802)
    plain = replace(behind, disks=[HardwareDisk("nvme", own)])
    plan = plan_adaptation(system(kernels=(kernel,)), plain, ORIGINAL)
    assert "vmd" not in texts(plan)[MODULES_FILE].split()
    raid = replace(behind, disks=[HardwareDisk("ahci", vmd)])  # Intel's RAID of SATA disks
    plan = plan_adaptation(system(kernels=(kernel,)), raid, ORIGINAL)
    assert "vmd" not in texts(plan)[MODULES_FILE].split()


def test_a_builtin_driver_needs_no_rebuild() -> None:
    kernel = replace(KERNEL, builtin=frozenset({"nvme"}))
    plan = plan_adaptation(system(kernels=(kernel,)), hardware("nvme"), ORIGINAL)
    assert not steps_of(plan, AddDrivers)


def test_a_kernel_without_the_driver_is_refused() -> None:
    with pytest.raises(NotfallError) as caught:
        plan_adaptation(system(), hardware("mptsas"), ORIGINAL)
    assert caught.value.code == "driver-missing"
    assert "mptsas" in caught.value.cause


def test_an_old_kernel_without_the_driver_is_left_alone() -> None:
    old = replace(KERNEL, version="5.10.0-1", available=frozenset({"virtio_blk"}))
    plan = plan_adaptation(system(kernels=(old, KERNEL)), hardware("nvme"), ORIGINAL)
    assert [one.version for one in steps_of(plan, AddDrivers)] == [KERNEL.version]  # type: ignore[attr-defined]


def test_names_are_pinned_for_old_and_new_card() -> None:
    plan = plan_adaptation(system(), hardware(mac=NEW_MAC), ORIGINAL)
    text = texts(plan)["/etc/systemd/network/10-notfall-ens18.link"]
    assert f"MACAddress={NEW_MAC} {MAC}\n" in text
    assert "Name=ens18\n" in text
    assert "Type=ether" in text  # never a bridge or VLAN that shows the card's address


def test_configurations_that_match_a_mac_find_the_new_card() -> None:
    upper = MAC.upper()
    files = {
        "/etc/systemd/network/lan.network": (
            f"[Match]\nMACAddress={upper}\n[Link]\nMACAddress={MAC}\n"
        ),
        "/etc/netplan/50.yaml": (
            "network:\n  ethernets:\n    lan:\n"
            f'      match:\n        macaddress: "{MAC}"\n      set-name: lan\n'
            f"      macaddress: {MAC}\n"
        ),
        "/etc/network/interfaces": f"iface eth0 inet dhcp\n  hwaddress ether {MAC}\n",
        "/etc/udev/rules.d/70-persistent-net.rules": f'ATTR{{address}}=="{MAC}", NAME="eth0"\n',
    }
    new = texts(plan_adaptation(system(files=files), hardware(mac=NEW_MAC), ORIGINAL))
    assert new["/etc/systemd/network/lan.network"] == (
        f"[Match]\nMACAddress={NEW_MAC}\n[Link]\nMACAddress={MAC}\n"
    )
    netplan = new["/etc/netplan/50.yaml"]
    assert f'match:\n        macaddress: "{NEW_MAC}"' in netplan
    assert netplan.endswith(f"      macaddress: {MAC}\n")
    assert "/etc/network/interfaces" not in new
    assert NEW_MAC in new["/etc/udev/rules.d/70-persistent-net.rules"]


def uefi(*files: str) -> System:
    return system(esp=(Esp(ESP, "/boot/efi", files),), boot_code=("none", "none"))


def test_uefi_gets_the_fallback_loader_with_its_second_stage() -> None:
    found = uefi("efi/debian/grubx64.efi", "efi/debian/shimx64.efi", "efi/debian/grub.cfg")
    plan = plan_adaptation(found, hardware(firmware="uefi"), ORIGINAL)
    copies = [one for one in plan.steps if isinstance(one, CopyFile)]
    assert [(one.source, one.target) for one in copies] == [
        ("/boot/efi/efi/debian/shimx64.efi", "/boot/efi/EFI/BOOT/BOOTX64.EFI"),
        ("/boot/efi/efi/debian/grubx64.efi", "/boot/efi/EFI/BOOT/grubx64.efi"),
    ]
    assert not steps_of(plan, AddBootEntry)  # a stand-in's firmware is empty every time


def test_a_physical_target_also_gets_a_boot_entry() -> None:
    found = uefi("efi/boot/bootx64.efi", "efi/debian/grubx64.efi")
    plan = plan_adaptation(found, hardware(firmware="uefi", role="primary"), ORIGINAL)
    assert not steps_of(plan, CopyFile)
    entry = next(one for one in plan.steps if isinstance(one, AddBootEntry))
    assert (entry.disk, entry.partition, entry.label) == (0, 1, "debian")
    assert entry.loader == "\\efi\\debian\\grubx64.efi"


def test_bios_boot_code_is_only_written_when_it_is_broken() -> None:
    assert not steps_of(plan_adaptation(system(), hardware(), ORIGINAL), InstallGrub)
    broken = system(boot_code=("broken", "none"))
    assert steps_of(plan_adaptation(broken, hardware(), ORIGINAL), InstallGrub)


@pytest.mark.parametrize("firmware", ["bios", "uefi"])
def test_an_image_without_any_loader_is_refused(firmware: str) -> None:
    bare = system(boot_code=("none",), tools=frozenset())
    with pytest.raises(NotfallError) as caught:
        plan_adaptation(bare, hardware(firmware=firmware), ORIGINAL)
    assert caught.value.code == "no-boot-loader"


def test_a_missing_network_driver_is_a_warning() -> None:
    odd = replace(hardware(), nics=[HardwareNic("ens18", MAC, MAC, "ice")])
    plan = plan_adaptation(system(), odd, ORIGINAL)
    assert [one.code for one in plan.warnings] == ["nic-driver-missing"]


def test_a_strange_interface_name_writes_no_file() -> None:
    odd = replace(hardware(), nics=[HardwareNic("../../x", MAC, MAC)])
    assert set(texts(plan_adaptation(system(), odd, ORIGINAL))) == {ROLE_FILE}


def test_hardware_survives_the_wire() -> None:
    plain = hardware("nvme", "uefi", "primary", NEW_MAC)
    assert read_hardware(plain.to_json()) == plain
    with pytest.raises(NotfallError):
        read_hardware({**plain.to_json(), "role": "boss"})
    with pytest.raises(NotfallError):
        read_hardware({"firmware": "bios"})


def test_one_card_is_named_once_in_a_link_file() -> None:
    assert f"MACAddress={MAC}\n" in link_text(HardwareNic("eth0", MAC, MAC))
