"""Drivers of the customer's: makers' INFs, what fits which Windows, and what is written for it."""

from __future__ import annotations

import io
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest
from test_windows_plan import (
    CONTROL,
    EIGHT,
    SERVICES,
    SEVEN,
    XP,
    drivers,
    hardware,
    plan,
    refusal,
    registry,
)

from notfall_lab.driver_folder import RST, netkvm, program, rst, viostor, virtio_win
from notfallserver.guest.facts import Hardware, HardwareDisk, HardwareNic, read_hardware
from notfallserver.guest.windows import supplied
from notfallserver.guest.windows.devices import pci_ids, virtual_ids
from notfallserver.guest.windows.facts import CriticalDevice, Generation, WindowsSystem
from notfallserver.guest.windows.inf import read_inf
from notfallserver.guest.windows.laid_down import PACKAGES, PutPackage, folder_of, wanted_ids
from notfallserver.guest.windows.packages import (
    NET,
    SCSI,
    Decoration,
    Description,
    Windows,
    describe,
    read_decoration,
)
from notfallserver.guest.windows.parcel import PARCEL_LIMIT, pack_parcel, unpack_parcel
from notfallserver.guest.windows.pe import has_signature
from notfallserver.guest.windows.plan import WindowsPlan
from notfallserver.guest.windows.registry import BINARY, Value, number, text, texts
from notfallserver.guest.windows.storage import Controller, PutDriver
from notfallserver.guest.windows.supplied import (
    Chosen,
    Package,
    choose_packages,
    read_folder,
    supplied_drivers,
)
from notfallserver.rescue.devices import card_ids, controller_ids
from notfallserver.wire.errors import NotfallError

TEN = Windows((10, 0), 19045, "amd64")
VMD = pci_ids(0x8086, 0x9A0B, 0x0B0E1028, 0, 0x010400)
AHCI = pci_ids(0x8086, 0xA352, 0x08A71028, 0x10, 0x010601)
NVME = pci_ids(0x144D, 0xA808, 0xA801144D, 0, 0x010802)
BLOCK_ID = r"PCI\VEN_1AF4&DEV_1001"


def described(told: str) -> Description:
    found = describe(read_inf(told.encode("cp1252")))
    assert found is not None
    return found


def test_an_inf_of_virtio_is_understood() -> None:
    found = described(viostor("NTamd64.10.0"))
    assert (found.class_id, found.provider, found.catalogue) == (
        *(SCSI, "Red Hat, Inc.", "viostor.cat"),
    )
    assert found.files == ("viostor.sys",)
    assert found.newness == (2023, 7, 18, 100, 93, 104, 24000)
    (model,) = found.models
    assert model.decoration == Decoration("amd64", (10, 0))
    assert model.ids == {
        *(rf"{BLOCK_ID}&SUBSYS_00021AF4&REV_00", BLOCK_ID),
        r"PCI\VEN_1AF4&DEV_1042&SUBSYS_11001AF4&REV_01",
        r"PCI\VEN_1AF4&DEV_1042",  # behind a line that goes on
    }
    service = model.service
    assert service is not None
    assert (service.name, service.file, service.group) == (
        *("viostor", "viostor.sys", "SCSI miniport"),
    )
    told = [(one.key, one.name, one.value) for one in service.parameters]
    assert told == [
        (r"Parameters\PnpInterface", "5", number(1)),
        ("Parameters", "BusType", number(1)),
    ]


def test_an_inf_of_intels_is_understood_in_utf_16() -> None:
    raw = b"\xff\xfe" + RST.encode("utf-16-le")
    found = describe(read_inf(raw))
    assert found is not None
    assert found.provider == "Intel Corporation"
    assert found.files == ("x64/iaStorVD.sys", "x64/messages/RstMwEventLogMessage.dll")
    # the newest that this build may have, whole and alone
    newest = found.for_windows(TEN)
    ids = {one for model in newest for one in model.ids if one.startswith("PCI")}
    assert ids == {
        *(r"PCI\VEN_8086&DEV_9A0B&CC_0104", r"PCI\VEN_8086&DEV_467F&CC_0104"),
        r"PCI\VEN_8086&DEV_2822&CC_0104",
    }
    older = found.for_windows(Windows((10, 0), 16299, "amd64"))
    assert [model.ids for model in older] == [{r"PCI\VEN_8086&DEV_9A0B&CC_0104"}]
    assert found.for_windows(Windows((10, 0), 14393, "amd64")) == ()
    assert found.for_windows(Windows((10, 0), 19045, "x86")) == ()
    service = older[0].service
    assert service is not None
    assert (service.name, service.file, service.error_control) == ("iaStorVD", "iaStorVD.sys", 3)
    told = {f"{one.key}|{one.name}": one.value for one in service.parameters}
    assert told == {
        "Parameters|BusType": number(8),
        "|Note": text("text, with a comma"),
        r"Parameters\Device|NoLPM": texts(["one", "two"]),
        r"Parameters\Device|Odd": Value(BINARY, b"\x01\xff"),
    }
    # what only comes beside the driver, and what has none
    assert {model.service.name for model in newest if model.service} == {"iaStorVD"}


@pytest.mark.parametrize(
    ("told", "decoration"),
    [
        ("NTamd64", Decoration("amd64")),
        (" ntAMD64.6.1 ", Decoration("amd64", (6, 1))),
        ("NTx86.5.1", Decoration("x86", (5, 1))),
        ("NT.6.0", Decoration("x86", (6, 0))),
        ("NTamd64.6.1.3", Decoration("amd64", (6, 1), kind=3)),
        ("NTamd64...1", Decoration("amd64", kind=1)),
        ("NTamd64.10.0...16299", Decoration("amd64", (10, 0), 16299)),
        ("NTamd64.10.0.0x3.0x80.17763", Decoration("amd64", (10, 0), 17763, 3)),
        ("NTarm64.10.0", None),
        ("NTia64", None),
        ("amd64", None),
        ("NTamd64 10.0", None),
    ],
)
def test_decorations(told: str, decoration: Decoration | None) -> None:
    assert read_decoration(told) == decoration


def test_a_decoration_may_be_for_servers_only() -> None:
    server = Decoration("amd64", (6, 1), kind=3)
    assert server.fits(Windows((6, 1), 7601, "amd64", server=True))
    assert not server.fits(Windows((6, 1), 7601, "amd64"))
    assert not Decoration("amd64", (6, 2)).fits(Windows((6, 1), 7601, "amd64"))
    assert Decoration("amd64", (6, 1)).fits(Windows((10, 0)))


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\xff\xfe",
        b"MZ\x90\0" * 100,
        b"[Manufacturer]\nx=y\n",
        "just words".encode("utf-16-le"),
        b"[version]" + b"x" * (5 << 20),
    ],
)
def test_what_is_no_inf_is_told(raw: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        read_inf(raw)


def test_a_damaged_inf_is_read_as_far_as_it_goes() -> None:
    whole = viostor("NTamd64.10.0")
    for cut in range(0, len(whole), 37):
        for damaged in (whole[:cut], whole[cut:], whole[:cut] + "\0]=,,%" + whole[cut + 9 :]):
            try:
                found = describe(read_inf(damaged.encode("cp1252")))
            except ValueError:
                continue
            assert found is None or all(model.ids for model in found.models)


def test_models_without_decoration_are_for_32_bit() -> None:
    told = netkvm("@").replace("NetKVM,@", "NetKVM").replace("[NetKVM.@]", "[NetKVM]")
    (model, *_) = described(told).models
    assert model.decoration == Decoration("x86")


def test_a_folder_is_read(tmp_path: Path) -> None:
    virtio_win(tmp_path)
    (tmp_path / "viostor/w7/amd64/viostor.cat").unlink()
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "a.inf").write_bytes(b"nothing")
    (broken / "link.inf").symlink_to("/etc/passwd")
    found = read_folder(tmp_path)
    assert [one.path for one in found.packages] == [
        *(f"NetKVM/{one}/amd64/netkvm.inf" for one in ("2k19", "w10", "w7")),
        *(f"viostor/{one}/amd64/viostor.inf" for one in ("2k19", "w10")),
    ]
    # neither what the INF does not name nor what it names in vain
    assert found.packages[0].files == ("netkvm.cat", "netkvm.inf", "netkvm.sys")
    why = dict(found.refused)
    assert "catalogue" in why["viostor/w7/amd64/viostor.inf"]
    assert "[Version]" in why["broken/a.inf"]
    assert len(why) == 2


def test_a_folder_that_is_too_large_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    virtio_win(tmp_path)
    monkeypatch.setattr(supplied, "FILES_LIMIT", 9)
    found = read_folder(tmp_path)
    assert "not all of them" in dict(found.refused)["*"]


def chosen_paths(folder: Path, windows: Windows, ids: tuple[str, ...]) -> list[str]:
    return [one.package.path for one in choose_packages(read_folder(folder).packages, windows, ids)]


def test_what_fits_the_windows_and_the_hardware_is_chosen(tmp_path: Path) -> None:
    virtio_win(tmp_path)
    disk, card = virtual_ids("virtio_blk"), virtual_ids("virtio-net")
    assert chosen_paths(tmp_path, TEN, disk) == ["viostor/w10/amd64/viostor.inf"]
    both = ["NetKVM/w10/amd64/netkvm.inf", "viostor/w10/amd64/viostor.inf"]
    assert chosen_paths(tmp_path, TEN, (*disk, *card)) == both
    server = Windows((10, 0), 20348, "amd64", server=True)
    # of a server that has no folder of its own the next older one's
    assert chosen_paths(tmp_path, server, disk) == ["viostor/2k19/amd64/viostor.inf"]
    assert chosen_paths(tmp_path, replace(server, build=14393), disk) == []
    seven = Windows((6, 1), 7601, "amd64")
    assert chosen_paths(tmp_path, seven, disk) == ["viostor/w7/amd64/viostor.inf"]
    assert chosen_paths(tmp_path, replace(seven, architecture="x86"), disk) == []
    assert chosen_paths(tmp_path, TEN, AHCI) == []


def test_of_two_the_newer_one_is_chosen(tmp_path: Path) -> None:
    for name, date in (("a", "01/02/2024"), ("b", "12/31/2023"), ("c", "nonsense")):
        base = tmp_path / name
        base.mkdir()
        told = viostor("NTamd64.10.0").replace("07/18/2023", date)
        (base / "viostor.inf").write_text(told)
        (base / "viostor.cat").write_text("x")
        (base / "viostor.sys").write_text("x")
    assert chosen_paths(tmp_path, TEN, virtual_ids("virtio_blk")) == ["a/viostor.inf"]


def given(folder: Path, windows: Windows, ids: tuple[str, ...]) -> tuple[Chosen, ...]:
    return supplied_drivers(folder, windows, ids)


def test_since_eight_a_driver_is_written_into_the_database(tmp_path: Path) -> None:
    """The keys are virt-v2v's; that a real hive takes them: ``test_windows_staged.py``."""
    virtio_win(tmp_path)
    windows = Windows((10, 0), 17763, "amd64", server=True)
    supplied = given(tmp_path, windows, virtual_ids("virtio_blk"))
    told = plan(EIGHT, hardware("virtio_blk"), supplied=supplied)
    base = tmp_path / "viostor/2k19/amd64"
    first, second = told.steps[:2]
    assert isinstance(first, PutDriver)
    assert (first.source, first.target) == (
        *(str(base / "viostor.sys"), "Windows/System32/drivers/viostor.sys"),
    )
    assert "from the folder of drivers" in first.change
    assert isinstance(second, PutPackage)
    assert (second.source, second.target) == (
        *(str(base), f"{PACKAGES}/viostor-{supplied[0].mark[:12]}"),
    )
    assert second.files == ("viostor.cat", "viostor.inf", "viostor.sys")
    set_to = registry(told)
    assert set_to[rf"{SERVICES}\viostor\Start"] == number(0)
    assert set_to[rf"{SERVICES}\viostor\ImagePath"] == text(r"system32\drivers\viostor.sys", 2)
    assert set_to[rf"{SERVICES}\viostor\Parameters\PnpInterface\5"] == number(1)
    label = f"notfall_viostor.inf_amd64_{supplied[0].mark[:16]}"
    infs = r"DriverDatabase\DriverInfFiles\notfall_viostor.inf"
    assert set_to[rf"{infs}\Active"] == text(label)
    assert set_to[f"{infs}\\"] == texts([label])
    assert set_to[rf"DriverDatabase\DeviceIds\{BLOCK_ID}\notfall_viostor.inf"] == Value(
        BINARY, b"\x01\xff\0\0"
    )
    package = rf"DriverDatabase\DriverPackages\{label}"
    way = set_to[rf"{package}\Descriptors\{BLOCK_ID}\Configuration"]
    assert way is not None
    assert set_to[rf"{package}\Configurations\{way.text()}\Service"] == text("viostor")
    version = set_to[rf"{package}\Version"]
    assert version is not None
    assert version.data.hex() == "00ff0900000000007be9364d25e3ce11bfc108002be10318" + "00" * 24
    assert not any("CriticalDevice" in one for one in set_to)


def test_without_the_folder_it_says_where_drivers_go() -> None:
    told = refusal(EIGHT, hardware("virtio_blk"))
    assert told.code == "driver-missing"
    assert "notfall drivers add" in told.remedy


def test_before_eight_all_hardware_of_the_package_is_critical(tmp_path: Path) -> None:
    virtio_win(tmp_path)
    supplied = given(tmp_path, Windows((6, 1), 7601, "amd64"), virtual_ids("virtio_blk"))
    set_to = registry(plan(SEVEN, hardware("virtio_blk", "bios"), supplied=supplied))
    devices = f"{CONTROL}\\CriticalDeviceDatabase"
    for one in ("DEV_1001&SUBSYS_00021AF4&REV_00", "DEV_1042", "DEV_1001&REV_00"):
        assert set_to[rf"{devices}\PCI#VEN_1AF4&{one}\Service"] == text("viostor")
        assert set_to[rf"{devices}\PCI#VEN_1AF4&{one}\ClassGUID"] == text(SCSI)
    assert not any("DriverDatabase" in one for one in set_to)
    assert refusal(SEVEN, hardware("virtio_scsi", "bios"), supplied=supplied)


def test_an_installed_driver_needs_no_folder(tmp_path: Path) -> None:
    virtio_win(tmp_path)
    supplied = given(tmp_path, Windows((10, 0), 17763, "amd64", True), virtual_ids("virtio_blk"))
    system = replace(EIGHT, services={**EIGHT.services, **drivers("viostor", start=3)})
    told = plan(system, hardware("virtio_blk"), supplied=supplied)
    assert registry(told)[rf"{SERVICES}\viostor\Start"] == number(0)
    assert not any(isinstance(one, (PutDriver, PutPackage)) for one in told.steps)


def real_machine(driver: str, ids: tuple[str, ...], nic: tuple[str, ...] = ()) -> Hardware:
    nics = [HardwareNic("Ethernet", "52:54:00:77:00:0a", driver="igc", ids=nic)]
    return Hardware("uefi", "primary", [HardwareDisk(driver, ids)], nics)


def asked(system: WindowsSystem, ids: tuple[str, ...], **served: str) -> WindowsSystem:
    """``served``: by the end of the id, the driver that Windows names for it."""
    names = {one: tuple(served[end] for end in served if one.endswith(end)) for one in ids}
    return replace(system, served=names)


def codes(told: WindowsPlan) -> list[str]:
    return [one.code for one in told.warnings]


def test_intels_vmd_gets_its_makers_driver(tmp_path: Path) -> None:
    """To Linux its disks are plain NVMe; Windows has a driver for those, and sees none."""
    rst(tmp_path)
    system = replace(asked(EIGHT, VMD), server=False, build=19045)
    assert "windows-controller-unknown" in codes(plan(system, real_machine("nvme", VMD)))
    told = plan(system, real_machine("nvme", VMD), supplied=given(tmp_path, TEN, VMD))
    assert "windows-controller-unknown" not in codes(told)
    set_to = registry(told)
    device = r"DriverDatabase\DeviceIds\PCI\VEN_8086&DEV_9A0B&CC_0104\notfall_iastorvd.inf"
    assert device in set_to
    assert set_to[rf"{SERVICES}\iaStorVD\Group"] == text("SCSI miniport")
    assert set_to[rf"{SERVICES}\iaStorVD\Parameters\BusType"] == number(8)
    put = next(one for one in told.steps if isinstance(one, PutPackage))
    assert "X64/Messages/RstMwEventLogMessage.dll" in put.files
    assert not any("{8E9D" in one for one in set_to), "what is no hardware is not written"


def test_what_windows_knows_the_device_by_has_the_last_word(tmp_path: Path) -> None:
    rst(tmp_path)
    supplied = given(tmp_path, TEN, VMD)
    # an older driver of the name, which does not know this chip
    old = replace(asked(EIGHT, VMD), services={**EIGHT.services, **drivers("iastorvd")})
    told = plan(old, real_machine("nvme", VMD), supplied=supplied)
    assert any(isinstance(one, PutDriver) for one in told.steps)
    assert "windows-controller-unknown" in codes(plan(old, real_machine("nvme", VMD)))
    # one that does
    new = asked(old, VMD, **{"DEV_9A0B&CC_0104": "iastorvd"})
    told = plan(new, real_machine("nvme", VMD), supplied=supplied)
    assert not any(isinstance(one, (PutDriver, PutPackage)) for one in told.steps)
    assert "windows-controller-unknown" not in codes(told)


def test_plain_controllers_are_driven_by_windows_own() -> None:
    system = asked(EIGHT, (*AHCI, *NVME), CC_010601="storahci", CC_010802="stornvme")
    for driver, ids in (("ahci", AHCI), ("nvme", NVME)):
        assert "windows-controller-unknown" not in codes(plan(system, real_machine(driver, ids)))
    assert Controller("ahci", AHCI).kind == "ahci"
    assert Controller("nvme", VMD).kind == "intel_vmd"
    assert Controller("ahci", pci_ids(0x8086, 0x2822, 0, 0, 0x010400)).kind == "intel_rst"


def test_before_eight_what_was_written_is_found_again(tmp_path: Path) -> None:
    rst(tmp_path)
    ids = pci_ids(0x8086, 0x2822, 0, 0, 0x010400)
    known = {r"pci#ven_8086&dev_2822&cc_0104": CriticalDevice("iastorvd", SCSI.lower())}
    system = replace(
        SEVEN,
        boots_by=("uefi",),
        services={**SEVEN.services, **drivers("iastorvd")},
        critical_devices=known,
    )
    told = plan(system, real_machine("ahci", ids), supplied=given(tmp_path, TEN, ids))
    assert not any(isinstance(one, PutDriver) for one in told.steps)


def test_a_network_cards_driver_is_laid_down(tmp_path: Path) -> None:
    virtio_win(tmp_path)
    card = virtual_ids("virtio_net")
    supplied = given(tmp_path, Windows((10, 0), 17763, "amd64", True), card)
    wanted = hardware(nic="virtio_net")
    assert "nic-driver-missing" in codes(plan(EIGHT, wanted))
    told = plan(EIGHT, wanted, supplied=supplied)
    assert "nic-driver-missing" not in codes(told)
    (put,) = [one for one in told.steps if isinstance(one, PutPackage)]
    assert put.target == f"{PACKAGES}/{folder_of(supplied[0])}"
    assert not any("DriverDatabase" in one for one in registry(told))
    # there already, installed already, or a card that Windows knows
    there = replace(EIGHT, packages=frozenset({folder_of(supplied[0])}))
    installed = replace(EIGHT, services={**EIGHT.services, **drivers("netkvm")})
    for system, nic in ((there, "virtio_net"), (installed, "virtio_net"), (EIGHT, "e1000e")):
        steps = plan(system, hardware(nic=nic), supplied=supplied).steps
        assert not any(isinstance(one, PutPackage) for one in steps)
    # a real machine's card may be a newer one than the installed driver knows
    steps = plan(installed, real_machine("ahci", (), card), supplied=supplied).steps
    assert any(isinstance(one, PutPackage) for one in steps)
    assert supplied[0].package.description.class_id == NET


def test_for_what_a_driver_is_looked_for() -> None:
    assert wanted_ids(hardware("ahci"), Generation.EIGHT) == ()
    assert BLOCK_ID in wanted_ids(hardware("virtio-blk"), Generation.EIGHT)
    # of XP's cards the one that the machine gets is known to it
    assert wanted_ids(hardware("ata_piix", nic="8139cp"), Generation.XP) == ()
    assert r"PCI\VEN_8086&DEV_100E" in wanted_ids(hardware(nic="e1000"), Generation.XP)
    assert wanted_ids(real_machine("nvme", VMD, AHCI), Generation.EIGHT) == tuple(
        dict.fromkeys((*VMD, *AHCI))
    )


def test_xp_takes_a_driver_as_well(tmp_path: Path) -> None:
    base = tmp_path / "floppy"
    base.mkdir()
    (base / "viostor.inf").write_text(viostor("NTx86.5.1"))
    (base / "viostor.cat").write_text("x")
    (base / "viostor.sys").write_text("x")
    supplied = given(tmp_path, Windows((5, 1), 2600, "x86"), virtual_ids("virtio_blk"))
    told = plan(XP, hardware("virtio_blk", "bios"), supplied=supplied)
    assert any(isinstance(one, PutDriver) for one in told.steps)


def test_ids_travel_with_the_hardware() -> None:
    there = real_machine("nvme", VMD, AHCI)
    assert replace(read_hardware(there.to_json()), recovery="") == there
    old = {"firmware": "bios", "role": "primary", "disks": [{"driver": "ahci"}], "nics": []}
    assert read_hardware(old).disks == [HardwareDisk("ahci")]


# -- on the way ------------------------------------------------------------------------------------


def test_a_parcel_brings_what_was_packed(tmp_path: Path) -> None:
    virtio_win(tmp_path / "from")
    packages = read_folder(tmp_path / "from").packages
    raw = pack_parcel(packages)
    place = tmp_path / "to"
    place.mkdir()
    unpack_parcel(io.BytesIO(raw + bytes(70000)), place)  # a disk is longer
    arrived = choose_packages(read_folder(place).packages, TEN, virtual_ids("virtio_blk"))
    sent = choose_packages(packages, TEN, virtual_ids("virtio_blk"))
    assert [one.package.name for one in arrived] == [one.package.name for one in sent]
    assert (Path(arrived[0].package.folder) / "viostor.sys").read_bytes() == (
        Path(sent[0].package.folder) / "viostor.sys"
    ).read_bytes()
    assert pack_parcel(()) == b""


def test_what_is_too_much_is_left_out_network_first(tmp_path: Path) -> None:
    virtio_win(tmp_path)
    card, disk = (
        next(one for one in read_folder(tmp_path).packages if one.name == name)
        for name in ("netkvm", "viostor")
    )
    much = replace(card, size=PARCEL_LIMIT)
    raw = pack_parcel((much, disk))
    with tarfile.open(fileobj=io.BytesIO(raw)) as tar:
        assert {name.rpartition("/")[2] for name in tar.getnames()} == set(disk.files)


@pytest.mark.parametrize("name", ["../a.inf", "/etc/a.inf", "a/../../b", "a//b", "."])
def test_a_parcel_leads_nowhere_else(tmp_path: Path, name: str) -> None:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as tar:
        entry = tarfile.TarInfo(name)
        entry.size = 1
        tar.addfile(entry, io.BytesIO(b"x"))
    raw.seek(0)
    with pytest.raises(NotfallError) as told:
        unpack_parcel(raw, tmp_path)
    assert told.value.code == "drivers-broken"
    assert list(tmp_path.iterdir()) == []


def test_no_links_and_no_rubbish_in_a_parcel(tmp_path: Path) -> None:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as tar:
        link = tarfile.TarInfo("a")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc"
        tar.addfile(link)
    for content in (raw.getvalue(), b"rubbish" * 200, raw.getvalue()[:100]):
        with pytest.raises(NotfallError):
            unpack_parcel(io.BytesIO(content), tmp_path)


# -- of a real machine -----------------------------------------------------------------------------


def pci(base: Path, vendor: int, device: int, kind: int) -> None:
    base.mkdir(parents=True)
    told = {"vendor": vendor, "device": device, "class": kind, "revision": 1}
    told.update(subsystem_vendor=0x1028, subsystem_device=0x0B0E)
    for name, value in told.items():
        (base / name).write_text(f"{value:#06x}\n")
    bus = base.parents[len(base.parents) - 2] / "pci"
    bus.mkdir(exist_ok=True)
    (base / "subsystem").symlink_to(bus)


def test_what_windows_must_drive_is_the_outermost_controller(tmp_path: Path) -> None:
    """``sys``: a disk behind VMD, one without it, one on USB."""
    sys = tmp_path / "sys"
    vmd = sys / "devices/0000:00:0e.0"
    pci(sys / "devices", 0x8086, 0x1234, 0x060400)  # a bridge is no controller
    pci(vmd, 0x8086, 0x9A0B, 0x010400)
    pci(vmd / "10000:e1:00.0", 0x144D, 0xA808, 0x010802)
    pci(sys / "devices/0000:01:00.0", 0x144D, 0xA808, 0x010802)
    pci(sys / "devices/0000:00:14.0", 0x8086, 0x0001, 0x0C0330)
    for disk, at in (
        ("nvme0n1", vmd / "10000:e1:00.0/nvme/nvme0"),
        ("sda", sys / "devices/0000:01:00.0/host0/target"),
        ("sdb", sys / "devices/0000:00:14.0/usb1/host1"),
    ):
        at.mkdir(parents=True)
        (sys / "block" / disk).mkdir(parents=True)
        (sys / "block" / disk / "device").symlink_to(at)
    many = sys / "devices/virtual/nvme-subsystem/nvme-subsys0"
    many.mkdir(parents=True)
    (many / "nvme0").symlink_to(vmd / "10000:e1:00.0/nvme/nvme0")
    (sys / "block/nvme1n1").mkdir()
    (sys / "block/nvme1n1/device").symlink_to(many)
    expected = pci_ids(0x8086, 0x9A0B, 0x0B0E1028, 1, 0x010400)
    assert controller_ids("nvme0n1", sys) == expected
    assert controller_ids("nvme1n1", sys) == expected
    assert r"PCI\CC_010802" in controller_ids("sda", sys)
    assert controller_ids("sdb", sys) == ()
    assert controller_ids("gone", sys) == ()


def test_a_card_is_found_by_its_address(tmp_path: Path) -> None:
    sys = tmp_path / "sys"
    card = sys / "devices/0000:02:00.0"
    pci(card, 0x8086, 0x15F2, 0x020000)
    for name, address, device in (("enp2s0", "52:54:00:77:00:0A", card), ("bond0", "1", None)):
        base = sys / "class/net" / name
        base.mkdir(parents=True)
        (base / "address").write_text(address + "\n")
        if device is not None:
            (base / "device").symlink_to(device)
    found = card_ids("52:54:00:77:00:0a", sys)
    assert found[0] == r"PCI\VEN_8086&DEV_15F2&SUBSYS_0B0E1028&REV_01"
    assert card_ids("1", sys) == ()


def test_a_packages_title_is_for_people(tmp_path: Path) -> None:
    rst(tmp_path)
    (package,) = read_folder(tmp_path).packages
    assert package.title == "iastorvd.inf 19.5.1.1040 (Intel Corporation)"
    assert isinstance(package, Package)


def test_a_driver_without_a_signature_of_its_own_is_told(tmp_path: Path) -> None:
    """Windows' loader finds the catalogue's, perhaps."""
    rst(tmp_path)
    system = asked(EIGHT, VMD)
    supplied = given(tmp_path, TEN, VMD)
    assert "windows-driver-signature" not in codes(
        plan(system, real_machine("nvme", VMD), supplied=supplied)
    )
    next(tmp_path.rglob("*.sys")).write_bytes(program(signed=False))
    told = plan(system, real_machine("nvme", VMD), supplied=given(tmp_path, TEN, VMD))
    assert "windows-driver-signature" in codes(told)
    put = [one for one in told.steps if isinstance(one, PutDriver)]
    assert [one.target.rpartition("/")[2] for one in put] == [
        *("iaStorVD.sys", "notfall_iastorvd.cat")
    ]
    assert put[1].source.endswith("VMD/iastorvd.cat")
    assert put[1].target.startswith("Windows/System32/CatRoot/{F750E6C3-")


def test_signatures_are_found_where_they_are() -> None:
    assert has_signature(program())
    assert not has_signature(program(signed=False))
    short = bytearray(program())
    short[0x80 + 24 : 0x80 + 26] = b"\x0b\x01"  # 32 bit: its entry lies elsewhere
    assert not has_signature(bytes(short))
    short[0x80 + 24 + 128 : 0x80 + 24 + 136] = b"\1\0\0\0" * 2
    assert has_signature(bytes(short))
    for cut in range(0, 300, 7):
        assert not has_signature(program()[:cut])


def test_what_is_for_a_newer_windows_goes_before_what_is_newer(tmp_path: Path) -> None:
    for name, told in (
        ("a", viostor("NTamd64.6.1").replace("07/18/2023", "01/02/2025")),
        ("b", viostor("NTamd64.10.0")),
    ):
        base = tmp_path / name
        base.mkdir()
        for file, content in (("inf", told), ("cat", "x"), ("sys", "x")):
            (base / f"viostor.{file}").write_text(content)
    assert chosen_paths(tmp_path, TEN, virtual_ids("virtio_blk")) == ["b/viostor.inf"]
