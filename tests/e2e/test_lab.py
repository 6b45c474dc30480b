"""The lab itself: what the end-to-end tests rely on must be true before they mean anything."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from notfall_lab.image import make_image
from notfall_lab.machine import HardDisk, Hardware, Machine
from notfall_lab.namespace import Network
from notfall_lab.orders import read_file
from notfall_lab.own_lab import own_name
from notfall_lab.patience import BOOT_S, PATIENCE_S
from notfall_lab.recipe_guest import BIOS, Recipe
from notfall_lab.timeline import Timeline

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture
def network() -> Iterator[Network]:
    with Network(own_name("labtest")) as made:
        yield made


def machine_of(recipe: Recipe, folder: Path, network: Network, bus: str = "virtio") -> Machine:
    disks = make_image(recipe).copy_to(folder)
    hardware = Hardware(
        name=recipe.name,
        disks=tuple(HardDisk(one, bus) for one in disks),
        mac=recipe.mac,
        firmware=recipe.firmware,
    )
    return Machine(hardware, folder, network.namespace())


def test_unadapted_disks_do_not_boot_on_other_hardware(tmp_path: Path, network: Network) -> None:
    """Else the adaptation would prove nothing."""
    with machine_of(BIOS, tmp_path / "m", network, bus="nvme") as machine:
        machine.power_on()
        machine.wait_console(r"ALERT!\s+UUID=.* does not exist", BOOT_S)


def test_a_machine_dies_with_the_process_that_made_it(tmp_path: Path, network: Network) -> None:
    script = f"""
import os, signal
from pathlib import Path
from notfall_lab.machine import HardDisk, Hardware, Machine
folder = Path({str(tmp_path)!r})
(folder / "d").write_bytes(bytes(1 << 20))
machine = Machine(Hardware("m", (HardDisk(folder / "d"),), "52:54:00:00:00:01"), folder,
                  {network.namespace()!r})
machine.power_on()
print(machine._process.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.returncode == -9, done.stderr
    until = time.monotonic() + PATIENCE_S
    while Path(f"/proc/{int(done.stdout)}").exists():
        assert time.monotonic() < until
        time.sleep(0.05)
    links = subprocess.run(
        ["ip", "-n", network.namespace(), "-br", "link"], capture_output=True, text=True, check=True
    )
    assert "tap" not in links.stdout


def test_a_failed_check_fails_the_run(tmp_path: Path) -> None:
    good, bad, none = (Timeline(name) for name in ("good", "bad", "none"))
    with good.step("copy") as step:
        step.size = 4096
    good.check("there", True)
    bad.check("there", True)
    bad.check("complete", False, "one is missing")
    assert (good.finish(tmp_path / "t.json"), bad.finish(), none.finish()) == (0, 1, 1)
    assert '"size": 4096' in (tmp_path / "t.json").read_text()


def test_an_unfinished_line_is_no_promise(tmp_path: Path) -> None:
    file = tmp_path / "orders"
    file.write_text("1 10.000\n2 11.000\n3 1")
    assert [number for number, _ in read_file(file)] == [1, 2]
