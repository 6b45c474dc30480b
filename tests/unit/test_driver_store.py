"""Where the customer's drivers lie: added from folders and ISOs, listed, chosen, removed."""

from __future__ import annotations

import io
import shutil
import subprocess
from pathlib import Path

import pytest

from notfall_lab.driver_folder import rst, virtio_win
from notfallserver.guest.windows.devices import pci_ids, virtual_ids
from notfallserver.guest.windows.packages import Windows
from notfallserver.guest.windows.parcel import unpack_parcel
from notfallserver.guest.windows.supplied import supplied_drivers
from notfallserver.server.cycle.driver_store import DriverStore, windows_of
from notfallserver.server.web.page.server import sets_of
from notfallserver.wire.errors import NotfallError
from notfallserver.wire.facts import Machine

TEN = Windows((10, 0), 19045, "amd64")


@pytest.fixture
def store(tmp_path: Path) -> DriverStore:
    return DriverStore(tmp_path / "data" / "drivers" / "windows")


def refusal(store: DriverStore, source: Path, name: str = "") -> str:
    with pytest.raises(NotfallError) as told:
        store.add(source, name)
    assert told.value.remedy
    return told.value.code


def files(folder: Path) -> set[str]:
    return {one.relative_to(folder).as_posix() for one in folder.rglob("*") if one.is_file()}


def test_only_what_is_of_use_is_kept(store: DriverStore, tmp_path: Path) -> None:
    assert store.list().drivers == ()
    source = virtio_win(tmp_path / "virtio-win 0.1.240")
    added = store.add(source)
    assert len(added.drivers) == 6
    assert {one.name for one in added.drivers} == {"virtio-win-0.1"}
    kept = files(store.root / "virtio-win-0.1")
    assert "viostor/w10/amd64/viostor.sys" in kept
    assert not any(one.endswith(".pdb") or one.startswith("display") for one in kept)
    one = next(one for one in store.list().drivers if one.path == "viostor/w7/amd64/viostor.inf")
    assert (one.kind, one.maker, one.version) == (
        *("storage", "Red Hat, Inc.", "07/18/2023 100.93.104.24000"),
    )
    assert one.systems == ("7, Server 2008 R2 (64 bit)",)
    assert r"PCI\VEN_1AF4&DEV_1042" in one.hardware


def test_a_set_is_replaced_as_a_whole(store: DriverStore, tmp_path: Path) -> None:
    source = virtio_win(tmp_path / "a")
    store.add(source, "virtio")
    shutil.rmtree(source / "NetKVM")
    (store.root / ".virtio.new").mkdir()  # of one that was interrupted
    (store.root / ".virtio.new/old.inf").write_text("old")
    (store.root / "gone.12345678.discarded").mkdir()
    shutil.copytree(source, store.root / "gone.12345678.discarded/x")
    assert {one.name for one in store.list().drivers} == {"virtio"}
    store.add(source, "virtio")
    assert {one.path.split("/")[0] for one in store.list().drivers} == {"viostor"}
    assert sorted(one.name for one in store.root.iterdir()) == ["virtio"]


def test_a_set_is_removed(store: DriverStore, tmp_path: Path) -> None:
    store.add(rst(tmp_path / "rst"))
    store.remove("rst")
    assert store.list().drivers == ()
    for name, code in (("rst", "drivers-unknown"), ("../data", "drivers-bad-name")):
        with pytest.raises(NotfallError) as told:
            store.remove(name)
        assert told.value.code == code


def test_what_is_none_is_refused_and_changes_nothing(store: DriverStore, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    assert refusal(store, empty) == "drivers-none"
    unsigned = rst(tmp_path / "unsigned")
    next(unsigned.rglob("*.cat")).unlink()
    with pytest.raises(NotfallError, match="catalogue"):
        store.add(unsigned)
    assert refusal(store, tmp_path / "not-there") == "drivers-not-there"
    assert refusal(store, Path("relative")) == "drivers-not-there"
    assert refusal(store, rst(tmp_path / "x"), "../up") == "drivers-bad-name"
    text = tmp_path / "text.iso"
    text.write_text("no image")
    assert refusal(store, text) == "drivers-no-iso"
    assert not store.root.exists()


def test_an_iso_is_read(store: DriverStore, tmp_path: Path) -> None:
    source = virtio_win(tmp_path / "tree")
    rst(source / "intel")
    (source / "guest-agent").mkdir()
    (source / "guest-agent/big.msi").write_bytes(bytes(1 << 20))
    iso = tmp_path / "virtio-win.iso"
    make = ["xorriso", "-as", "mkisofs", "-quiet", "-r", "-J", "-o", str(iso), str(source)]
    subprocess.run(make, check=True, timeout=60, capture_output=True)
    added = store.add(iso)
    assert {one.name for one in added.drivers} == {"virtio-win"}
    assert len(added.drivers) == 7
    assert files(store.root / "virtio-win") == {
        *(
            f"{name}/{system}/amd64/{name.lower()}.{end}"
            for name in ("viostor", "NetKVM")
            for system in ("w7", "w10", "2k19")
            for end in ("inf", "sys", "cat")
        ),
        *("intel/Drivers/VMD/iaStorVD.inf", "intel/Drivers/VMD/iastorvd.cat"),
        "intel/Drivers/VMD/X64/iaStorVD.sys",
        "intel/Drivers/VMD/X64/Messages/RstMwEventLogMessage.dll",
    }
    path = store.root / "virtio-win/viostor/w10/amd64/viostor.sys"
    assert path.read_bytes() == (source / "viostor/w10/amd64/viostor.sys").read_bytes()


def paths(raw: bytes, folder: Path) -> set[str]:
    folder.mkdir()
    if raw:
        unpack_parcel(io.BytesIO(raw), folder)
    return {one.rpartition("/")[2] for one in files(folder)}


def standin(disk: str, card: str) -> dict[str, object]:
    return {
        "firmware": "uefi",
        "role": "stand-in",
        "disks": [{"driver": disk}],
        "nics": [{"name": "Ethernet", "mac": "52:54:00:77:00:0a", "driver": card}],
    }


def test_a_stand_in_gets_what_its_hardware_needs(store: DriverStore, tmp_path: Path) -> None:
    machine = Machine("w", system="Windows 10 Pro", kernel="10.0.19045")
    assert store.parcel_for(machine, standin("virtio-blk", "virtio_net")) == b""
    store.add(virtio_win(tmp_path / "virtio"))
    assert store.parcel_for(machine, standin("ahci", "e1000e")) == b""
    raw = store.parcel_for(machine, standin("virtio-blk", "e1000e"))
    assert paths(raw, tmp_path / "a") == {"viostor.inf", "viostor.sys", "viostor.cat"}
    raw = store.parcel_for(machine, standin("ahci", "virtio_net"))
    assert "netkvm.sys" in paths(raw, tmp_path / "b")
    linux = Machine("l", system="Debian GNU/Linux 12", kernel="6.1.0")
    assert store.parcel_for(linux, standin("virtio-blk", "virtio_net")) == b""


def test_of_an_unknown_processor_it_gets_both(store: DriverStore, tmp_path: Path) -> None:
    source = virtio_win(tmp_path / "virtio")
    for inf in (source / "viostor/w10/amd64").iterdir():
        other = source / "viostor/w10/x86" / inf.name
        other.parent.mkdir(exist_ok=True)
        other.write_bytes(inf.read_bytes().replace(b"NTamd64", b"NTx86"))
    store.add(source)
    machine = Machine("w", system="Windows 10 Pro", kernel="10.0.19045")
    raw = store.parcel_for(machine, standin("virtio-blk", "e1000e"))
    folder = tmp_path / "a"
    paths(raw, folder)
    for cpu in ("amd64", "x86"):
        (found,) = supplied_drivers(folder, TEN.on(cpu), virtual_ids("virtio_blk"))
        assert f"/{cpu}/" in found.package.path


def test_which_windows_a_machine_has() -> None:
    told = windows_of(Machine("s", system="Windows Server 2019 Standard", kernel="10.0.17763"))
    assert told == Windows((10, 0), 17763, "", server=True)
    assert windows_of(Machine("w", system="Windows 7", kernel="6.1")) == Windows((6, 1))


def test_a_target_asks_for_what_it_has(store: DriverStore, tmp_path: Path) -> None:
    store.add(rst(tmp_path / "rst"))
    vmd = pci_ids(0x8086, 0x9A0B, 0x0B0E1028, 0, 0x010400)
    asked = {"version": [10, 0], "build": 19045, "architecture": "amd64", "server": False}
    raw = store.parcel_asked({**asked, "ids": list(vmd)})
    assert "iaStorVD.sys" in paths(raw, tmp_path / "a")
    assert store.parcel_asked({**asked, "ids": list(virtual_ids("virtio_blk"))}) == b""
    assert store.parcel_asked({**asked, "version": [6, 1], "ids": list(vmd)}) == b""
    for wrong in ({}, {**asked, "ids": 5}, {**asked, "version": [10], "ids": []}):
        with pytest.raises(NotfallError) as told:
            store.parcel_asked(wrong)
        assert told.value.code == "drivers-bad-question"


def test_the_page_tells_sets(store: DriverStore, tmp_path: Path) -> None:
    store.add(virtio_win(tmp_path / "virtio"))
    (only,) = sets_of(store.list().drivers)
    assert (only.name, only.count) == ("virtio", 6)
    assert only.systems == ("10, Server 2016 (64 bit)", "7, Server 2008 R2 (64 bit)")


def test_a_link_in_a_folder_is_not_followed(store: DriverStore, tmp_path: Path) -> None:
    secret = tmp_path / "secret.sys"
    secret.write_text("secret")
    source = rst(tmp_path / "rst")
    driver = next(source.rglob("*.sys"))
    driver.unlink()
    driver.symlink_to(secret)
    with pytest.raises(NotfallError, match=r"iaStorVD\.sys is missing"):
        store.add(source)
