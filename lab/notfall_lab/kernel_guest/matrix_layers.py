"""Runs in a kernel guest: puts LVM, md or LUKS between a partition and the root filesystem.

``wish.json`` beside it says what; prints as JSON where the filesystem begins on the first disk, how
large it is, and what the system must know of the layers. Part of the lab only.
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
LIGHT = ("--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000")
SMALL = ("--luks2-metadata-size", "16k", "--luks2-keyslots-size", "256k")


def run(*words: str, text: str = "") -> str:
    done = subprocess.run(words, input=text, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{words}: {done.returncode}: {done.stdout}{done.stderr}")
    return done.stdout


def sectors(device: str) -> int:
    return int(Path(f"/sys/class/block/{device}/size").read_text()) * 512


def volume(device: str) -> dict[str, Any]:
    """A group with one volume, which takes all of it; where that begins on ``device``."""
    os.environ["LVM_SYSTEM_DIR"] = "/tmp"
    Path("/tmp/lvm.conf").write_text(LVM)
    lines = (
        f"vgcreate -y -s 4M vg0 {device}",
        "lvcreate -y -Wn -Zn -n root -l 100%FREE vg0",
        "vgmknodes",
    )
    run("lvm", text="".join(f"{one}\n" for one in lines))
    bare = ("--noheadings", "--units", "b", "--nosuffix")
    start = run("lvm", "pvs", *bare, "-o", "pe_start", device)
    size = run("lvm", "lvs", *bare, "-o", "lv_size", "vg0/root")
    run("lvm", "vgchange", "-an", "vg0")
    return {"offset": int(start), "size": int(size)}


def encrypted(device: str, wish: dict[str, Any]) -> dict[str, Any]:
    Path("/tmp/volume").write_bytes(bytes.fromhex(wish["key"]))
    Path("/tmp/pass").write_text(wish["passphrase"])
    run(
        *("cryptsetup", "-q", "luksFormat", "--type", "luks2", "--sector-size", "4096"),
        *(*LIGHT, *SMALL, "--cipher", "aes-xts-plain64", "--key-size", "512"),
        *("--master-key-file", "/tmp/volume", device, "/tmp/pass"),
    )
    told = json.loads(run("cryptsetup", "luksDump", "--dump-json-metadata", device))
    begin = int(told["segments"]["0"]["offset"])
    found: dict[str, Any] = {"payload": begin, "offset": begin}
    found["luks"] = run("cryptsetup", "luksUUID", device).strip()
    run("cryptsetup", "open", "--key-file", "/tmp/pass", device, "crypt")
    node = Path("/dev/mapper/crypt").stat().st_rdev
    found["size"] = sectors(
        Path(f"/sys/dev/block/{os.major(node)}:{os.minor(node)}").resolve().name
    )
    if wish["stack"] == "luks-lvm":
        inner = volume("/dev/mapper/crypt")
        found["offset"] += inner["offset"]
        found["size"] = inner["size"]
    run("cryptsetup", "close", "crypt")
    return found


def mirror(devices: list[str]) -> dict[str, Any]:
    made = ("--level=1", f"--raid-devices={len(devices)}", "--metadata=1.2", "--assume-clean")
    run("mdadm", "--create", "--run", "--quiet", "/dev/md0", *made, "--name=0", *devices)
    member = Path(f"/sys/block/md0/md/dev-{Path(devices[0]).name}/offset")
    found: dict[str, Any] = {"offset": int(member.read_text()) * 512, "size": sectors("md0")}
    found["array"] = run("mdadm", "--detail", "--brief", "/dev/md0").strip()
    run("mdadm", "--stop", "/dev/md0")
    return found


def main() -> dict[str, Any]:
    try:
        wish = json.loads((Path(__file__).parent / "wish.json").read_text())
        run("modprobe", "-a", "dm_mod", "dm_crypt", "md_mod", "raid1")
        first, *more = (f"/dev/{disk}{wish['part']}" for disk in ("vdc", "vdd"))
        if wish["stack"] == "raid":
            return mirror([first, *more])
        if wish["stack"] == "lvm":
            return volume(first)
        return encrypted(first, wish)
    except Exception:
        return {"error": traceback.format_exc()}


print(json.dumps(main()))
