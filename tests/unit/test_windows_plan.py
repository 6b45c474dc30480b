"""What the adaptation of Windows decides, on facts. Needs neither hivex nor a disk."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import pytest

from notfallserver.guest.facts import Esp, Hardware, HardwareDisk, HardwareNic, Volume
from notfallserver.guest.plan import AddBootEntry, WriteFile
from notfallserver.guest.windows.facts import (
    CriticalDevice,
    DriveLetter,
    Filters,
    Generation,
    Interface,
    Service,
    Settings,
    WindowsSystem,
)
from notfallserver.guest.windows.plan import (
    NETWORK_FILE,
    RECOVERY_FILE,
    RESTORED,
    ROLE_FILE,
    CopyOnEsp,
    WindowsPlan,
    plan_windows,
)
from notfallserver.guest.windows.registry import (
    DeleteKey,
    DeleteValue,
    SetValue,
    Value,
    number,
    text,
)
from notfallserver.wire.errors import NotfallError
from notfallserver.wire.facts import Machine, Nic

MAC, NEW_MAC = "52:54:00:77:00:0a", "52:54:00:77:00:0b"
ORIGINAL = Machine("shop", nics=[Nic("Ethernet", MAC.upper(), addresses=["198.51.100.10/24"])])
ROOT = Volume("/dev/vda2", 0, 2, "ntfs")
LOADERS = ("efi/microsoft/boot/bootmgfw.efi", "efi/microsoft/boot/bcd")
ESP = Esp(Volume("/dev/vda1", 0, 1, "vfat", part_uuid="eeee-01"), "", LOADERS)
SERVICES = "ControlSet001\\Services"
CONTROL = "ControlSet001\\Control"
GOOD = Settings(0, 1, 1, 0, 0, -1)
STATIC = Interface(
    "{AA}", ("198.51.100.10/24",), ("198.51.100.1",), ("198.51.100.2", "198.51.100.3")
)


def drivers(*names: str, start: int = 0, overridden: bool = False) -> dict[str, Service]:
    return {one: Service(start, f"system32/drivers/{one}.sys", True, overridden) for one in names}


EIGHT = WindowsSystem(
    name="Windows Server 2019 Standard",
    generation=Generation.EIGHT,
    version=(10, 0),
    build=17763,
    edition="ServerStandard",
    server=True,
    architecture="amd64",
    hostname="SHOP",
    control_set="ControlSet001",
    root=ROOT,
    services=drivers("storahci", "atapi", "intelide", "pciide", "stornvme", "lsi_sas"),
    settings=GOOD,
    boots_by=("uefi",),
    esp=ESP,
)
SEVEN = replace(
    EIGHT,
    name="Windows 7",
    generation=Generation.VISTA,
    version=(6, 1),
    server=False,
    services=drivers("msahci", "atapi", "intelide", "pciide"),
    boots_by=("bios",),
    esp=None,
)
XP = replace(
    SEVEN,
    name="Windows XP",
    generation=Generation.XP,
    version=(5, 1),
    services=drivers("atapi", "disk"),
    driver_files=frozenset({"atapi.sys", "intelide.sys", "pciide.sys", "disk.sys"}),
)


def hardware(
    driver: str = "ahci",
    firmware: str = "uefi",
    role: str = "stand-in",
    mac: str = MAC,
    nic: str = "e1000e",
) -> Hardware:
    return Hardware(
        firmware, role, [HardwareDisk(driver)], [HardwareNic("Ethernet", mac, MAC, nic)]
    )


def plan(system: WindowsSystem, wanted: Hardware, **more: object) -> WindowsPlan:
    return plan_windows(system, wanted, ORIGINAL, **more)  # type: ignore[arg-type]


def registry(told: WindowsPlan) -> dict[str, Value | None]:
    """What is set, or deleted (None), by key and name."""
    found: dict[str, Value | None] = {}
    for one in told.steps:
        if isinstance(one, SetValue):
            found[f"{one.key}\\{one.name}"] = one.value
        elif isinstance(one, DeleteValue):
            found[f"{one.key}\\{one.name}"] = None
        elif isinstance(one, DeleteKey):
            found[one.key] = None
    return found


def texts(told: WindowsPlan) -> dict[str, str]:
    return {one.path: one.text for one in told.steps if isinstance(one, WriteFile)}


def refusal(system: WindowsSystem, wanted: Hardware, **more: object) -> NotfallError:
    with pytest.raises(NotfallError) as told:
        plan(system, wanted, **more)
    assert told.value.remedy
    return told.value


def test_the_plan_needs_no_hivex() -> None:
    code = (
        "import sys; sys.modules['hivex'] = None\n"
        "import notfallserver.guest.windows.plan, notfallserver.guest.windows.hive_logs\n"
        "import notfallserver.guest.windows.supplied\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)


def test_what_fits_is_left_alone() -> None:
    fitting = replace(
        EIGHT,
        files={ROLE_FILE: "stand-in\n"},
        esp=replace(ESP, files=(*LOADERS, "efi/boot/bootx64.efi")),
    )
    assert plan(fitting, hardware()).steps == ()


@pytest.mark.parametrize("driver", ["ahci", "nvme", "ata_piix"])
def test_an_override_that_keeps_the_disk_away_is_deleted(driver: str) -> None:
    names = ("storahci", "atapi", "intelide", "pciide", "stornvme")
    for system in (
        replace(EIGHT, services=drivers(*names, overridden=True)),
        replace(EIGHT, services=drivers(*names, start=3)),
    ):
        told = registry(plan(system, hardware(driver)))
        for name in names:
            if system.services[name].overridden:
                assert told[f"{SERVICES}\\{name}\\StartOverride"] is None
                assert f"{SERVICES}\\{name}\\StartOverride" in told
            else:
                assert told[f"{SERVICES}\\{name}\\Start"] == number(0)


def test_seven_starts_with_its_own_ahci_driver() -> None:
    system = replace(SEVEN, services={**SEVEN.services, **drivers("msahci", "pciide", start=3)})
    told = registry(plan(system, hardware(firmware="bios")))
    assert told == {
        f"{SERVICES}\\msahci\\Start": number(0),
        f"{SERVICES}\\pciide\\Start": number(0),
    }


def test_a_driver_without_its_file_does_not_count() -> None:
    services = {**EIGHT.services, "storahci": Service(0, "system32/drivers/storahci.sys", False)}
    told = refusal(replace(EIGHT, services=services), hardware("ahci"))
    assert told.code == "driver-missing"
    assert "SATA" in told.remedy
    plan(replace(EIGHT, services=services), hardware("nvme"))


@pytest.mark.parametrize(
    ("system", "driver", "firmware"),
    [
        (XP, "ahci", "bios"),
        (XP, "nvme", "bios"),
        (SEVEN, "nvme", "bios"),
        (EIGHT, "virtio_blk", "uefi"),
        (EIGHT, "megaraid_sas", "uefi"),
    ],
)
def test_a_controller_without_any_driver_is_refused(
    system: WindowsSystem, driver: str, firmware: str
) -> None:
    assert refusal(system, hardware(driver, firmware)).code == "driver-missing"


def test_of_a_makers_drivers_those_that_are_there_start() -> None:
    system = replace(EIGHT, services={**EIGHT.services, **drivers("lsi_sas", start=3)})
    told = registry(plan(system, hardware("mpt3sas")))
    assert told[f"{SERVICES}\\lsi_sas\\Start"] == number(0)
    assert f"{SERVICES}\\lsi_sas3\\Start" not in told


def test_an_unknown_controller_is_told() -> None:
    told = plan(EIGHT, hardware("hpsa"))
    assert "windows-controller-unknown" in [one.code for one in told.warnings]


def test_on_a_real_machine_a_maker_may_have_a_driver_of_his_own() -> None:
    for driver in ("megaraid_sas", "nvme"):
        told = plan(SEVEN, hardware(driver, "bios", role="primary"))
        assert "windows-controller-unknown" in [one.code for one in told.warnings]
    assert not plan(SEVEN, hardware("ahci", "bios", role="primary")).warnings


def test_xp_learns_what_serves_an_ide_disk() -> None:
    told = registry(plan(XP, hardware("ata_piix", "bios", nic="8139cp")))
    devices = f"{CONTROL}\\CriticalDeviceDatabase"
    assert told[f"{devices}\\Primary_IDE_Channel\\Service"] == text("atapi")
    assert told[f"{devices}\\PCI#VEN_8086&DEV_7010\\Service"] == text("intelide")
    assert told[f"{devices}\\GenDisk\\ClassGUID"] == text("{4D36E967-E325-11CE-BFC1-08002BE10318}")
    assert told[f"{SERVICES}\\intelide\\Start"] == number(0)
    assert told[f"{SERVICES}\\intelide\\Group"] == text("System Bus Extender")
    path = told[f"{SERVICES}\\pciide\\ImagePath"]
    assert path is not None
    assert path.text() == "system32\\drivers\\pciide.sys"
    known = {
        "gendisk": CriticalDevice("disk", "{4d36e967-e325-11ce-bfc1-08002be10318}"),
        "*pnp0600": CriticalDevice("iastor", "{4d36e96a-e325-11ce-bfc1-08002be10318}"),
    }
    again = registry(plan(replace(XP, critical_devices=known), hardware("ata_piix", "bios")))
    assert f"{devices}\\GenDisk\\Service" not in again
    assert again[f"{devices}\\*PNP0600\\Service"] == text("atapi")


def test_xp_without_the_files_of_its_drivers_is_refused() -> None:
    bare = replace(XP, services={}, driver_files=frozenset())
    assert refusal(bare, hardware("ata_piix", "bios")).code == "driver-missing"


def test_xp_forgets_the_driver_of_the_originals_processor() -> None:
    system = replace(XP, services={**XP.services, **drivers("intelppm", start=1)})
    told = plan(system, hardware("ata_piix", "bios", nic="e1000"))
    assert registry(told)[f"{SERVICES}\\intelppm\\Start"] == number(4)
    assert {one.code for one in told.warnings} == {
        *("nic-driver-missing", "windows-activation", "windows-old")
    }


def test_a_filter_that_is_not_there_filters_nothing() -> None:
    class_id = "{4D36E967-E325-11CE-BFC1-08002BE10318}"
    key = f"{CONTROL}\\Class\\{class_id}"
    filters = (
        Filters(class_id, "UpperFilters", ("PartMgr", "gone"), ("gone",), "disks"),
        Filters(class_id, "LowerFilters", ("gone",), ("gone",)),
    )
    told = registry(plan(replace(EIGHT, filters=filters), hardware()))
    kept = told[f"{key}\\UpperFilters"]
    assert kept is not None
    assert kept.texts() == ("PartMgr",)
    assert told[f"{key}\\LowerFilters"] is None
    whole = (Filters(class_id, "LowerFilters", ("EhStorClass", "stdcfltn")),)
    assert not any(
        "Class" in key for key in registry(plan(replace(EIGHT, filters=whole), hardware()))
    )


def test_a_crash_stays_on_the_screen_of_a_stand_in_only() -> None:
    key = f"{CONTROL}\\CrashControl"
    told = registry(plan(replace(EIGHT, settings=replace(GOOD, auto_reboot=1)), hardware()))
    assert told[f"{key}\\AutoReboot"] == number(0)
    assert told[f"{key}\\NotfallAutoReboot"] == number(1)
    back = replace(EIGHT, settings=replace(GOOD, auto_reboot=0, kept_auto_reboot=1))
    told = registry(plan(back, hardware(role="primary")))
    assert told[f"{key}\\AutoReboot"] == number(1)
    assert told[f"{key}\\NotfallAutoReboot"] is None
    # who had it so before, has it so again
    own = replace(EIGHT, settings=replace(GOOD, auto_reboot=0, kept_auto_reboot=-1))
    assert not any("Reboot" in one for one in registry(plan(own, hardware())))
    assert not any("Reboot" in one for one in registry(plan(own, hardware(role="primary"))))


def test_disks_come_online_and_windows_no_longer_half_sleeps() -> None:
    system = replace(EIGHT, settings=Settings(0, 1, 2, 1, 1, -1))
    told = registry(plan(system, hardware()))
    assert told[f"{SERVICES}\\partmgr\\Parameters\\SanPolicy"] == number(1)
    assert told[f"{CONTROL}\\Session Manager\\Power\\HiberbootEnabled"] == number(0)
    assert told[f"{CONTROL}\\Power\\HibernateEnabled"] == number(0)


@pytest.mark.parametrize(("told", "clock"), [(-1, "localtime"), (0, "localtime"), (1, "utc")])
def test_the_clock_is_as_windows_reads_it(told: int, clock: str) -> None:
    settings = replace(GOOD, clock_in_utc=told)
    assert plan(replace(EIGHT, settings=settings), hardware()).clock == clock


PART = "09931f21-7faf-44a9-81d8-1e73c14b9eaf"


@pytest.mark.parametrize(
    ("letters", "part_uuid", "told"),
    [
        ((DriveLetter("C:", part_uuid=PART),), PART.upper(), False),
        ((DriveLetter("C:", part_uuid=PART),), PART.replace("0", "1"), True),
        ((DriveLetter("C:", signature=0x5CBEA03E, start=1 << 20),), "5cbea03e-01", False),
        ((DriveLetter("C:", signature=0x0CBEA03E, start=1 << 20),), "0cbea03e-01", False),
        ((DriveLetter("C:", signature=0x5CBEA03F, start=1 << 20),), "5cbea03e-01", True),
        ((), PART, False),
        ((DriveLetter("C:", part_uuid=PART),), "", False),
    ],
)
def test_a_drive_that_windows_does_not_know_is_told(
    letters: tuple[DriveLetter, ...], part_uuid: str, told: bool
) -> None:
    system = replace(EIGHT, letters=letters, root=replace(ROOT, part_uuid=part_uuid))
    warnings = [one.code for one in plan(system, hardware()).warnings]
    assert ("windows-drive-letter" in warnings) is told


def test_the_firmware_stays_what_it_is() -> None:
    told = refusal(EIGHT, hardware(firmware="bios"))
    assert (told.code, told.remedy) == ("no-boot-loader", "Choose UEFI for the machine.")
    told = refusal(SEVEN, hardware(firmware="uefi"))
    assert (told.code, told.remedy) == ("no-boot-loader", "Choose BIOS for the machine.")


def test_firmware_without_entries_finds_the_loader() -> None:
    steps = plan(EIGHT, hardware()).steps
    copies = [one for one in steps if isinstance(one, CopyOnEsp)]
    assert [one.target for one in copies] == ["EFI/Boot/bootx64.efi"]
    assert not any(isinstance(one, AddBootEntry) for one in steps)
    entries = [
        one for one in plan(EIGHT, hardware(role="primary")).steps if isinstance(one, AddBootEntry)
    ]
    assert [(one.disk, one.partition, one.part_uuid) for one in entries] == [(0, 1, "eeee-01")]


def test_a_stand_in_has_its_role_and_a_recovery_its_mark() -> None:
    assert texts(plan(EIGHT, hardware()))[ROLE_FILE] == "stand-in\n"
    wanted = replace(hardware(role="primary"), recovery="r-1")
    told = texts(plan(replace(EIGHT, files={ROLE_FILE: "stand-in\n"}), wanted))
    assert told == {ROLE_FILE: "primary\n", RECOVERY_FILE: "r-1\n"}


def test_an_address_goes_to_the_new_card() -> None:
    system = replace(EIGHT, interfaces=(STATIC,))
    told = plan(system, hardware())
    key = f"{SERVICES}\\Tcpip\\Parameters\\Interfaces\\{{AA}}"
    set_to = registry(told)
    assert set_to[f"{key}\\EnableDHCP"] == number(1)
    assert set_to[f"{key}\\IPAddress"] is None
    assert f"{key}\\NameServer" not in set_to
    card = {
        "mac": MAC,
        "addresses": ["198.51.100.10/24"],
        "gateways": ["198.51.100.1"],
        "name_servers": ["198.51.100.2", "198.51.100.3"],
    }
    assert json.loads(texts(told)[NETWORK_FILE]) == {"cards": [card]}
    # once given up, it stays noted, and follows to another card
    noted = replace(EIGHT, files={NETWORK_FILE: texts(told)[NETWORK_FILE], ROLE_FILE: "stand-in\n"})
    assert NETWORK_FILE not in texts(plan(noted, hardware()))
    moved = texts(plan(noted, hardware(role="primary", mac=NEW_MAC)))
    assert json.loads(moved[NETWORK_FILE])["cards"] == [{**card, "mac": NEW_MAC}]


def test_a_primary_on_its_own_card_keeps_its_address() -> None:
    system = replace(EIGHT, interfaces=(STATIC,))
    told = plan(system, hardware(role="primary"))
    assert not any("Tcpip" in one for one in registry(told))
    assert NETWORK_FILE not in texts(told)
    # but not what the stand-in's card has got
    after = replace(system, files={ROLE_FILE: "stand-in\n"})
    assert NETWORK_FILE in texts(plan(after, hardware(role="primary")))


def test_of_two_cards_with_one_address_the_present_one_counts() -> None:
    gone = replace(STATIC, name="{BB}", gateways=(), name_servers=("203.0.113.9",))
    original = replace(ORIGINAL, gateway="198.51.100.1")
    for interfaces in ((STATIC, gone), (gone, STATIC)):
        told = plan_windows(replace(EIGHT, interfaces=interfaces), hardware(), original)
        card = json.loads(texts(told)[NETWORK_FILE])["cards"][0]
        assert card["name_servers"] == ["198.51.100.2", "198.51.100.3"]
        for name in ("{AA}", "{BB}"):
            key = f"{SERVICES}\\Tcpip\\Parameters\\Interfaces\\{name}"
            assert registry(told)[f"{key}\\EnableDHCP"] == number(1)


def test_name_servers_set_by_hand_follow_though_the_address_is_leased() -> None:
    leased = Interface("{AA}", name_servers=("198.51.100.2",), leased="198.51.100.10")
    system = replace(EIGHT, interfaces=(leased,))
    told = plan(system, hardware())
    card = {"mac": MAC, "addresses": [], "gateways": [], "name_servers": ["198.51.100.2"]}
    assert json.loads(texts(told)[NETWORK_FILE]) == {"cards": [card]}
    assert not any("Tcpip" in one for one in registry(told))
    after = replace(system, files={NETWORK_FILE: texts(told)[NETWORK_FILE]})
    assert NETWORK_FILE not in texts(plan(after, hardware()))


def test_addresses_of_ipv6_that_were_set_by_hand_follow() -> None:
    leased = Interface("{AA}", leased="198.51.100.10")
    addresses = ["198.51.100.10/24", "2001:db8::10/64", "2001:db8::a5/64", "FE80::1/64"]
    nic = Nic("Ethernet", MAC, addresses=addresses, leased=[addresses[0], addresses[2]])
    original = replace(ORIGINAL, nics=[nic])
    system = replace(EIGHT, interfaces=(leased,))
    told = plan_windows(system, hardware(), original)
    (card,) = json.loads(texts(told)[NETWORK_FILE])["cards"]
    assert card["addresses"] == ["2001:db8::10/64"]
    after = replace(system, files={NETWORK_FILE: texts(told)[NETWORK_FILE]})
    assert NETWORK_FILE not in texts(plan_windows(after, hardware(), original))
    both = plan_windows(replace(EIGHT, interfaces=(STATIC,)), hardware(), original)
    (card,) = json.loads(texts(both)[NETWORK_FILE])["cards"]
    assert card["addresses"] == [*STATIC.addresses, "2001:db8::10/64"]


def test_an_address_of_no_known_card_is_left_and_told() -> None:
    system = replace(EIGHT, interfaces=(replace(STATIC, addresses=("198.51.100.7/24",)),))
    told = plan(system, hardware())
    assert not any("Tcpip" in one for one in registry(told))
    assert "windows-address-unclear" in [one.code for one in told.warnings]


@pytest.mark.parametrize(
    "broken", ["", "{", "[]", '{"cards": 1}', '{"cards": [{}]}', '{"cards": [[]]}']
)
def test_a_broken_note_is_none(broken: str) -> None:
    system = replace(EIGHT, interfaces=(STATIC,), files={NETWORK_FILE: broken})
    assert len(json.loads(texts(plan(system, hardware()))[NETWORK_FILE])["cards"]) == 1


@pytest.mark.parametrize(
    ("system", "firmware", "nic", "told"),
    [
        (EIGHT, "uefi", "e1000e", False),
        (EIGHT, "uefi", "virtio_net", True),
        (SEVEN, "bios", "e1000", False),
        (SEVEN, "bios", "e1000e", True),
        (SEVEN, "bios", "bnx2", False),  # a real one, of which nobody here knows
    ],
)
def test_a_card_without_a_driver_is_told(
    system: WindowsSystem, firmware: str, nic: str, told: bool
) -> None:
    warnings = [one.code for one in plan(system, hardware("ahci", firmware, nic=nic)).warnings]
    assert ("nic-driver-missing" in warnings) is told


def test_a_domain_controller_knows_that_it_comes_from_a_copy() -> None:
    directory = replace(EIGHT, domain_controller=True)
    key = f"ControlSet001\\Services\\NTDS\\Parameters\\{RESTORED}"
    assert registry(plan(directory, hardware()))[key] == number(1)
    assert key not in registry(plan(EIGHT, hardware()))
    again = replace(directory, settings=replace(GOOD, restored=1))
    assert key not in registry(plan(again, hardware()))
    # it wrote on as a stand-in, and goes on where it ended; a copy of that may be older again
    was = replace(directory, files={ROLE_FILE: "stand-in\n"})
    assert key not in registry(plan(was, hardware(role="primary")))
    assert registry(plan(was, hardware()))[key] == number(1)
