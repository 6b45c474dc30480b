"""Facts from real hives, and what the plan makes of them; on a folder, without NTFS."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from notfall_lab import windows_image
from notfall_lab.hives import small_hive
from notfallserver.guest.facts import Hardware, HardwareDisk, HardwareNic
from notfallserver.guest.windows.apply import apply_windows, change_hive
from notfallserver.guest.windows.facts import (
    Card,
    DriveLetter,
    Generation,
    Interface,
    Service,
    Settings,
    WindowsSystem,
)
from notfallserver.guest.windows.hive import Hive
from notfallserver.guest.windows.look import describe_windows
from notfallserver.guest.windows.places import find, logs_of
from notfallserver.guest.windows.plan import WindowsPlan, plan_windows
from notfallserver.guest.windows.read_machine import driver_path
from notfallserver.guest.windows.registry import SetValue, Value, number, text, texts
from notfallserver.guest.windows.workspace import FOLDER, finish_predecessor
from notfallserver.wire.errors import NotfallError
from notfallserver.wire.facts import Machine, Nic, read_machine

ORIGINAL = Machine(
    "wks",
    nics=[
        Nic("Ethernet", "00:0c:29:00:00:01", addresses=["10.3.58.5/24"]),
        Nic("Ethernet 2", "00:0c:29:00:00:02", addresses=["192.168.1.123/24"]),
    ],
)
CONFIG = windows_image.CONFIG


def hardware(driver: str = "ahci", role: str = "stand-in") -> Hardware:
    nics = [HardwareNic(one.name, one.mac, one.mac, "e1000") for one in ORIGINAL.nics]
    return Hardware("bios", role, [HardwareDisk(driver)], nics)


def facts(root: Path) -> WindowsSystem:
    return windows_image.read(root, boots_by=("bios",))


def adapted(root: Path, wanted: Hardware) -> WindowsPlan:
    plan = plan_windows(facts(root), wanted, ORIGINAL)
    apply_windows(plan, root, None, [])
    assert not (root / FOLDER).exists()
    return plan


def test_a_real_ten_is_read_with_what_its_logs_hold(tmp_path: Path) -> None:
    root = windows_image.ten(tmp_path)
    before = {one.name: one.read_bytes() for one in (root / CONFIG).iterdir()}
    told = facts(root)
    assert {one.name: one.read_bytes() for one in (root / CONFIG).iterdir()} == before
    assert told.name == "Windows 10 Pro"
    assert (told.generation, told.version, told.build) == (Generation.EIGHT, (10, 0), 16299)
    assert (told.hostname, told.architecture) == ("DESKTOP-PM6C56D", "amd64")
    file = "system32/drivers/storahci.sys"
    assert told.services["storahci"] == Service(0, file, True, overridden=True)
    assert not told.starts("storahci")
    assert told.starts("disk")
    assert "ad_driver" in told.services, "this one is in the logs only"
    assert told.settings == Settings(1, -1, 1, 1, 1, -1)
    part = "09931f21-7faf-44a9-81d8-1e73c14b9eaf"
    assert DriveLetter("C:", part_uuid=part) in told.letters
    device, interface = "pci\\ven_8086&dev_1502", "{08BA0CD8-E98C-475C-BADF-65130C043BD6}"
    assert Card("Intel(R) 82579LM Gigabit Network Connection", device, interface) in told.cards
    assert not any(one.missing for one in told.filters)


def test_a_real_seven_is_read(tmp_path: Path) -> None:
    told = facts(windows_image.seven(tmp_path))
    assert (told.generation, told.name) == (Generation.VISTA, "Windows 7 Professional")
    assert (told.services["msahci"].start, told.services["pciide"].start) == (3, 3)
    assert told.critical_devices["pci#cc_010601"].service == "msahci"
    assert told.interfaces[0] == Interface(
        "{698E50A9-4F58-4D86-B61D-F42E58DCACF6}",
        ("10.3.58.5/24",),
        ("10.3.58.1",),
        ("10.3.58.4",),
    )
    assert DriveLetter("C:", signature=0x5CBEA03E, start=1 << 20) in told.letters


def test_a_real_ten_starts_on_ahci_and_asks_for_nothing_more(tmp_path: Path) -> None:
    root = windows_image.ten(tmp_path)
    plan = adapted(root, hardware())
    told = facts(root)
    for name in ("storahci", "atapi", "intelide", "pciide", "stornvme"):
        assert told.starts(name)
    assert told.settings == Settings(0, 1, 1, 0, 0, -1)
    assert (root / "ProgramData/Notfallserver/Agent/role").read_text() == "stand-in\n"
    assert plan.steps
    assert plan_windows(told, hardware(), ORIGINAL).steps == ()
    # what the logs held is in the hive, and nobody replays them over the changes
    assert Hive(root / CONFIG / "SYSTEM").has("ControlSet001\\Services\\storahci")
    assert len(logs_of(root / CONFIG / "SYSTEM")) == 2


def test_a_real_seven_gives_its_addresses_to_new_cards(tmp_path: Path) -> None:
    root = windows_image.seven(tmp_path)
    adapted(root, hardware())
    told = facts(root)
    assert told.starts("msahci")
    assert told.interfaces == ()
    assert '"10.3.58.5/24"' in (root / "ProgramData/Notfallserver/Agent/network.json").read_text()
    assert plan_windows(told, hardware(), ORIGINAL).steps == ()
    adapted(root, hardware(role="primary"))
    assert facts(root).settings.auto_reboot == 1
    assert plan_windows(facts(root), hardware(role="primary"), ORIGINAL).steps == ()


def test_a_windows_without_readable_names_is_known_by_its_drivers(tmp_path: Path) -> None:
    root = windows_image.seven(tmp_path)
    software = root / CONFIG / "SOFTWARE"
    software.write_bytes(b"regf" + bytes(9000))
    told = facts(root)
    assert (told.name, told.generation) == ("Windows Vista to 7 or Server 2008", Generation.VISTA)
    software.unlink()
    assert facts(root) == told


def test_eleven_calls_itself_ten(tmp_path: Path) -> None:
    root = windows_image.small_ten(tmp_path)
    version = {**windows_image.TEN, "CurrentBuildNumber": text("22631")}
    key = "Microsoft\\Windows NT\\CurrentVersion"
    small_hive(root / CONFIG / "SOFTWARE", {key: version})
    told = facts(root)
    assert (told.name, told.build, told.server) == ("Windows 11 Pro", 22631, False)
    server = {
        **version,
        "ProductName": text("Windows Server 2022"),
        "InstallationType": text("Server"),
    }
    small_hive(root / CONFIG / "SOFTWARE", {key: server})
    assert (facts(root).name, facts(root).server) == ("Windows Server 2022", True)


def test_a_compressed_driver_is_there(tmp_path: Path) -> None:
    """ntfs-3g shows a file that Windows compressed itself as a link to nowhere."""
    root = windows_image.seven(tmp_path)
    for name in ("msahci", "rdyboost"):
        driver = root / f"Windows/System32/drivers/{name}.sys"
        driver.unlink()
        driver.symlink_to("unsupported reparse tag 0x80000017")
    told = facts(root)
    assert told.services["msahci"].present
    assert not any(one.missing for one in told.filters)


def test_a_filter_without_a_driver_is_missing(tmp_path: Path) -> None:
    root = windows_image.seven(tmp_path)
    (root / "Windows/System32/drivers/rdyboost.sys").unlink()
    missing = [one for one in facts(root).filters if one.missing]
    assert [(one.side, one.missing, one.devices) for one in missing] == [
        ("LowerFilters", ("rdyboost",), "volumes")
    ]
    adapted(root, hardware())
    assert [one.drivers for one in facts(root).filters if one.side == "LowerFilters"] == [
        ("fvevol",)
    ]


def test_xp_gets_the_services_it_lacks(tmp_path: Path) -> None:
    root = windows_image.xp(tmp_path)
    wanted = hardware("ata_piix")
    adapted(root, wanted)
    told = facts(root)
    for name in ("atapi", "intelide", "pciide"):
        assert told.starts(name)
    assert told.critical_devices["pci#ven_8086&dev_7111"].service == "intelide"
    assert plan_windows(told, wanted, ORIGINAL).steps == ()


def test_an_image_without_windows_settings_is_refused(tmp_path: Path) -> None:
    root = windows_image.xp(tmp_path)
    small_hive(root / CONFIG / "SYSTEM", {"Select": {"Current": number(1)}})
    with pytest.raises(NotfallError) as told:
        facts(root)
    assert told.value.code == "hive-damaged"
    key = "ControlSet001\\Services\\atapi"
    small_hive(root / CONFIG / "SYSTEM", {"Select": {"Current": number(1)}, key: {"a": number(1)}})
    with pytest.raises(NotfallError) as told:
        facts(root)
    assert told.value.code == "windows-too-old"


@pytest.mark.parametrize("at", range(4))
def test_a_hive_that_is_being_put_in_place_is_finished(tmp_path: Path, at: int) -> None:
    """Cut off at each of the moves: the hive is the old one or the new one, never a mixture."""
    root = windows_image.xp(tmp_path)
    hive = root / CONFIG / "SYSTEM"
    old = hive.read_bytes()
    step = SetValue("SYSTEM", "Select", "Failed", number(7), "")
    change_hive(root, "SYSTEM", [step])
    new = hive.read_bytes()
    assert new != old
    folder = root / FOLDER
    folder.mkdir()
    hive.write_bytes([old, old, new[:5000] + old[5000:], new][at])
    (folder / ("SYSTEM" if at == 0 else "SYSTEM.ready")).write_bytes(new[:6000] if at == 0 else new)
    finish_predecessor(root)
    assert hive.read_bytes() == (old if at == 0 else new)
    assert not folder.exists()


def test_a_full_drive_is_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = windows_image.xp(tmp_path)
    before = (root / CONFIG / "SYSTEM").read_bytes()
    size = len(before)
    for free, refused in ((2 * size - 1, True), (2 * size, False)):
        told = SimpleNamespace(f_bavail=free, f_frsize=1)
        monkeypatch.setattr(os, "statvfs", lambda path, told=told: told)
        if refused:
            with pytest.raises(NotfallError) as error:
                facts(root)
            assert error.value.code == "windows-full"
        else:
            facts(root)
        assert (root / CONFIG / "SYSTEM").read_bytes() == before
        assert not (root / FOLDER).exists()


def test_a_link_in_the_image_leads_nowhere(tmp_path: Path) -> None:
    (tmp_path / "windows").mkdir()
    (tmp_path / "windows/System32").symlink_to("/etc")
    with pytest.raises(NotfallError) as told:
        find(tmp_path, "Windows/system32/config")
    assert told.value.code == "bad-image"
    with pytest.raises(NotfallError):
        find(tmp_path, "Windows/../../etc")
    assert find(tmp_path, "WINDOWS/notepad.exe") == tmp_path / "windows/notepad.exe"


@pytest.mark.parametrize(
    ("image", "path"),
    [
        ("", "system32/drivers/x.sys"),
        ("system32\\DRIVERS\\X.sys", "system32/drivers/x.sys"),
        ("\\SystemRoot\\System32\\x.sys", "system32/x.sys"),
        ("%SystemRoot%\\system32\\x.sys", "system32/x.sys"),
        ("\\??\\C:\\Windows\\x.sys", "x.sys"),
        ("\\??\\C:\\Program Files\\x.sys", ""),
        ("system32\\..\\..\\x.sys", ""),
    ],
)
def test_where_a_driver_lies(image: str, path: str) -> None:
    assert driver_path(image, "x") == path


def test_values_that_are_none_read_as_nothing() -> None:
    assert number(7).number() == 7
    assert text("äö").text() == "äö"
    assert texts(["a", "b"]).texts() == ("a", "b")
    assert text("a").texts() == ("a",)
    assert Value(4, b"\0").number() == -1
    assert Value(1, b"a").text() in ("", "�")
    assert Value(3, b"abcd").texts() == ()


def test_a_machine_that_no_agent_describes_is_told(tmp_path: Path) -> None:
    told = describe_windows(facts(windows_image.seven(tmp_path)))
    assert (told["system"], told["kernel"]) == ("Windows 7 Professional", "6.1.7601")
    assert told["nics"][0]["addresses"] == ["10.3.58.5/24"]
    assert told["gateway"]
    machine = read_machine({**told, "disks": []})  # as far as an importer believes it
    assert machine.windows == (6, 1) and machine.hostname
