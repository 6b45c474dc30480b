"""A server whose copies can be opened: real images, a real rescue medium, a hypervisor."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import libvirt
from hand_agent import HandAgent
from machines_scene import server_with_machines
from server_process import ServerProcess

from notfallserver.server.vm.appliance import appliance_name

MIB = 1 << 20
SIZE = 64 * MIB
OPEN_S = 330.0
"""An emulated appliance on a busy machine."""
LETTER = os.urandom(3 * MIB + 1)
HUGE = 4 << 30
MANY = 450


@dataclass(frozen=True)
class FilesScene:
    """``shop`` has two volumes: ``/`` with all that is odd, and ``/srv`` with a letter."""

    server: ServerProcess
    uri: str
    uuid: str
    stamps: list[str]

    @property
    def clones(self) -> Path:
        return self.server.data / "pool" / self.uuid / "work"

    def path(self, stamp: str = "") -> str:
        return f"/api/v1/primaries/shop/versions/{stamp or self.stamps[0]}/files"

    def opened(self, stamp: str = "") -> dict[str, Any]:
        """The copy is open when this returns."""
        with self.server.root() as root:
            answer = root.post(self.path(stamp))
            assert answer.status_code == 202, answer.text
            until = time.monotonic() + OPEN_S
            while (told := root.get(self.path(stamp)).json())["phase"] != "open":
                assert told["phase"] != "failed" and time.monotonic() < until, told
                time.sleep(0.2)
        found: dict[str, Any] = told
        return found

    def volume(self, mount: str) -> str:
        """The name of the volume that the server has at ``mount``."""
        (found,) = (one for one in self.opened()["volumes"] if one["mount"] == mount)
        return str(found["name"])

    def appliances(self) -> list[str]:
        """The machines that run and show copies."""
        shown = {appliance_name(self.clones / f"browse-{stamp}") for stamp in self.stamps}
        with libvirt.open(self.uri) as connection:
            return [one.name() for one in connection.listAllDomains() if one.name() in shown]


def make_disk(folder: Path) -> bytes:
    """A disk with two filesystems, made without mounting anything."""
    root, data = folder / "root", folder / "data"
    for one in ("etc", "usr", "var/log", "many", "deep/er/down"):
        (root / one).mkdir(parents=True)
    (root / "etc/hostname").write_text("shop\n")
    (root / "etc/fstab").write_text("LABEL=root / ext4 defaults 0 1\n")
    (root / "etc/name").symlink_to("/etc/hostname")
    (root / "etc/passwd").symlink_to("../../../../../../etc/shadow")
    (root / "deep/er/down/Invoice 2026.pdf").write_bytes(b"%PDF")
    (root / ".hidden").write_text("h")
    odd = root / "odd"
    odd.mkdir()
    for name in (b"caf\xe9", b"two\nlines", b"<b>bold</b>".replace(b"/", b"\\"), b"100% #1?&=+"):
        Path(os.fsdecode(os.fsencode(odd) + b"/" + name)).write_bytes(name)
    (odd / ("very-long-" * 24)).touch()
    os.mkfifo(odd / "pipe")
    os.mknod(odd / "memory", 0o600 | 0o020000, os.makedev(1, 1))
    for at in range(MANY):
        (root / "many" / f"file {at}").touch()
    data.mkdir()
    (data / "letter.bin").write_bytes(LETTER)
    (data / "page.html").write_text("<script>alert(1)</script>")
    with (data / "huge").open("wb") as file:
        file.truncate(HUGE)
    disk = folder / "disk"
    with disk.open("xb") as file:
        file.truncate(SIZE)
    table = f"label: gpt\nsize={30 * MIB // 512}\nsize={30 * MIB // 512}\n"
    subprocess.run(["sfdisk", "-q", disk], input=table, text=True, check=True)
    for at, (tree, label) in enumerate(((root, "root"), (data, "data"))):
        begin = MIB + at * 30 * MIB
        line = ["mkfs.ext4", "-q", "-F", "-L", label, "-d", str(tree), "-E", f"offset={begin}"]
        subprocess.run([*line, disk, f"{30 * 1024}k"], check=True)
    return disk.read_bytes()


@contextmanager
def files_scene() -> Iterator[FilesScene]:
    with server_with_machines("files", 22) as server, ExitStack() as stack:
        folder = server.directory.parent
        (folder / "disk").mkdir()
        agent = HandAgent(server, "shop", make_disk(folder / "disk"))
        stack.callback(agent.close)
        partition = {"number": 2, "start": 31 * MIB, "size": 30 * MIB, "mountpoint": "/srv"}
        agent.machine["disks"][0]["partitions"] = [partition]
        agent.poll()
        stamps = [agent.protect() for _ in range(4)][::-1]
        yield FilesScene(server, str(server.settings["libvirt_uri"]), agent.uuid, stamps)
