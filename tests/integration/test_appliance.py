"""The appliance on a real image through libvirt: adapt, check, show files."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from hashlib import blake2b, sha256
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pytest
from agent_receiver import command, loop_device, mounted

from notfall_lab.cache import base_directory
from notfall_lab.image import make_image
from notfall_lab.own_lab import own_lab
from notfall_lab.patience import PATIENCE_S
from notfall_lab.recipe_guest import UEFI
from notfallserver.server.cycle.files import present
from notfallserver.server.cycle.rehearsal.filesystems import read_checks
from notfallserver.server.pool.proof import VolumeState
from notfallserver.server.rescue_medium import Medium, build_medium
from notfallserver.server.vm.appliance import run_appliance, serving_files
from notfallserver.server.vm.libvirt import LibvirtHypervisor
from notfallserver.server.vm.spec import Accelerator
from notfallserver.wire.errors import NotfallError

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

LIMIT_S = 900
MIB = 1 << 20


@pytest.fixture(scope="module")
def hypervisor() -> Iterator[LibvirtHypervisor]:
    folder = Path(mkdtemp(prefix="nfl-"))
    with own_lab("guest", folder, net=21) as lab:
        yield LibvirtHypervisor(lab.uri)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def medium(tmp_path_factory: pytest.TempPathFactory) -> Medium:
    folder = tmp_path_factory.mktemp("medium")
    return build_medium(folder, ["https://127.0.0.1:1"], "", base_directory() / "rescue")


@pytest.fixture
def disks(tmp_path: Path) -> list[Path]:
    return make_image(UEFI).copy_to(tmp_path / "image")


def content_of(disk: Path) -> str:
    """The same for the same content: a hole counts as zeros do, and costs nothing."""
    digest = blake2b()
    zeros = bytes(MIB)
    with disk.open("rb", 0) as stream:
        end = os.fstat(stream.fileno()).st_size
        at = 0
        while at < end:
            try:
                at = os.lseek(stream.fileno(), at, os.SEEK_DATA) // MIB * MIB
            except OSError:  # nothing but a hole
                break
            stream.seek(at)
            piece = stream.read(MIB)
            if piece != zeros[: len(piece)]:
                digest.update(at.to_bytes(8, "big") + piece)
            at += MIB
    return digest.hexdigest()


def adaptation(driver: str, role: str, mac: str) -> dict[str, Any]:
    nic = {"name": UEFI.nic, "mac": mac, "old_mac": UEFI.mac, "driver": "e1000e"}
    disks = [{"name": name, "size": 1 << 30} for name in ("vda", "vdb")]
    return {
        "task": "adapt",
        "machine": {"hostname": UEFI.name, "firmware": "uefi", "disks": disks},
        "hardware": {
            "firmware": "uefi",
            "role": role,
            "disks": [{"driver": driver}] * 2,
            "nics": [nic],
        },
    }


def test_adaptation_is_done_once_and_leaves_clean_filesystems(
    hypervisor: LibvirtHypervisor, medium: Medium, disks: list[Path], tmp_path: Path
) -> None:
    """What is damaged beside is seen, and which files are as they were told."""

    def run(job: dict[str, Any]) -> dict[str, Any]:
        return run_appliance(hypervisor, medium, disks, job, LIMIT_S, Accelerator.TCG)

    before = [content_of(one) for one in disks]
    looked = run({"task": "look"})
    assert (looked["ok"], looked["hostname"]) == (True, UEFI.name), looked
    (card,) = looked["nics"]
    addresses = [one.split("/")[0] for one in card["addresses"]]
    assert (card["name"], addresses) == (UEFI.nic, [UEFI.address, UEFI.address6])
    points = {one["mountpoint"] for one in looked["volumes"]}
    assert {"/", "/boot/efi", "/var/lib/postgresql"} <= points
    assert [content_of(one) for one in disks] == before
    job = adaptation("nvme", "primary", "52:54:00:aa:bb:cc")
    first = run(job)
    assert first["ok"], first
    assert any("now with nvme" in one for one in first["changes"])
    second = run(job)
    assert (second["ok"], second["changes"]) == (True, [])
    told = files_in(disks[0], tmp_path)
    changed = {**told[0], "path": told[1]["path"]}
    disks.append(damaged_disk(tmp_path))
    answer = run({"task": "check", "sample": [*told, changed]})
    checks = read_checks(answer["checks"])
    (damaged,) = (one for one in checks if one.state is VolumeState.DAMAGED)
    assert (damaged.volume, damaged.filesystem) == ("disk2", "ext4") and damaged.told, checks
    states = {(one.filesystem, one.state) for one in checks if one is not damaged}
    clean = {(kind, VolumeState.CLEAN) for kind in ("ext4", "vfat")}
    assert states == {*clean, ("swap", VolumeState.SKIPPED)}, checks
    assert (answer["compared"], answer["differing"]) == (3, [changed["path"]])


def files_in(disk: Path, folder: Path) -> list[dict[str, Any]]:
    """Two files of a system, as its agent would have told of them."""
    names = ("usr/lib/os-release", "usr/bin/env")
    place = folder / "looked-at"
    with loop_device(disk) as device, mounted(f"{device}p2", place, "-o", "ro,noload"):
        uuid = command("blkid", "-p", "-s", "UUID", "-o", "value", f"{device}p2")
        files = [(place / one).resolve() for one in names]
        contents = [one.read_bytes() for one in files]
    return [
        {
            "filesystem": uuid,
            "path": f"/{file.relative_to(place.resolve())}",
            "size": len(content),
            "sha256": sha256(content).hexdigest(),
        }
        for file, content in zip(files, contents, strict=True)
    ]


def damaged_disk(folder: Path) -> Path:
    """With an ext4 in which a file has lost its inode."""
    disk = folder / "damaged"
    with disk.open("xb") as stream:
        stream.truncate(32 << 20)
    command("mkfs.ext4", "-q", disk)
    with mounted(str(disk), folder / "filled") as place:
        (place / "lost").write_bytes(bytes(range(256)) * 40)
    command("debugfs", "-w", "-R", "clri lost", disk)
    return disk


def test_an_empty_image_is_refused_in_words(
    hypervisor: LibvirtHypervisor, medium: Medium, tmp_path: Path
) -> None:
    disk = tmp_path / "disk"
    with disk.open("xb") as file:
        file.truncate(64 << 20)
    job = adaptation("virtio_blk", "stand-in", UEFI.mac)
    answer = run_appliance(hypervisor, medium, [disk], job, LIMIT_S, Accelerator.TCG)
    assert answer["ok"] is False
    assert answer["error"]["code"] == "no-system"


def test_files_are_shown_and_the_image_is_not_changed(
    hypervisor: LibvirtHypervisor, medium: Medium, disks: list[Path], tmp_path: Path
) -> None:
    if not Path("/dev/fuse").exists():
        pytest.skip("this machine has no FUSE")
    shown = tmp_path / "shown"
    before = [content_of(one) for one in disks]
    with serving_files(hypervisor, medium, disks, Accelerator.TCG) as served:
        process = present(served, shown)
        mounts = {one.name: one.mount for one in served.volumes}
        assert (
            mounts["disk0-part2-root"] == "/"
            and mounts["disk1-part1-data"] == "/var/lib/postgresql"
        )
        copied = shutil.copy(shown / "disk0-part2-root/etc/hostname", tmp_path / "copied")
        assert Path(copied).read_text() == UEFI.name + "\n"
        with pytest.raises(OSError):
            (shown / "disk0-part2-root/etc/hostname").write_text("changed")
        subprocess.run(["umount", shown], check=True)
        process.wait(PATIENCE_S)
    assert [content_of(one) for one in disks] == before


def test_an_appliance_that_cannot_start_is_an_error(
    hypervisor: LibvirtHypervisor, medium: Medium, tmp_path: Path
) -> None:
    with pytest.raises(NotfallError):
        run_appliance(
            hypervisor, medium, [tmp_path / "absent"], {"task": "check"}, 20, Accelerator.TCG
        )
