"""The storage matrix: replicated under write load, booted as stand-in, looked at there.

One guest holds it (``notfall_lab/recipe_storage.py``): root on LVM, LVM over two disks, md RAID 1
below LVM, LUKS, sectors of 4096 bytes, a bare disk, and variants of ext4, XFS, Btrfs, FAT, swap.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from notfall_lab.guestshell import GuestShell
from notfall_lab.hands import COPY_S
from notfall_lab.kernels import PROGRAMS
from notfall_lab.machine import Hardware, Machine
from notfall_lab.patience import BOOT_S, PATIENCE_S
from notfall_lab.proofs import version_directories
from notfall_lab.recipe_storage import SIZES_MIB, STORAGE, storage_disks
from notfall_lab.world import Tuning, World
from notfallserver.wire.blocks import BLOCK

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

PLACES = (
    *("/root", "/m/bigalloc", "/m/inline", "/m/spread", "/m/mirror", "/m/secret"),
    *("/m/sector", "/m/sector-btrfs", "/m/bare", "/m/esp"),
)
RECORDS = "/usr/local/lib/records.py"


@pytest.fixture
def directory() -> Iterator[Path]:
    """A short path: sockets lie below it."""
    path = Path(tempfile.mkdtemp(prefix="nf-e2e-", dir="/var/tmp"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


def start_primary(world: World) -> tuple[Machine, GuestShell]:
    folder = world.directory / "m-vault"
    hardware = Hardware(STORAGE.name, tuple(storage_disks(folder)), STORAGE.mac)
    machine = world.keep(Machine(hardware, folder, world.lan))
    machine.power_on()
    shell = world.shell(STORAGE)
    shell.wait(BOOT_S)
    shell.run(
        "until systemctl is-system-running | grep -qE 'running|degraded'; do sleep 1; done", 240
    )
    return machine, shell


def put_files(shell: GuestShell) -> None:
    """Files that stay, some that go before the second run, and whoever writes all the time."""
    program = (PROGRAMS / "records.py").read_text()
    shell.run(f"cat > {RECORDS} <<'END'\n{program}\nEND\n")
    for place in PLACES:
        shell.run(
            f"cd {place} && for n in 1 2 3; do head -c {400_000} /dev/urandom > fixed$n; done;"
            " head -c 3M /dev/urandom > goes; sync -f ."
        )
    shell.run(f"systemd-run --unit=records python3 {RECORDS} write")


def change_files(shell: GuestShell) -> None:
    for place in PLACES:
        shell.run(
            f"cd {place} && rm goes && head -c 500K /dev/urandom > fixed4 &&"
            " head -c 4096 /dev/urandom | dd of=fixed1 bs=1 seek=100000 conv=notrunc status=none"
            "; sync -f ."
        )


def fixed(shell: GuestShell) -> dict[str, str]:
    names = " ".join(f"{place}/fixed*" for place in PLACES)
    lines = shell.run(f"sha256sum {names}", 120).out.splitlines()
    return {name: digest for digest, name in (line.split() for line in lines)}


def used_mib(world: World) -> list[int]:
    """Of each disk of the newest version."""
    newest = version_directories(world, STORAGE.name)[-1]
    manifest = json.loads(world.lab.run_in(["cat", newest / "manifest.json"]).stdout)
    assert [one["sector"] for one in manifest["machine"]["disks"]][4] == 4096
    return [one["used"] * BLOCK >> 20 for one in manifest["disks"]]


def allocated_mib(world: World) -> list[int]:
    """Of each disk of the newest version, without what XFS sets aside for a while.

    After a write into shared blocks XFS holds a second block ready beside each, for five minutes.
    """
    world.lab.run_in(["xfs_spaceman", "-c", "prealloc -s", world.directory / "data" / "pool"])
    newest = version_directories(world, STORAGE.name)[-1]
    lines = world.lab.run_in(["du", "-BM", *(newest / f"disk{n}.raw" for n in range(6))]).stdout
    return [int(line.split("M")[0]) for line in lines.splitlines()]


@pytest.mark.long
@pytest.mark.timeout(2700)
def test_the_storage_matrix_comes_up_as_it_was_at_one_moment(directory: Path) -> None:
    with World("store", directory, Tuning(heartbeat_timeout_s=16)) as world:
        world.set_up_server()
        world.start_server()
        machine, shell = start_primary(world)
        put_files(shell)
        shell.run(world.notfall("primary", "invite", STORAGE.name)["line"], timeout=180)
        runs: list[dict[str, Any]] = []
        for _ in range(2):
            if runs:
                change_files(shell)
            expected = fixed(shell)
            job = world.notfall("replicate", STORAGE.name, "--follow", timeout=COPY_S)
            runs.append(job["result"])
        assert [one["consistency"] for one in runs] == ["filesystem", "filesystem"]
        assert runs[1]["bytes_sent"] < runs[0]["bytes_sent"] / 3
        used = used_mib(world)
        # What nobody uses is a hole, also below LVM, RAID and LUKS.
        assert all(mib < size / 2 for mib, size in zip(used[1:], SIZES_MIB[1:], strict=True)), used
        held = allocated_mib(world)
        assert all(have <= mib + 2 for have, mib in zip(held, used, strict=True)), (held, used)

        world.wait_prepared(STORAGE.name, COPY_S)
        machine.cut_power()
        world.wait_state(STORAGE.name, "outage", PATIENCE_S)
        world.notfall("activate", STORAGE.name, timeout=COPY_S)
        shell.wait(BOOT_S)
        told = json.loads(shell.run(f"python3 {RECORDS} check", 400).out)

    assert told["root"] == "/dev/mapper/sys-root"
    assert (told["secret"], told["sector"], told["failed"]) == ("crypt", "4096", "")
    assert len(told["swaps"]) == 2
    assert told["hashes"] == expected
    counts = list(told["records"].values())
    assert min(counts) > 10 and max(counts) - min(counts) <= 1, counts  # of one moment
    assert counts == sorted(counts, reverse=True), counts  # in the order of writing
    assert told["broken"] == []
    mirror = told["mirror"]
    assert mirror["degraded"] == "0" and len(mirror["members"]) == 2
    for member in mirror["members"].values():
        assert member["records"] == told["records"]["/m/mirror"]
        assert member["hashes"] == {
            name: one for name, one in expected.items() if name.startswith("/m/mirror/")
        }
