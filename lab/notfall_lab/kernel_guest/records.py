"""Runs in the storage guest: writes numbered records everywhere, and later tells what is there.

``records.py write``: record n goes to each place in turn, synced, before n + 1 goes anywhere.
``records.py check``: on the stand-in; prints JSON. Part of the lab only.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

PLACES = (
    *("/root", "/m/bigalloc", "/m/inline", "/m/spread", "/m/mirror", "/m/secret"),
    *("/m/sector", "/m/sector-btrfs", "/m/bare"),
)
QUIET = "/m/esp"
"""FAT can't be frozen: it is written before, as a boot partition is."""
RECORD = 600
MOST = 20_000
CHECKS = {
    "ext4": ("e2fsck", "-fn"),
    "xfs": ("xfs_repair", "-n"),
    "btrfs": ("btrfs", "check", "--readonly"),
    "vfat": ("fsck.fat", "-n"),
}


def run(line: str, text: str = "") -> str:
    done = subprocess.run(
        ["sh", "-c", line], input=text, capture_output=True, text=True, check=False
    )
    return (done.stdout if not done.returncode else f"{done.returncode} {done.stderr}").strip()


def write() -> None:
    streams = [open(f"{place}/records", "wb", buffering=0) for place in PLACES]  # noqa: SIM115
    for number in range(MOST):
        for stream in streams:
            stream.write(struct.pack(">Q", number) + os.urandom(RECORD - 8))
            os.fdatasync(stream.fileno())
        time.sleep(0.3)


def records(place: str) -> int:
    """How many records there are; -1 if one is missing."""
    content = Path(f"{place}/records").read_bytes()
    numbers = [
        struct.unpack_from(">Q", content, at)[0]
        for at in range(0, len(content) - RECORD + 1, RECORD)
    ]
    return len(numbers) if numbers == list(range(len(numbers))) else -1


def hashes(place: str) -> dict[str, str]:
    return {
        str(one): hashlib.sha256(one.read_bytes()).hexdigest()
        for one in sorted(Path(place).glob("fixed*"))
    }


def check_filesystems() -> list[str]:
    """What is wrong with the filesystems below /m, which are unmounted for it."""
    told = []
    lines = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    for device, place, kind, *_ in lines:
        if not place.startswith("/m/"):
            continue
        told.append(run(f"umount {place}"))
        done = subprocess.run([*CHECKS[kind], device], capture_output=True, text=True, check=False)
        if done.returncode and not _only_in_use(done.stdout):
            told.append(f"{device} {done.returncode} {done.stdout}{done.stderr}"[-800:])
    return [one for one in told if one]


def _only_in_use(output: str) -> bool:
    """FAT has a flag that says it was mounted, which it was; nothing else may be wrong with it."""
    usual = (
        "fsck.fat ",
        "Dirty bit is set",
        " Automatically removing dirty bit",
        "Leaving ",
        "/dev/",
    )
    lines = [line for line in output.splitlines() if line]
    return "Dirty bit is set" in output and all(line.startswith(usual) for line in lines)


def check_mirror() -> dict[str, Any]:
    """The array, then each of its members alone: both must have the same."""
    name = next(iter(Path("/sys/block").glob("md*"))).name
    node = Path(f"/sys/block/{name}/md")
    told: dict[str, Any] = {"degraded": (node / "degraded").read_text().strip(), "members": {}}
    while (node / "sync_action").read_text().strip() != "idle":
        time.sleep(0.5)
    members = sorted(one.name.removeprefix("dev-") for one in node.glob("dev-*"))
    run("vgchange -an vault")
    told["stopped"] = run(f"mdadm --stop /dev/{name} 2>/dev/null")
    for one in members:
        run(f"mdadm --assemble --run --readonly /dev/md9 /dev/{one}; vgchange -ay vault")
        run("mount -o ro,norecovery /dev/mapper/vault-data /m/mirror")
        told["members"][one] = {"records": records("/m/mirror"), "hashes": hashes("/m/mirror")}
        run("umount /m/mirror; vgchange -an vault; mdadm --stop /dev/md9")
    return told


def check() -> dict[str, Any]:
    told: dict[str, Any] = {
        "records": {place: records(place) for place in PLACES},
        "hashes": {name: one for place in PLACES for name, one in hashes(place).items()},
        "root": run("findmnt -n -o SOURCE /"),
        "swaps": run("tail -n +2 /proc/swaps").splitlines(),
        "failed": run("systemctl --failed --no-legend --plain"),
        "secret": run("lsblk -n -o TYPE /dev/mapper/secret"),
        "sector": run("lsblk -n -d -o LOG-SEC /dev/vde"),
    }
    told["hashes"].update(hashes(QUIET))
    told["broken"] = check_filesystems()
    told["mirror"] = check_mirror()
    return told


if __name__ == "__main__":
    if sys.argv[1] == "write":
        write()
    else:
        print(json.dumps(check()))
