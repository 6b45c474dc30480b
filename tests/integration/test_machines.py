"""Real machines through a real libvirt: a boot sector that counts on its disk, on every controller.

The guest increments a number in its memory (0x8000) and writes it to its second sector, for ever;
so the disk may lag behind the memory by the one write that is under way, and by no more.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from test_full_pool import leave

from notfall_lab.hypervisor import Lab
from notfall_lab.own_lab import own_lab
from notfall_lab.patience import until
from notfallserver.server.host.clone import clone_file
from notfallserver.server.host.mount import make_xfs, mount_image, unmount_image
from notfallserver.server.host.set_aside import give_back
from notfallserver.server.vm import (
    Accelerator,
    Channel,
    Controller,
    MachineState,
    NicModel,
    Smbios,
    VmDisk,
    VmNic,
    VmSpec,
    find_uefi,
    standing_still,
)
from notfallserver.server.vm.libvirt import LibvirtHypervisor
from notfallserver.wire.errors import NotfallError

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

COUNTING_SECTOR = bytes.fromhex(
    "31c0 8ed8 8ec0 8ed0 bc007c"  # ax, ds, es, ss = 0; sp = 7c00
    "52 baf803 b04e ee 5a"  # 'N' to the serial port, dl keeps the boot drive
    "66ff060080"  # again: inc dword [8000]
    "b80103 b90200 b600 bb0080 cd13"  # write one sector from 8000 to sector 2
    "ebec"  # jmp again
).ljust(510, b"\0")


def counting_disk(path: Path) -> Path:
    with path.open("wb") as stream:
        stream.write(COUNTING_SECTOR + b"\x55\xaa")
        stream.truncate(64 << 20)
    return path


def count_on(path: Path) -> int:
    with path.open("rb") as stream:
        stream.seek(512)
        return int.from_bytes(stream.read(4), "little")


def count_in_memory(lab: Lab, name: str) -> int:
    out = lab.run_in(["virsh", "qemu-monitor-command", name, "--hmp", "xp /1xw 0x8000"]).stdout
    return int(out.split(":")[1], 16)


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    base = tmp_path_factory.mktemp("pool")
    make_xfs(base / "pool.img", 2 << 30)
    mount_image(base / "pool.img", base / "pool")
    try:
        yield base / "pool"
    finally:
        unmount_image(base / "pool")


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory, pool: Path) -> Iterator[Lab]:
    with own_lab("mach", tmp_path_factory.mktemp("lab"), net=201) as lab:
        yield lab


@pytest.fixture
def hypervisor(lab: Lab) -> Iterator[LibvirtHypervisor]:
    hypervisor = LibvirtHypervisor(lab.uri)
    yield hypervisor
    hypervisor.close()


def machine(name: str, *disks: VmDisk, **more: object) -> VmSpec:
    return VmSpec(name, 128 << 20, disks=disks, accelerator=Accelerator.TCG, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("controller", [one for one in Controller if one != Controller.CDROM])
def test_boots_and_writes_on_every_controller(
    lab: Lab, hypervisor: LibvirtHypervisor, pool: Path, controller: Controller
) -> None:
    disk = counting_disk(pool / f"{controller}.raw")
    spec = machine(
        f"on-{controller}",
        VmDisk(disk, controller, serial="S1", boot=1),
        VmDisk(counting_disk(pool / f"{controller}-2.raw"), controller, boot=2),
        nics=(VmNic("52:54:00:00:c9:01", "lan0", NicModel.E1000E),),
        chipset="pc" if controller is Controller.IDE else "q35",
        serial_log=pool / f"{controller}.log",
        vnc=True,
        smbios=Smbios("9a3c1b1e-0000-4000-8000-000000000001", "SER", "Dell Inc.", "R650"),
    )
    hypervisor.define(spec)
    assert hypervisor.state(spec.name) is MachineState.OFF
    hypervisor.start(spec.name)
    hypervisor.start(spec.name)
    try:
        until(lambda: count_on(disk) > 10)
        with standing_still(hypervisor, spec.name):
            assert hypervisor.state(spec.name) is MachineState.PAUSED
            on_disk, in_memory = count_on(disk), count_in_memory(lab, spec.name)
            time.sleep(0.2)
            assert count_on(disk) == on_disk
            assert in_memory - 1 <= on_disk <= in_memory
        until(lambda: count_on(disk) > on_disk)
        assert (pool / f"{controller}.log").read_bytes() == b"N"
        uuid = lab.run_in(["virsh", "qemu-monitor-command", spec.name, "--hmp", "info uuid"])
        assert "9a3c1b1e-0000-4000-8000-000000000001" in uuid.stdout
        hypervisor.screenshot(spec.name, pool / "screen.png")
        assert (pool / "screen.png").read_bytes().startswith(b"\x89PNG")
    finally:
        hypervisor.kill(spec.name)
        assert hypervisor.state(spec.name) is MachineState.OFF
        hypervisor.undefine(spec.name)
    assert hypervisor.state(spec.name) is MachineState.ABSENT


def test_capture_of_a_writing_machine_is_one_point_in_time(
    lab: Lab, hypervisor: LibvirtHypervisor, pool: Path
) -> None:
    disk = counting_disk(pool / "captured.raw")
    hypervisor.run_transient(machine("captured", VmDisk(disk, boot=1)))
    try:
        until(lambda: count_on(disk) > 100)
        for number in range(5):
            began = time.monotonic()
            hypervisor.pause("captured")
            assert clone_file(disk, pool / f"capture{number}.raw")
            in_memory = count_in_memory(lab, "captured")
            hypervisor.resume("captured")
            assert time.monotonic() - began < 1
            until(lambda seen=in_memory: count_on(disk) > seen + 10)  # type: ignore[misc]
            assert in_memory - 1 <= count_on(pool / f"capture{number}.raw") <= in_memory
        with pytest.raises(ZeroDivisionError), standing_still(hypervisor, "captured"):
            raise ZeroDivisionError
        assert hypervisor.state("captured") is MachineState.RUNNING
        before = count_on(disk)
        hypervisor.reset("captured")
        until(lambda: 0 < count_on(disk) < before)
    finally:
        hypervisor.kill("captured")
    assert hypervisor.wait_off("captured", 5)
    assert hypervisor.state("captured") is MachineState.ABSENT


def test_uefi_with_a_4k_nvme_disk(hypervisor: LibvirtHypervisor, pool: Path) -> None:
    """OVMF starts GRUB from an EFI system partition; the variables go with the machine."""
    config = pool / "early.cfg"
    config.write_text("serial --unit=0\nterminal_output serial\necho UEFI-HAS-BOOTED\nsleep 600\n")
    loader = pool / "BOOTX64.EFI"
    modules = ["echo", "serial", "sleep", "terminal", "part_gpt", "fat"]
    prefix = ["grub-mkimage", "-O", "x86_64-efi", "-p", "/", "-c", str(config), "-o", str(loader)]
    subprocess.run(prefix + modules, check=True)
    disk = pool / "uefi.raw"
    with disk.open("wb") as stream:
        stream.truncate(320 << 20)
    subprocess.run(["mkfs.vfat", "-F32", "-S4096", disk], check=True, capture_output=True)
    subprocess.run(["mmd", "-i", disk, "::EFI", "::EFI/BOOT"], check=True)
    subprocess.run(["mcopy", "-i", disk, loader, "::EFI/BOOT/"], check=True)
    spec = machine(
        "uefi",
        VmDisk(disk, Controller.NVME, boot=1, sector=4096),
        uefi=find_uefi(pool / "uefi-nvram.fd"),
        serial_log=pool / "uefi.log",
    )
    hypervisor.define(spec)
    try:
        hypervisor.start("uefi")
        until(lambda: b"UEFI-HAS-BOOTED" in (pool / "uefi.log").read_bytes(), 120)
        assert (pool / "uefi-nvram.fd").exists()
    finally:
        hypervisor.undefine("uefi")
    assert not (pool / "uefi-nvram.fd").exists()


def test_after_a_power_cut_of_the_host_machines_are_off_and_known_as_fallen(
    lab: Lab, hypervisor: LibvirtHypervisor, pool: Path
) -> None:
    """Also: the connection of before the restart is opened again without anybody noticing."""
    disk = counting_disk(pool / "fallen.raw")
    hypervisor.define(machine("fallen", VmDisk(disk, boot=1)))
    began = time.monotonic()
    hypervisor.start("fallen")
    assert time.monotonic() - began < 3  # the emulator shares two cores with other tests
    until(lambda: count_on(disk) > 0)
    assert not hypervisor.fell_over("fallen")
    lab.power_cycle()
    assert hypervisor.state("fallen") is MachineState.OFF
    assert hypervisor.fell_over("fallen")
    counting_disk(disk)
    hypervisor.start("fallen")
    until(lambda: count_on(disk) > 0)
    hypervisor.undefine("fallen")


def test_without_space_a_machine_is_held_and_goes_on_when_there_is_some(
    hypervisor: LibvirtHypervisor, pool: Path
) -> None:
    base, disk = counting_disk(pool / "base.raw"), pool / "held.raw"
    clone_file(base, disk)  # so that its first write needs space
    hypervisor.define(machine("held", VmDisk(disk, boot=1)))
    ballast = leave(pool, 0)
    hypervisor.start("held")
    try:
        until(lambda: hypervisor.held("held"))
        assert hypervisor.state("held") is MachineState.PAUSED and count_on(disk) == 0
        ballast.unlink()
        give_back(pool)
        hypervisor.resume("held")
        until(lambda: count_on(disk) > 10)
        assert not hypervisor.held("held")
        with standing_still(hypervisor, "held"):
            assert not hypervisor.held("held")  # that was us
    finally:
        ballast.unlink(missing_ok=True)
        hypervisor.undefine("held")


def test_the_console_is_a_stream_that_ends_with_the_machine(
    hypervisor: LibvirtHypervisor, pool: Path
) -> None:
    disk = counting_disk(pool / "console.raw")
    hypervisor.define(machine("console", VmDisk(disk, boot=1), vnc=True))
    try:
        with pytest.raises(NotfallError) as caught:
            hypervisor.console("console")
        assert caught.value.code == "machine-off"
        hypervisor.start("console")
        assert not hypervisor.ended_in_order("console")
        with hypervisor.console("console") as first, hypervisor.console("console") as second:
            for stream in (first, second):
                stream.settimeout(10)
                assert stream.recv(12) == b"RFB 003.008\n"
            hypervisor.kill("console")
            assert first.recv(1) == second.recv(1) == b""
        assert not hypervisor.ended_in_order("console")  # its power was cut
    finally:
        hypervisor.undefine("console")
    with pytest.raises(NotfallError) as caught:
        hypervisor.console("console")
    assert caught.value.code == "no-such-machine"


def test_failures_say_what_to_do(hypervisor: LibvirtHypervisor, pool: Path, capfd: object) -> None:
    def code(act: Callable[[], object]) -> str:
        with pytest.raises(NotfallError) as caught:
            act()
        assert caught.value.remedy or caught.value.code == "no-such-machine"
        return caught.value.code

    nowhere = LibvirtHypervisor("qemu+unix:///system?socket=/nonexistent")
    assert code(lambda: nowhere.state("x")) == "hypervisor-unreachable"
    assert code(lambda: hypervisor.start("nobody")) == "no-such-machine"
    hypervisor.kill("nobody")
    hypervisor.shutdown("nobody")
    hypervisor.undefine("nobody")
    hypervisor.define(machine("diskless", VmDisk(pool / "missing.raw")))
    assert code(lambda: hypervisor.start("diskless")) == "machine-start"
    hypervisor.undefine("diskless")
    info = hypervisor.info()
    assert Accelerator.TCG in info.accelerators and info.cpus >= 1 and info.memory > 1 << 30
    assert capfd.readouterr() == ("", "")  # type: ignore[attr-defined]


def test_channels_and_read_only_disks(hypervisor: LibvirtHypervisor, pool: Path) -> None:
    """The host's side of the appliance: both kinds of channels exist, a read-only disk stays."""
    disk = counting_disk(pool / "read-only.raw")
    spec = machine(
        "appliance",
        VmDisk(disk, boot=1, readonly=True),
        channels=(
            Channel("notfall.answer", pool / "answer"),
            Channel("notfall.serve", pool / "serve.sock", listen=True),
        ),
        serial_log=pool / "appliance.log",
        restarts=False,
    )
    hypervisor.run_transient(spec)
    try:
        until(lambda: b"N" in (pool / "appliance.log").read_bytes())
        assert (pool / "answer").is_file() and (pool / "serve.sock").is_socket()
        time.sleep(0.3)
        assert count_on(disk) == 0
    finally:
        hypervisor.kill("appliance")


def test_a_command_of_the_lab_can_be_killed(lab: Lab, tmp_path: Path) -> None:
    up = tmp_path / "up"
    with lab.popen_in(["sh", "-c", f"ip address show lan0 > {up}; exec sleep 600"]) as process:
        until(lambda: up.exists() and lab.network.address(1) in up.read_text())
        lab.signal_in(process, signal.SIGKILL)
        assert process.wait(timeout=10) in (-signal.SIGKILL, 128 + signal.SIGKILL)


def test_nothing_outlives_a_killed_lab(tmp_path: Path) -> None:
    """A lab whose owner is killed takes its machines along, and its name is free again."""
    disk = counting_disk(tmp_path / "orphan.raw")
    script = f"""
import sys
from pathlib import Path
from notfall_lab.hypervisor import Lab
from notfallserver.server.vm import Accelerator, VmDisk, VmSpec
from notfallserver.server.vm.libvirt import LibvirtHypervisor
with Lab("orphan", Path({str(tmp_path / "lab")!r}), net=202) as lab:
    disks = (VmDisk(Path({str(disk)!r}), boot=1),)
    LibvirtHypervisor(lab.uri).run_transient(
        VmSpec("orphan", 64 << 20, disks=disks, accelerator=Accelerator.TCG))
    print("up", flush=True)
    sys.stdin.read()
"""
    owner = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert owner.stdin is not None and owner.stdout is not None
    with owner, owner.stdin, owner.stdout:
        assert owner.stdout.readline() == b"up\n"
        assert processes_with(str(disk))
        owner.kill()
    until(lambda: not processes_with(str(tmp_path / "lab")) and not processes_with(str(disk)))
    with Lab("orphan", tmp_path / "lab", net=202) as lab:
        assert "orphan" not in lab.run_in(["virsh", "list", "--all"]).stdout


def processes_with(text: str) -> list[str]:
    found = []
    for one in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = one.read_bytes().decode(errors="replace")
        except OSError:
            continue
        if text in line:
            found.append(line)
    return found
