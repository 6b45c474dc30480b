"""Runs in a kernel guest: storage in layers, and whether the agent's two claims about it hold.

First: every block whose content changed was marked by the write tracker, whatever it was written
through. Second: what the census calls free can be zeroed, and all is still there. Prints JSON.
Part of the lab only.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import subprocess
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, "/mnt/payload/agent.pyz")

from notfallserver.agent.changes.base import merge
from notfallserver.agent.changes.ledger import watched_of
from notfallserver.agent.changes.tracker import Tracker
from notfallserver.agent.disks.base import Protected
from notfallserver.agent.disks.direct import DirectDisk
from notfallserver.agent.disks.fitness import check_fitness
from notfallserver.agent.disks.linux import protected_disks
from notfallserver.agent.disks.mounts import current_mounts
from notfallserver.agent.disks.used import Census, used_runs
from notfallserver.agent.freeze.linux import write_out
from notfallserver.wire.blocks import BLOCK
from notfallserver.wire.facts import Machine

MIB = 1 << 20
PIECE = 8 * MIB
NAMES = ["vdc", "vdd", "vde", "vdf", "vdg"]
GPT = {
    "vdc": "label: gpt\nsize=14M\nsize=30M\nsize=16M\n",  # ext4; PV; LUKS
    "vde": "label: gpt\nsize=26M\nsize=8M\n",  # RAID 1; RAID 0
    "vdf": "label: gpt\nsize=30M\nsize=8M\n",
}
LVM = """activation { udev_sync = 0 udev_rules = 0 }
devices { obtain_device_list_from_udev = 0 }
backup { backup = 0 archive = 0 }
"""
PLACES = {
    "plain": "/dev/vdc1",
    "linear": "/dev/mapper/vg-data",
    "secret": "/dev/mapper/secret",
    "mirror": "/dev/mapper/vault-data",
    "bare": "/dev/vdg",
}


def run(*words: str, text: str = "") -> str:
    done = subprocess.run(words, input=text, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{words}: {done.returncode}: {done.stdout}{done.stderr}")
    return done.stdout


def lvm(*lines: str) -> str:
    """Several commands in one process: each start costs a second under emulation."""
    return run("lvm", text="".join(f"{one}\n" for one in lines))


def build() -> None:
    os.environ["LVM_SYSTEM_DIR"] = "/tmp"
    Path("/tmp/lvm.conf").write_text(LVM)
    run("modprobe", "-a", "dm_mod", "dm_crypt", "md_mod", "raid1", "raid0", "ext4", "brd")
    for disk, table in GPT.items():
        run("sfdisk", "-q", f"/dev/{disk}", text=table)
    # Three segments on two disks, with gaps that belong to nobody.
    lvm(
        "vgcreate -y -s 1M vg /dev/vdc2 /dev/vdd",
        "lvcreate -y -Wn -Zn -n data -l 8 vg /dev/vdc2:4-11",
        "lvextend -y vg/data -l +6 /dev/vdd:8-13",
        "lvextend -y vg/data -l +6 /dev/vdc2:16-21",
    )
    key = "/tmp/key"
    Path(key).write_bytes(os.urandom(64))
    light = ("--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000")
    small = ("--luks2-metadata-size", "16k", "--luks2-keyslots-size", "256k")
    run("cryptsetup", "-q", "luksFormat", *light, *small, "/dev/vdc3", key)
    run("cryptsetup", "open", "--key-file", key, "/dev/vdc3", "secret")
    base = ("mdadm", "--create", "--run", "--quiet")
    mirror = (
        "--level=1",
        "--raid-devices=2",
        "--metadata=1.2",
        "--bitmap=internal",
        "--assume-clean",
    )
    run(*base, "/dev/md1", *mirror, "/dev/vde1", "/dev/vdf1")
    run(*base, "/dev/md2", "--level=0", "--raid-devices=2", "/dev/ram1", "/dev/ram2")
    run(*base, "/dev/md0", "--level=0", "--raid-devices=2", "/dev/vde2", "/dev/vdf2")
    lvm(
        "vgcreate -y -s 1M vault /dev/md1",
        "lvcreate -y -Wn -Zn -n data -l 16 vault",
        "vgmknodes",
    )
    for name, device in PLACES.items():
        run("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0", device)
        Path(f"/mnt/{name}").mkdir()
        run("mount", device, f"/mnt/{name}")
        for number in range(4):
            Path(f"/mnt/{name}/file{number}").write_bytes(os.urandom(MIB // 3 + number * 1111))


def write_more() -> None:
    """Through every layer, by files, mapped memory and past the page cache."""
    for name in PLACES:
        with open(f"/mnt/{name}/new", "wb") as stream:
            stream.write(os.urandom(500_000))
            os.fsync(stream.fileno())
        with (
            open(f"/mnt/{name}/file1", "r+b") as mapped,
            mmap.mmap(mapped.fileno(), 0) as memory,
        ):
            memory[200_000:200_100] = os.urandom(100)
            memory.flush()
        Path(f"/mnt/{name}/file3").unlink()
    for device in ("/dev/md0", "/dev/ram0", "/dev/md2"):
        handle = os.open(device, os.O_RDWR | os.O_DIRECT)
        size = os.lseek(handle, 0, os.SEEK_END)
        with mmap.mmap(-1, 8192) as buffer:
            for part in range(1, 12):
                buffer.seek(0)
                buffer.write(os.urandom(8192))
                os.pwrite(handle, buffer, size * part // 12 // 4096 * 4096)
        os.close(handle)


def contents(disk: Protected) -> Iterator[bytes]:
    """All of a disk, block by block."""
    direct = DirectDisk(disk)
    for at in range(0, disk.size, PIECE):
        piece = direct.read(at, min(PIECE, disk.size - at))
        for start in range(0, len(piece), BLOCK):
            yield piece[start : start + BLOCK]
    direct.close()


def check_tracker(disks: list[Protected]) -> dict[str, Any]:
    os.sync()
    tracker = Tracker(watched_of(disks))
    tracker.take()
    tracker.take()
    before = [list(contents(one)) for one in disks]
    write_more()
    os.sync()
    told = [tracker.take()]
    changed = [
        {number for number, (old, new) in enumerate(zip(copy, contents(disk))) if old != new}
        for copy, disk in zip(before, disks)
    ]
    told += [tracker.take(), tracker.take()]
    found = {}
    for index, disk in enumerate(disks):
        every = merge(told[0][index], merge(told[1][index], told[2][index]))
        marked = {at for first, count in every for at in range(first, first + count)}
        found[disk.name] = {
            "changed": len(changed[index]),
            "marked": len(marked),
            "missed": len(changed[index] - marked),
            "blocks": disk.blocks,
        }
    broken = tracker.broken()
    tracker.close()
    return {"broken": broken, "disks": found}


def hashes() -> dict[str, str]:
    found = {}
    for name in PLACES:
        for file in sorted(Path(f"/mnt/{name}").glob("[fn]*")):
            found[f"{name}/{file.name}"] = hashlib.sha256(file.read_bytes()).hexdigest()
    return found


def unused(disks: list[Protected]) -> list[list[int]]:
    """Runs of blocks that the census calls free, per disk."""
    direct = [DirectDisk(one) for one in disks]
    census = Census(direct, current_mounts())
    used = used_runs(disks, census.free_space())
    census.close()
    for one in direct:
        one.close()
    free = []
    for disk, runs in zip(disks, used):
        taken = {b for first, count in runs for b in range(first, first + count)}
        free.append([b for b in range(disk.blocks) if b not in taken])
    return free


def check_census(disks: list[Protected]) -> dict[str, Any]:
    """Zero what is free below everything, then look at all of it again."""
    write_out([[one] for one in current_mounts()])
    before = hashes()
    free = unused(disks)
    for name in PLACES:
        run("umount", f"/mnt/{name}")
    lvm("vgchange -an vg vault")
    run("cryptsetup", "close", "secret")
    run("mdadm", "--stop", "/dev/md1")
    for disk, blocks in zip(disks, free):
        handle = os.open(disk.path, os.O_WRONLY)
        for block in blocks:
            os.pwrite(handle, bytes(min(BLOCK, disk.size - block * BLOCK)), block * BLOCK)
        os.fsync(handle)
        os.close(handle)
    run("mdadm", "--assemble", "--run", "/dev/md1", "/dev/vde1", "/dev/vdf1")
    run("cryptsetup", "open", "--key-file", "/tmp/key", "/dev/vdc3", "secret")
    lvm("vgchange -ay vg vault", "vgmknodes")
    errors = []
    for name, device in PLACES.items():
        done = subprocess.run(
            ["e2fsck", "-fn", device], capture_output=True, text=True, check=False
        )
        if done.returncode:
            errors.append(f"{device}: {done.stdout}{done.stderr}")
        run("mount", device, f"/mnt/{name}")
    after = hashes()
    return {
        "free": {disk.name: len(blocks) for disk, blocks in zip(disks, free)},
        "blocks": {disk.name: disk.blocks for disk in disks},
        "files": len(before),
        "different": [name for name in before if before[name] != after.get(name)],
        "fsck": errors,
        "lvm": lvm("pvs --noheadings -o pv_name,pv_free"),
    }


def main() -> dict[str, Any]:
    told: dict[str, Any] = {"kernel": os.uname().release}
    try:
        build()
        disks = protected_disks([f"/dev/{one}" for one in NAMES])
        check_fitness(Machine("probe"), disks, current_mounts())
        # RAM disks have no request queues, and RAID 0 passes I/O on without queuing it again.
        without_queues = protected_disks([f"/dev/ram{number}" for number in range(3)])
        told["tracker"] = check_tracker([*disks, *without_queues])
        told["census"] = check_census(disks)
    except Exception:
        told["error"] = traceback.format_exc()
    return told


print(json.dumps(main()))
