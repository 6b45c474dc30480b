"""Runs in a kernel guest when the storage guest's image is made: lays out its disks.

LVM, md and LUKS need a kernel that has them, which the machine that builds images may not have.
Prints as JSON where the root volume lies, and what fstab and crypttab must name. Part of the
lab only.
"""

from __future__ import annotations

import json
import os
import subprocess
import traceback
from pathlib import Path
from typing import Any

LVM = """activation { udev_sync = 0 udev_rules = 0 }
devices { obtain_device_list_from_udev = 0 }
backup { backup = 0 archive = 0 }
"""
TABLES = {
    "vdc": "label: dos\nsize=96M, type=83, bootable\ntype=8e\n",
    "vdd": "label: gpt\nsize=40M, type=U\nsize=64M, type=S\nsize=64M\nsize=64M\nsize=200M\n",
    "vde": "label: gpt\nsize=350M\nsize=60M\n",
    "vdf": "label: gpt\nsize=360M\n",
    "vdg": "label: gpt\nsize=64M\nsize=140M\n",
}
EXT4 = ("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0")
XFS = ("mkfs.xfs", "-q", "-f")
FILESYSTEMS: dict[str, tuple[str, tuple[str, ...]]] = {
    "/boot": ("/dev/vdc1", EXT4),
    "/m/esp": ("/dev/vdd1", ("mkfs.fat", "-F", "16")),
    "/m/bigalloc": ("/dev/vdd3", (*EXT4, "-O", "bigalloc", "-C", "16384")),
    "/m/inline": ("/dev/vdd4", (*EXT4, "-O", "inline_data", "-I", "256")),
    "/m/spread": ("/dev/mapper/sys-spread", EXT4),
    "/m/mirror": ("/dev/mapper/vault-data", (*XFS, "-m", "rmapbt=1")),
    "/m/secret": ("/dev/mapper/secret", EXT4),
    "/m/sector": ("/dev/vdg1", EXT4),
    "/m/sector-btrfs": ("/dev/vdg2", ("mkfs.btrfs", "-q", "-f", "-m", "single")),
    "/m/bare": ("/dev/vdh", (*XFS, "-m", "rmapbt=0")),
}
OPTIONS = {"/m/spread": "data=journal"}
LIGHT = ("--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000")


def run(*words: str, text: str = "") -> str:
    done = subprocess.run(words, input=text, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{words}: {done.returncode}: {done.stdout}{done.stderr}")
    return done.stdout


def uuid(device: str) -> str:
    return run("blkid", "-p", "-s", "UUID", "-o", "value", device).strip()


def lay_out() -> dict[str, Any]:
    os.environ["LVM_SYSTEM_DIR"] = "/tmp"
    Path("/tmp/lvm.conf").write_text(LVM)
    run("modprobe", "-a", "dm_mod", "dm_crypt", "md_mod", "raid1", "vfat", "btrfs", "xfs")
    for disk, table in TABLES.items():
        run("sfdisk", "-q", f"/dev/{disk}", text=table)
    mirror = ("--level=1", "--raid-devices=2", "--metadata=1.2", "--bitmap=internal")
    members = ("--assume-clean", "/dev/vde1", "/dev/vdf1")
    run("mdadm", "--create", "--run", "--quiet", "/dev/md1", *mirror, *members)
    lines = (
        "vgcreate -y -s 4M sys /dev/vdc2 /dev/vdd5",
        "lvcreate -y -Wn -Zn -n root -l 340 sys /dev/vdc2:0-339",
        "lvcreate -y -Wn -Zn -n spread -l 10 sys /dev/vdc2:350-359",
        "lvextend -y sys/spread -l +20 /dev/vdd5:15-34",
        "lvextend -y sys/spread -l +5 /dev/vdc2:370-374",
        "vgcreate -y -s 4M vault /dev/md1",
        "lvcreate -y -Wn -Zn -n data -l 76 vault",
        "vgmknodes",
    )
    run("lvm", text="".join(f"{one}\n" for one in lines))
    Path("/tmp/key").write_bytes(os.urandom(64))
    run("cryptsetup", "-q", "luksFormat", *LIGHT, "/dev/vde2", "/tmp/key")
    run("cryptsetup", "open", "--key-file", "/tmp/key", "/dev/vde2", "secret")
    fstab = ["/dev/mapper/sys-root / ext4 errors=remount-ro 0 1"]
    for place, (device, command) in FILESYSTEMS.items():
        run(*command, device)
        kind = uuid_kind(device)
        name = device if device.startswith("/dev/mapper/") else f"UUID={uuid(device)}"
        fstab.append(f"{name} {place} {kind} {OPTIONS.get(place, 'defaults')} 0 0")
    run("mkswap", "/dev/vdd2")
    fstab += [f"UUID={uuid('/dev/vdd2')} none swap sw 0 0", "/swapfile none swap sw 0 0"]
    bare = ("--noheadings", "--units", "b", "--nosuffix")
    start = run("lvm", "pvs", *bare, "-o", "pe_start", "/dev/vdc2")
    part = int(Path("/sys/class/block/vdc2/start").read_text()) * 512
    answer = {
        "root": part + int(start.strip()),
        "boot": int(Path("/sys/class/block/vdc1/start").read_text()) * 512,
        "boot_uuid": uuid("/dev/vdc1"),
        "fstab": fstab,
        "crypttab": f"secret UUID={uuid('/dev/vde2')} /etc/secret.key luks",
        "key": Path("/tmp/key").read_bytes().hex(),
    }
    run("cryptsetup", "close", "secret")
    run("lvm", "vgchange", "-an", "vault", "sys")
    run("mdadm", "--stop", "/dev/md1")
    return answer


def uuid_kind(device: str) -> str:
    return run("blkid", "-p", "-s", "TYPE", "-o", "value", device).strip()


def main() -> dict[str, Any]:
    try:
        return lay_out()
    except Exception:
        return {"error": traceback.format_exc()}


print(json.dumps(main()))
