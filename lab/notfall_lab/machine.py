"""A "physical" machine: one QEMU process on the lab's LAN that knows nothing of libvirt.

``Machine(hardware, directory, namespace)`` is a context manager; inside the block it can be
switched on and lose its power as often as one likes. Invariant: nothing of it outlives the process
that made it: QEMU dies with its parent, and the tap dies with QEMU.

Disks are opened with ``cache=writeback``: a guest's flush reaches the file by fdatasync, and what
the guest did not flush is in the page cache of the lab's host, which does not lose power. So
``cut_power`` is as hard on the guest (memory, half-done work) as a pulled plug, but kinder to
unflushed sectors than a disk's own cache would be.
"""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from notfall_lab.cache import FILES
from notfall_lab.patience import PATIENCE_S
from notfall_lab.qmp import Qmp, reach
from notfallserver.server.vm.spec import EMULATED_CPU

OVMF_CODE = Path("/usr/share/OVMF/OVMF_CODE_4M.fd")
OVMF_VARS = Path("/usr/share/OVMF/OVMF_VARS_4M.fd")
SECURE_CODE = Path("/usr/share/OVMF/OVMF_CODE_4M.ms.fd")
SECURE_VARS = Path("/usr/share/OVMF/OVMF_VARS_4M.ms.fd")
"""With Microsoft's keys, by which Debian's first stage is signed."""
_SCSI = {
    "scsi": "virtio-scsi-pci",
    "megasas": "megasas",
    "mptsas": "mptsas1068",
    "pvscsi": "pvscsi",
}
# The parent of a process is the thread that forked it, and QEMU is killed when its parent ends:
# so one thread that lives as long as this process starts them all.
_SPAWNER = ThreadPoolExecutor(max_workers=1, thread_name_prefix="machines")
# A CD is taken out at a reset only when the machine has booted from it (some firmware resets once
# before it boots anything).
_BOOTED_BYTES = 4 << 20


@dataclass(frozen=True)
class HardDisk:
    path: Path
    bus: str = "virtio"  # virtio, nvme, sata, ide, or one of _SCSI
    serial: str = ""
    sector: int = 512


@dataclass(frozen=True)
class Hardware:
    """What a machine is made of; ``nic_slot`` decides the name its card gets (3: enp0s3)."""

    name: str
    disks: tuple[HardDisk, ...]
    mac: str
    firmware: str = "bios"  # bios, uefi or secure (UEFI with Secure Boot)
    nic: str = "virtio-net-pci"
    nic_slot: int = 3
    memory: int = 768  # MiB
    cpus: int = 1
    uuid: str = ""
    serial: str = ""
    more_macs: tuple[str, ...] = ()  # further cards of the same kind


class Machine:
    """``directory`` holds console log, sockets and NVRAM; keep it short (socket paths)."""

    def __init__(self, hardware: Hardware, directory: Path, namespace: str) -> None:
        self.hardware = hardware
        self.directory = directory.resolve()
        self.namespace = namespace
        self.console = self.directory / "console.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._qmp: Qmp | None = None
        self._since = 0  # where this boot's console output starts

    def __enter__(self) -> Machine:
        self.directory.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.cut_power()

    # -- use -------------------------------------------------------------------------------------

    @property
    def on(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def qmp(self) -> Qmp:
        if self._qmp is None:
            raise RuntimeError(f"{self.hardware.name} is switched off")
        return self._qmp

    def power_on(self, cd: Path | None = None) -> None:
        """Start the machine; with ``cd`` it boots from that once, after a reset from its disks."""
        if self.on:
            raise RuntimeError(f"{self.hardware.name} is on already")
        self._since = self.console.stat().st_size if self.console.exists() else 0
        socket = self.directory / "qmp.sock"
        socket.unlink(missing_ok=True)
        with (self.directory / "qemu.log").open("ab") as log:
            self._process = _SPAWNER.submit(
                subprocess.Popen[bytes],
                command(self.hardware, self.directory, self.namespace, cd),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            ).result()
        until = time.monotonic() + PATIENCE_S
        while (reached := reach(socket)) is None:
            if self._process.poll() is not None or time.monotonic() > until:
                self.cut_power()
                reason = (self.directory / "qemu.log").read_text()[-500:]
                raise RuntimeError(f"{self.hardware.name} does not start: {reason}")
            time.sleep(0.02)
        self._qmp = Qmp(reached, on_reset=self._take_out_cd if cd else None)

    def cut_power(self) -> None:
        """Pull the plug: the machine is gone at once."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait(timeout=60)
            self._process = None
        if self._qmp is not None:
            self._qmp.close()
            self._qmp = None

    def wait_off(self, timeout: float) -> None:
        """Wait until the machine has switched itself off."""
        if self._process is not None:
            self._process.wait(timeout=timeout)
        self.cut_power()

    def press_power(self) -> None:
        """The power button: an orderly shutdown, if the system listens."""
        self.qmp.call("system_powerdown")

    def output(self) -> str:
        """What the console has shown since the machine was switched on."""
        if not self.console.exists():
            return ""
        return self.console.read_bytes()[self._since :].decode("utf-8", "replace")

    def wait_console(self, pattern: str, timeout: float) -> re.Match[str]:
        """Wait until the console has shown ``pattern`` since the machine was switched on."""
        until = time.monotonic() + timeout
        while True:
            found = re.search(pattern, self.output(), re.MULTILINE)
            if found:
                return found
            alive = self.on
            if not alive or time.monotonic() > until:
                why = "is off" if not alive else f"did not show it in {timeout:.0f} s"
                tail = self.output()[-2000:]
                raise TimeoutError(f"{pattern!r}: {self.hardware.name} {why}; console:\n{tail}")
            time.sleep(0.2)

    def screenshot(self, path: Path) -> None:
        """The screen as PNG."""
        self.qmp.call("screendump", filename=str(path), format="png")

    def plug_cable(self, connected: bool) -> None:
        self.qmp.call("set_link", name="lan", up=connected)

    def eject(self) -> None:
        """Take the CD out, whatever the guest says."""
        self.qmp.call("eject", id="cd", force=True)

    def _take_out_cd(self, qmp: Qmp) -> None:
        for one in qmp.call("query-blockstats"):
            if one.get("qdev") == "cd" and one["stats"]["rd_bytes"] > _BOOTED_BYTES:
                qmp.call("eject", id="cd", force=True)


def command(hardware: Hardware, directory: Path, namespace: str, cd: Path | None) -> list[str]:
    """QEMU's command line; the console is also a socket, for a person with socat."""
    log = f"logfile={directory}/console.log,logappend=on"
    return [
        *("setpriv", "--pdeathsig", "KILL", "--"),
        *("nsenter", f"--net=/run/netns/{namespace}", "--"),
        *("qemu-system-x86_64", "-name", hardware.name, "-nodefaults", "-no-user-config"),
        *("-machine", _chipset(hardware), "-accel", "tcg,thread=multi", "-cpu", EMULATED_CPU),
        *("-m", str(hardware.memory), "-smp", str(hardware.cpus)),
        *("-display", "none", "-vga", "std", "-rtc", "base=utc"),
        *_identity(hardware),
        *_firmware(hardware, directory),
        *_disks(hardware, 1 if cd else 0),
        *(_cd(cd) if cd else ()),
        *("-netdev", f"tap,id=lan,script={FILES / 'join-lan.sh'},downscript=no"),
        *("-device", f"{hardware.nic},netdev=lan,mac={hardware.mac},addr={hardware.nic_slot}"),
        *_more_cards(hardware),
        *("-chardev", f"socket,id=con,path={directory}/console.sock,server=on,wait=off,{log}"),
        *("-serial", "chardev:con"),
        *("-qmp", f"unix:{directory}/qmp.sock,server=on,wait=off"),
    ]


def _identity(hardware: Hardware) -> list[str]:
    given = ["-uuid", hardware.uuid] if hardware.uuid else []
    serial = f",serial={hardware.serial}" if hardware.serial else ""
    maker = f"type=1,manufacturer=Notfall Lab,product={hardware.name}{serial}"
    return [*given, "-smbios", maker]


def _chipset(hardware: Hardware) -> str:
    """IDE exists only in the older one; what guards the secure variables only in the newer one."""
    if any(disk.bus == "ide" for disk in hardware.disks):
        return "pc"
    return "q35,smm=on" if hardware.firmware == "secure" else "q35"


def _more_cards(hardware: Hardware) -> list[str]:
    line = []
    for number, mac in enumerate(hardware.more_macs):
        slot = hardware.nic_slot + 1 + number
        line += ["-netdev", f"tap,id=lan{number},script={FILES / 'join-lan.sh'},downscript=no"]
        line += ["-device", f"{hardware.nic},netdev=lan{number},mac={mac},addr={slot}"]
    return line


def _firmware(hardware: Hardware, directory: Path) -> list[str]:
    if hardware.firmware == "bios":
        return []
    secure = hardware.firmware == "secure"
    variables = directory / "nvram.fd"
    if not variables.exists():
        shutil.copyfile(SECURE_VARS if secure else OVMF_VARS, variables)
    guarded = ["-global", "driver=cfi.pflash01,property=secure,value=on"] if secure else []
    code = SECURE_CODE if secure else OVMF_CODE
    return [
        *guarded,
        *("-drive", f"if=pflash,format=raw,unit=0,readonly=on,file={code}"),
        *("-drive", f"if=pflash,format=raw,unit=1,file={variables}"),
    ]


def _disks(hardware: Hardware, first: int) -> list[str]:
    """One device per disk, in boot order from ``first``, in PCI slots from 8."""
    device = {
        "virtio": "virtio-blk-pci,addr={slot:#x},",
        "nvme": "nvme,addr={slot:#x},",
        "sata": "ide-hd,bus=ide.{number},",
        "ide": "ide-hd,bus=ide.{number},",
    }
    line = []
    for slot, bus in enumerate(sorted({one.bus for one in hardware.disks} & set(_SCSI)), 0x18):
        line += ["-device", f"{_SCSI[bus]},id={bus},addr={slot:#x}"]
        device[bus] = f"scsi-hd,bus={bus}.0,scsi-id={{number}},"
    for number, disk in enumerate(hardware.disks):
        serial = disk.serial or f"{hardware.name}-{number}"
        options = f"if=none,id=hd{number},format=raw,cache=writeback,discard=unmap"
        line += ["-drive", f"{options},file={disk.path}"]
        kind = device[disk.bus].format(slot=8 + number, number=number)
        size = f"logical_block_size={disk.sector},physical_block_size={disk.sector}"
        place = f"drive=hd{number},serial={serial},bootindex={first + number}"
        # Linux looks at no SAS disk without an address
        place += f",wwn={0x3000_0000_0000_0001 + number:#x}" if disk.bus == "mptsas" else ""
        line += ["-device", f"{kind}{place},{size}" if disk.sector != 512 else kind + place]
    return line


def _cd(image: Path) -> list[str]:
    return [
        *("-drive", f"if=none,id=cdrom,media=cdrom,format=raw,readonly=on,file={image}"),
        *("-device", "ide-cd,bus=ide.5,drive=cdrom,id=cd,bootindex=0"),
    ]
