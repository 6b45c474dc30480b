"""An encrypted system: what its initramfs is given, and what that does to the root later."""

from __future__ import annotations

import gzip
import os
import subprocess
from io import BytesIO
from pathlib import Path

import pytest

from notfallserver.guest.cpio import Entry, file_entry, read_initramfs, write_archive
from notfallserver.guest.drivers import add_late
from notfallserver.guest.facts import Hardware, HardwareDisk, HardwareNic, Kernel, System, Volume
from notfallserver.guest.late import ORDER, SCRIPT, late_script
from notfallserver.guest.plan import ROLE_FILE, AddLate, WriteFile, plan_adaptation
from notfallserver.wire.errors import NotfallError
from notfallserver.wire.facts import Disk, Machine, Partition

BOOT = Volume("/dev/vda1", 0, 1, "ext4", "1111-boot")
LUKS = Volume("/dev/vda2", 0, 2, "crypto_LUKS", "2222-luks")
OLD, NEW = "52:54:00:77:00:0a", "aa:bb:cc:00:00:01"
KERNEL = Kernel(
    "6.1.0-18-amd64",
    "/boot/initrd.img-6.1.0-18-amd64",
    carried=frozenset({"ahci", "sd_mod", "dm_crypt"}),
    available=frozenset({"ahci", "sd_mod", "dm_crypt"}),
)
ORIGINAL = Machine(
    "vault",
    disks=[Disk("sda", 1 << 30, partitions=[Partition(1, 0, 1), Partition(2, 1, 1)])],
)
GRUB_CFG = "linux /vmlinuz root=/dev/mapper/secret ro\n"


def system(kernel: Kernel = KERNEL) -> System:
    return System(
        "Linux",
        LUKS,
        (BOOT, LUKS),
        {"/boot/grub/grub.cfg": GRUB_CFG},
        (kernel,),
        boot_code=("grub",),
        locked=True,
    )


def hardware(driver: str = "ahci") -> Hardware:
    nic = HardwareNic("ens18", NEW, OLD)
    return Hardware("bios", "primary", [HardwareDisk(driver)], [nic], recovery="r1")


def test_nothing_is_written_into_a_locked_root_but_by_its_initramfs() -> None:
    plan = plan_adaptation(system(), hardware(), ORIGINAL)
    assert not [one for one in plan.steps if isinstance(one, WriteFile)]
    (late,) = plan.steps
    assert isinstance(late, AddLate)
    assert ROLE_FILE in late.script and "ens18" in late.script and "r1" in late.script
    assert [one.code for one in plan.warnings] == ["locked-system", "locked-drivers"]
    assert "nvme" in plan.warnings[1].text and "ahci" not in plan.warnings[1].text
    again = Kernel(**{**vars(KERNEL), "late": late.script})
    assert plan_adaptation(system(again), hardware(), ORIGINAL).steps == ()


def test_a_driver_that_a_locked_system_lacks_is_refused_with_what_to_do() -> None:
    with pytest.raises(NotfallError) as caught:
        plan_adaptation(system(), hardware("nvme"), ORIGINAL)
    assert caught.value.code == "driver-locked"
    assert "'nvme'" in caught.value.remedy and "update-initramfs" in caught.value.remedy


def changed(script: str, tree: Path) -> None:
    """Run the script on a tree instead of in its root."""
    lines = [
        one for one in script.splitlines() if not one.startswith(("mount ", "umount ", "sync"))
    ]
    text = "\n".join(lines).replace("/etc/", f"{tree}/etc/")
    subprocess.run(["/bin/sh"], input=text, text=True, check=True, timeout=20)


def test_the_script_does_what_the_adaptation_would_have_done(tmp_path: Path) -> None:
    (tmp_path / "etc/network").mkdir(parents=True)
    fstab = tmp_path / "etc/fstab"
    fstab.write_text("/dev/mapper/secret / ext4 defaults 0 1\n/dev/sda1 /boot ext4 defaults 0 2\n")
    crypttab = tmp_path / "etc/crypttab"
    crypttab.write_text("secret /dev/sda2 none luks\nother /dev/sda22 none luks\n")
    interfaces = tmp_path / "etc/network/interfaces"
    interfaces.write_text(f"iface x\n  hwaddress ether {OLD}\n# {OLD.upper()}\n")
    plan = plan_adaptation(system(), hardware(), ORIGINAL)
    (late,) = plan.steps
    assert isinstance(late, AddLate)
    for _ in range(2):  # it runs at every start
        changed(late.script, tmp_path)
        assert fstab.read_text().splitlines()[1] == "UUID=1111-boot /boot ext4 defaults 0 2"
        assert crypttab.read_text() == (
            "secret UUID=2222-luks none luks\nother /dev/sda22 none luks\n"
        )
        assert interfaces.read_text() == f"iface x\n  hwaddress ether {OLD}\n# {NEW}\n"
        assert (tmp_path / "etc/notfall-agent/role").read_text() == "primary\n"
        link = (tmp_path / "etc/systemd/network/10-notfall-ens18.link").read_text()
        assert f"MACAddress={NEW} {OLD}\n" in link


def archive(entries: list[Entry]) -> bytes:
    out = BytesIO()
    write_archive(entries, out)
    return gzip.compress(out.getvalue())


def test_initramfs_tools_and_dracut_run_the_script(tmp_path: Path) -> None:
    script = late_script({"/etc/x": "y\n"}, [], {})
    tools = [file_entry("scripts/functions", b""), Entry("scripts/init-bottom", 0o40755)]
    tools.append(file_entry(ORDER, b'/scripts/init-bottom/udev "$@"\n'))
    dracut = [Entry("usr/lib/dracut/hooks/pre-pivot", 0o40755)]
    for name, entries in (("tools", tools), ("dracut", dracut)):
        image = tmp_path / name
        image.write_bytes(archive(entries))
        for _ in range(2):
            add_late(tmp_path, image, script)
        found = {one.name: one for one in read_initramfs(image, lambda name: True)}
        assert found[SCRIPT].data.decode() == script
        hook = "usr/lib/dracut/hooks/pre-pivot/99-notfall.sh"
        if name == "tools":
            hook = "scripts/init-bottom/notfall"
            calls = found[ORDER].data.decode().splitlines()
            assert calls == [f'/{hook} "$@"', '/scripts/init-bottom/udev "$@"']
        assert found[hook].mode & 0o111
        text = found[hook].data.decode()
        assert 'chroot "$NEWROOT"' in text or 'chroot "${rootmnt}"' in text


def test_an_initramfs_of_an_unknown_tool_is_refused(tmp_path: Path) -> None:
    image = tmp_path / "initrd"
    image.write_bytes(archive([file_entry("init", b"")]))
    with pytest.raises(NotfallError) as caught:
        add_late(tmp_path, image, "x")
    assert caught.value.code == "initramfs-unknown"
    assert os.listdir(tmp_path) == ["initrd"]  # noqa: PTH208
