"""What must hold for versions without any software of ours: clean filesystems, and they boot."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

from notfall_lab.patience import BOOT_S
from notfall_lab.world import World

LOGIN = b"login:"


def version_directories(world: World, name: str) -> list[Path]:
    """All versions of a primary in the pool, oldest first, as the server's machine sees them."""
    uuid = world.primary(name)["uuid"]
    versions = world.directory / "data" / "pool" / uuid / "versions"
    listed = world.lab.run_in(["ls", "-1", versions]).stdout.split()
    return [versions / one for one in sorted(listed)]


def check_filesystems(world: World, name: str) -> Iterator[tuple[str, bool, str]]:
    """``e2fsck -fn`` on every ext4 of every version that an agent made: (what, clean, output)."""
    for version in version_directories(world, name):
        manifest = json.loads(world.lab.run_in(["cat", version / "manifest.json"]).stdout)
        if manifest["kind"] != "replication":
            continue  # a capture of a running machine replays its journal first
        for index, disk in enumerate(manifest["machine"]["disks"]):
            for partition in disk["partitions"]:
                if partition["filesystem"] == "ext4":
                    raw = version / f"disk{index}.raw"
                    yield _check(world, raw, partition["start"], partition["size"])


def _check(world: World, raw: Path, start: int, size: int) -> tuple[str, bool, str]:
    losetup = ["losetup", "-r", "-f", "--show", "-o", str(start), "--sizelimit", str(size)]
    device = world.lab.run_in([*losetup, raw]).stdout.strip()
    try:
        done = world.lab.run_in(["e2fsck", "-fn", device], check=False, timeout=300)
    finally:
        world.lab.run_in(["losetup", "-d", device])
    told = (done.stdout + done.stderr).strip()[-300:]
    return f"e2fsck -fn {raw.parent.name}/{raw.name}+{start}", done.returncode == 0, told


def boots_bare(world: World, name: str) -> bool:
    """Whether the first version, of the machine with its own disks only, starts in plain QEMU."""
    for version in version_directories(world, name):
        manifest = json.loads(world.lab.run_in(["cat", version / "manifest.json"]).stdout)
        if manifest["kind"] == "replication":
            break
    else:
        return False
    console = world.directory / "bare.log"
    drives = [
        part
        for index in range(len(manifest["disks"]))
        for part in (
            "-drive",
            f"file={version}/disk{index}.raw,format=raw,if=virtio,snapshot=on",
        )
    ]
    machine = world.lab.popen_in(
        [
            *("qemu-system-x86_64", "-accel", "tcg", "-m", "768", "-nic", "none"),
            *("-display", "none", "-serial", f"file:{console}", *drives),
        ]
    )
    try:
        until = time.monotonic() + BOOT_S
        while time.monotonic() < until and machine.poll() is None:
            if console.exists() and LOGIN in console.read_bytes():
                return True
            time.sleep(1)
        return False
    finally:
        world.lab.signal_in(machine, 9)
        machine.wait(timeout=30)
