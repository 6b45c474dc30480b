"""A Windows server from its package to its stand-in: under Wine, and on the level of images.

The package is installed silently, its service enrols at a real server and replicates a real NTFS
volume on order; the server adapts what arrived. Wine has neither disks nor VSS: those are played
(`notfall_lab.windows.played`), in a program that is the agent's own in all other respects. Nothing
here starts a Windows.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from agent_receiver import command, loop_device
from bare_machine import machine, wait_text
from machines_scene import server_with_machines
from server_process import ServerProcess

from notfall_lab import windows_image
from notfall_lab.cache import base_directory
from notfall_lab.patience import until
from notfall_lab.windows.bootable import (
    NTFS_AT,
    NTFS_END,
    Bootable,
    bios_seven,
    uefi_ten,
    windows_of,
)
from notfall_lab.windows.played import PlayedMachine
from notfall_lab.windows.wine import BUILT, ROOT, Wine, need_package
from notfallserver.agent import config
from notfallserver.agent.disks.windows import machine_facts, see_disks
from notfallserver.agent.line import Line
from notfallserver.agent.stop import Stop
from notfallserver.agent.windows.enrol import enrol, read_invitation
from notfallserver.agent.windows.replication import WindowsReplication
from notfallserver.server.pool.store import PrimaryStore
from notfallserver.server.rescue_medium import build_medium
from notfallserver.wire.client import Throttle

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.timeout(1200),
]
MIB = 1 << 20
PACKAGING = ROOT / "packaging" / "windows"
PATIENCE_S = 120.0
APPLIANCE_S = 400.0
"""Emulated, and the processors are shared with other tests."""
PROGRAM = r"C:\Program Files\Notfallserver\Agent\notfall-agent.exe"
MAC = "52:54:00:77:00:0c"


@dataclass
class House:
    """An emergency server with a hypervisor."""

    server: ServerProcess

    def notfall(self, *arguments: str, seconds: float = 60) -> str:
        done = self.server.notfall(*arguments, timeout=seconds)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def store(self, name: str) -> PrimaryStore:
        return self.server.pool.primary(self.primary(name)["uuid"])

    def primary(self, name: str) -> dict[str, Any]:
        with self.server.root() as root:
            answer = root.get(f"/api/v1/primaries/{name}")
            told: dict[str, Any] = answer.json()
            return told if answer.status_code == 200 else {}

    def replicate(self, name: str) -> str:
        """The new version's stamp."""
        before = self.primary(name)["newest_version"]
        self.notfall("replicate", name, "--follow", seconds=PATIENCE_S)
        newest = self.store(name).need_newest().stamp
        assert newest != before
        return newest

    def adapted(self, name: str, stamp: str) -> dict[str, Any]:
        """What the appliance did with that version, which is begun by itself."""
        store = self.store(name)
        until(lambda: store.prepared(stamp) is not None, APPLIANCE_S)
        prepared = store.prepared(stamp)
        assert prepared is not None
        return dict(prepared.record)


@contextmanager
def house() -> Iterator[House]:
    with server_with_machines("windows", 24) as server:
        yield House(server)


def given(line: str) -> list[str]:
    """Server and token, as an invitation's line gives them to the package."""
    found = re.findall(r"(?:SERVER|TOKEN)=[^\s'\"]+", line)
    assert len(found) == 2, line
    return found


def hashes(root: Path) -> dict[str, str]:
    """Of all files below it."""
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def check_version(store: PrimaryStore, stamp: str, original: Path, folder: Path) -> None:
    """Its NTFS is sound, and has every file of the original's."""
    (copy,) = (store.version(stamp).raw(0),)
    part = folder / "part.img"
    with copy.open("rb") as source, part.open("wb") as target:
        source.seek(NTFS_AT)
        target.write(source.read(NTFS_END - NTFS_AT))
    command("ntfsfix", "-n", part)
    command("ntfs-3g.probe", "--readwrite", part)
    with windows_of(original, folder, "ro") as root:
        wanted = hashes(root)
    with windows_of(copy, folder, "ro") as root:
        assert hashes(root) == wanted
    assert len(wanted) > 100  # drivers and hives


# -- under Wine ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The agent's program with played disks, packed as the real one is."""
    need_package()
    made = tmp_path_factory.mktemp("program")
    lab = ROOT / "lab" / "notfall_lab"
    entry = lab / "windows" / "played_agent.py"
    subprocess.run([PACKAGING / "program", made, entry, lab], check=True, timeout=600)
    return made


def package(program: Path, version: str) -> Path:
    made = program / f"{version}.msi"
    subprocess.run([PACKAGING / "package", version, made, program], check=True, timeout=60)
    return made


@pytest.fixture
def wine(tmp_path: Path) -> Iterator[Wine]:
    found = Wine(tmp_path)
    yield found
    found.close()


def test_by_uefi_from_the_package_to_the_stand_in(
    program: Path, wine: Wine, tmp_path: Path
) -> None:
    made = uefi_ten(tmp_path, MAC)
    (wine.disk / "played.json").write_text(made.played.to_json())
    with house() as here, loop_device(made.image) as device:
        wine.map_drive("n", device)
        shutil.copy(BUILT / "notfall-agent.msi", here.server.data)
        line = here.notfall("primary", "invite", "wks", "--windows")
        first = package(program, "0.0.1")
        assert wine.package("/i", f"Z:{first}", *given(line)) == 0
        until(lambda: bool(here.primary("wks")))
        assert here.primary("wks")["system"].startswith("Windows 10 Pro")

        stamp = here.replicate("wks")
        store = here.store("wks")
        check_version(store, stamp, made.image, tmp_path)
        whole = store.version(stamp).manifest
        assert whole.consistency == "application"

        change(made, tmp_path)
        command("blockdev", "--flushbufs", device)
        stamp = here.replicate("wks")
        check_version(store, stamp, made.image, tmp_path)
        assert 0 < store.version(stamp).manifest.bytes_sent < 3 * MIB

        done = here.adapted("wks", stamp)
        assert (done["system"], done["boots_by"]) == ("Windows 10 Pro", ["uefi"])
        assert done["clock"] == "localtime"
        assert done["changes"] == CHANGES_OF_TEN

        # A first copy by a removable disk, as that of another server would be.
        wine.run("net", "stop", "NotfallAgent")
        change(made, tmp_path)
        command("blockdev", "--flushbufs", device)
        removable = tmp_path / "removable"
        removable.mkdir()
        told = wine.run(PROGRAM, "seed", "--to", f"Z:{removable}", errors=True)
        assert "The seed is in" in told, told
        (seed,) = removable.iterdir()
        here.notfall("seed", "import", str(seed), "--follow", seconds=PATIENCE_S)
        check_version(store, store.need_newest().stamp, made.image, tmp_path)

        # A newer package takes the place of this one: the same primary goes on.
        newer = package(program, "0.0.2")
        assert wine.package("/i", f"Z:{newer}") == 0
        told = trial(here, "wks", tmp_path)
        check_version(store, store.need_newest().stamp, made.image, tmp_path)
        assert [line.split()[0] for line in told.splitlines()] == ["0"] * 7, told
        assert wine.package("/x", f"Z:{newer}") == 0
        assert not (wine.disk / "ProgramData" / "Notfallserver" / "Agent").exists()
        assert "NotfallAgent" not in wine.run("sc", "query", "NotfallAgent")


CHANGES_OF_TEN = [
    *(
        f"driver {name} starts with Windows on any machine"
        for name in ("storahci", "atapi", "intelide", "pciide", "stornvme")
    ),
    "after a crash the message stays on the screen",
    "fast start-up off: an image of a half-asleep Windows starts nowhere else",
    "hibernation off",
    "role of the agent: stand-in",
    "UEFI: loader also at the place where firmware without entries looks",
]


def trial(here: House, name: str, folder: Path) -> str:
    """What an owner runs who has a real one, but for the start: its steps."""
    program = Path(sys.executable).with_name("notfall")
    environment = {**os.environ, "NOTFALL": f"{program} --config {here.server.settings_file}"}
    line = [str(one) for one in (PACKAGING / "trial", name, folder, "--without-start")]
    subprocess.run(line, env=environment, timeout=APPLIANCE_S, check=False, capture_output=True)
    (made,) = (one for one in folder.glob("notfall-trial-*") if one.is_dir())
    assert made.with_name(f"{made.name}.tar.gz").stat().st_size > 0
    assert "storahci" in (made / "plan.json").read_text()
    return (made / "steps").read_text()


def change(made: Bootable, folder: Path) -> None:
    """A new file, one less, and some bytes in one."""
    with windows_of(made.image, folder) as root:
        (root / f"new-{time.monotonic_ns()}").write_bytes(os.urandom(MIB))
        drivers = root / "Windows" / "System32" / "drivers"
        next(drivers.glob("a*.sys")).unlink()
        with (root / windows_image.CONFIG / "SOFTWARE").open("r+b") as hive:
            hive.seek(0, os.SEEK_END)
            hive.write(b"behind its end")


# -- without Wine --------------------------------------------------------------------------------


def test_by_bios_from_the_first_run_to_the_stand_in(tmp_path: Path) -> None:
    made = bios_seven(tmp_path, MAC)
    configuration = tmp_path / "configuration"
    configuration.mkdir()
    with house() as here, made.image.open("rb") as content:

        def read(at: int, length: int) -> bytes:
            return os.pread(content.fileno(), length, at)

        machine = PlayedMachine(made.played, read)
        shutil.copy(BUILT / "notfall-agent.msi", here.server.data)
        line = here.notfall("primary", "invite", "shop", "--windows")
        url, token = (one.partition("=")[2] for one in given(line))
        facts = machine_facts(machine, see_disks(machine))
        server = enrol(read_invitation(url, token), configuration, lambda _disks: facts)
        settings = server.settings()

        def connect(throttle: Throttle | None) -> Line:
            return Line(config.connect(configuration, settings, throttle), Stop())

        WindowsReplication(settings, machine, machine.taker(), connect, Stop()).run()
        store = here.store("shop")
        stamp = store.need_newest().stamp
        check_version(store, stamp, made.image, tmp_path)
        planned = here.notfall("adaptation", "shop", seconds=APPLIANCE_S)
        done = here.adapted("shop", stamp)
        assert (done["system"], done["boots_by"]) == ("Windows 7 Professional", ["bios"])
        assert done["changes"] == CHANGES_OF_SEVEN
        assert [line for line in planned.splitlines() if line.startswith("- ")] == [
            f"- {one}" for one in done["changes"]
        ]
        assert "192.168.1.123/24 is set in Windows, but to which" in planned


CHANGES_OF_SEVEN = [
    "addresses of the network cards noted for the agent",
    "driver msahci starts with Windows",
    "driver pciide starts with Windows",
    "after a crash the message stays on the screen",
    "hibernation off",
    "10.3.58.5/24 goes from the old network card to the new one",
    "role of the agent: stand-in",
]


# -- without an agent ----------------------------------------------------------------------------


def test_one_that_is_off_is_imported_from_the_rescue_medium(tmp_path: Path) -> None:
    """The real medium, booted on a machine that has such a disk; nothing is written to it."""
    made = bios_seven(tmp_path, MAC)
    before = made.image.read_bytes()
    with house() as here:
        url = f"https://10.0.2.2:{here.server.port}"
        cache = base_directory() / "rescue"
        medium = build_medium(tmp_path / "medium", [url], here.server.ca, cache)
        disk = f"if=none,id=d,file={made.image},format=raw"
        boot: list[str | Path] = ["-kernel", medium.vmlinuz, "-initrd", medium.initrd]
        boot += ["-append", "console=ttyS0 quiet", "-nic", f"user,model=e1000e,mac={MAC}"]
        boot += ["-drive", disk, "-device", "ide-hd,drive=d,serial=W7"]
        with machine(tmp_path, *boot) as log:
            code = wait_text(log, r"Pairing code:  [A-Z2-7]{8}").split()[-1]
            until(lambda: "W7" in here.notfall("--json", "targets"), PATIENCE_S)
            here.notfall("import", "shop", "--from", code, "--follow", seconds=APPLIANCE_S)
        store = here.store("shop")
        stamp = store.need_newest().stamp
        assert store.version(stamp).raw(0).read_bytes() == before == made.image.read_bytes()
        done = here.adapted("shop", stamp)
        assert (done["system"], done["boots_by"]) == ("Windows 7 Professional", ["bios"])
        assert done["changes"][:3] == CHANGES_OF_SEVEN[:3]
