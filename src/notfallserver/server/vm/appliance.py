"""The appliance: the rescue system as a micro-VM without network that opens images for us.

A hostile image meets the appliance's kernel, never the server's. Job and answer are JSON: the job
on a small extra disk, the answer over a virtio-serial port into a file. The machine is transient,
named after the directory of its disks; one that a crashed server left there is killed first.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol

from notfallserver.server.vm.hypervisor import LIVE, Hypervisor, MachineState
from notfallserver.server.vm.spec import (
    EMULATED_CPU,
    Accelerator,
    Channel,
    DirectKernel,
    VmDisk,
    VmSpec,
)
from notfallserver.wire.errors import NotfallError

MEMORY = 1 << 30
ANSWER_LIMIT = 2 << 20
JOB_ALIGN = 64 << 10
START_LIMIT_S = 300.0
TICK_S = 0.1
VOLUMES_LIMIT = 256
TEXT_LIMIT = 1024
_VOLUME_NAME = re.compile(r"[\w-][\w.-]{0,250}")
# no_timer_check: on a busy host an emulated clock is late, and the kernel would give up
CMDLINE = "console=ttyS0 quiet panic=-1 no_timer_check"


class RescueFiles(Protocol):
    """What the appliance is started from (see ``server/rescue_medium.py``)."""

    @property
    def vmlinuz(self) -> Path: ...

    @property
    def appliance_initrd(self) -> Path: ...

    @property
    def squashfs(self) -> Path: ...


@dataclass(frozen=True)
class ShownVolume:
    """A volume that the appliance shows as the folder ``/volumes/NAME``; ``size`` in bytes.

    ``disk`` counts from 0 and ``partition`` from 1; -1 and 0 for what lies on several. ``mount`` is
    where the system of the image mounts it, as far as its fstab says.
    """

    name: str
    disk: int = -1
    partition: int = 0
    filesystem: str = ""
    label: str = ""
    size: int = 0
    mount: str = ""


@dataclass(frozen=True)
class Serving:
    """A running appliance that serves SFTP on ``socket``; one connection, its end ends all."""

    socket: Path
    volumes: tuple[ShownVolume, ...]
    warnings: list[dict[str, str]]


def run_appliance(
    hypervisor: Hypervisor,
    rescue: RescueFiles,
    disks: Sequence[Path],
    job: Mapping[str, Any],
    timeout: float,
    accelerator: Accelerator = Accelerator.KVM,
    check: Callable[[], None] = lambda: None,
    sectors: Sequence[int] = (),
    drivers: bytes = b"",
) -> dict[str, Any]:
    """Do one job on the disks and return the answer; the machine is gone afterwards.

    ``check`` is called each second and raises to give the job up. ``sectors`` are the sizes of the
    disks' sectors in bytes, where they are not 512: by them a partition table is found. ``drivers``
    is what a Windows may need, packed (``guest/windows/parcel.py``).
    """
    running = _running(hypervisor, rescue, disks, job, accelerator, (), sectors, drivers)
    with running as (name, room):
        until = time.monotonic() + timeout
        while not hypervisor.wait_off(name, 1.0):
            check()
            if hypervisor.state(name) is MachineState.PAUSED:
                raise NotfallError(  # it would stand still for ever
                    "pool-full",
                    "The image pool is full: the appliance found no space for its changes.",
                    "Remove old versions or give the pool more space; then try again.",
                    status=507,
                )
            if time.monotonic() < until:
                continue
            raise NotfallError(
                "appliance-timeout",
                f"The appliance did not end within {timeout:.0f} s. {_console_tail(room)}",
                "Try again; if it happens again, the image may be damaged.",
                retry=True,
                status=504,
            )
        return _read_answer(room)


@contextmanager
def serving_files(
    hypervisor: Hypervisor,
    rescue: RescueFiles,
    disks: Sequence[Path],
    accelerator: Accelerator = Accelerator.KVM,
    sectors: Sequence[int] = (),
    machine: Mapping[str, Any] | None = None,
    check: Callable[[], None] = lambda: None,
) -> Iterator[Serving]:
    """All volumes of the disks, served by SFTP while this block lasts; ``sectors`` as above.

    ``machine`` is the original: by its disks' names its fstab is understood. ``check`` is called
    while the appliance starts and raises to give it up.
    """
    job = {"task": "serve", "machine": machine}
    with _running(hypervisor, rescue, disks, job, accelerator, ("files",), sectors) as run:
        name, room = run
        until = time.monotonic() + START_LIMIT_S
        while not (room / "result").exists() or not (room / "result").read_bytes().endswith(b"\n"):
            check()
            if hypervisor.state(name) not in LIVE or time.monotonic() > until:
                break
            time.sleep(TICK_S)
        answer = _read_answer(room)
        if not answer.get("ok"):
            raise NotfallError.from_json(answer.get("error") or {}, 500)
        volumes = read_volumes(answer.get("volumes"))
        yield Serving(room / "files.sock", volumes, answer.get("warnings", []))


def appliance_name(directory: Path) -> str:
    """The machine that has the disks in ``directory``."""
    return f"appliance-{sha256(str(directory.resolve()).encode()).hexdigest()[:16]}"


@contextmanager
def _running(
    hypervisor: Hypervisor,
    rescue: RescueFiles,
    disks: Sequence[Path],
    job: Mapping[str, Any],
    accelerator: Accelerator,
    sockets: Sequence[str],
    sectors: Sequence[int],
    drivers: bytes = b"",
) -> Iterator[tuple[str, Path]]:
    directory = disks[0].resolve().parent
    name = appliance_name(directory)
    hypervisor.kill(name)
    # short, because the path of a unix socket may have 107 bytes only
    room = Path(tempfile.mkdtemp(prefix="nfa-"))
    room.chmod(0o711)  # QEMU runs as a user of its own
    try:
        _write_disk(room / "job", json.dumps(job).encode())
        if drivers:
            _write_disk(room / "drivers", drivers)
        spec = _describe(name, rescue, disks, room, accelerator, sockets, sectors)
        hypervisor.run_transient(spec)
        yield name, room
    finally:
        hypervisor.kill(name)
        shutil.rmtree(room, ignore_errors=True)


def _describe(
    name: str,
    rescue: RescueFiles,
    disks: Sequence[Path],
    room: Path,
    accelerator: Accelerator,
    sockets: Sequence[str],
    sectors: Sequence[int],
) -> VmSpec:
    # through the page cache: the clones are short-lived or synced when sealed, and the files need
    # not lie on a filesystem that can do direct I/O
    fixed = [("notfall-root", rescue.squashfs), ("notfall-job", room / "job")]
    if (room / "drivers").exists():
        fixed.append(("notfall-drivers", room / "drivers"))
    attached = [
        VmDisk(path, serial=serial, readonly=True, cache="writeback") for serial, path in fixed
    ]
    attached += [
        VmDisk(path.resolve(), serial=f"notfall-{at}", sector=sector, cache="writeback")
        for at, (path, sector) in enumerate(zip(disks, sectors or [512] * len(disks), strict=True))
    ]
    channels = [Channel("notfall.result", room / "result")]
    channels += [Channel(f"notfall.{one}", room / f"{one}.sock", listen=True) for one in sockets]
    return VmSpec(
        name=name,
        memory=MEMORY,
        disks=tuple(attached),
        accelerator=accelerator,
        cpu=EMULATED_CPU if accelerator is Accelerator.TCG else "",
        kernel=DirectKernel(rescue.vmlinuz, rescue.appliance_initrd, CMDLINE),
        serial_log=room / "console.log",
        channels=tuple(channels),
        restarts=False,
        title="Notfallserver appliance",
    )


def read_volumes(told: object) -> tuple[ShownVolume, ...]:
    """What the appliance tells of its volumes; it opened a foreign image, so all is checked."""
    found = []
    for one in told[:VOLUMES_LIMIT] if isinstance(told, list) else ():
        if not isinstance(one, dict):
            continue
        texts = {key: one.get(key, "") for key in ("name", "filesystem", "label", "mount")}
        numbers = {key: one.get(key, 0) for key in ("disk", "partition", "size")}
        plain = all(isinstance(text, str) and len(text) <= TEXT_LIMIT for text in texts.values())
        whole = all(type(number) is int for number in numbers.values())
        if plain and whole and _VOLUME_NAME.fullmatch(texts["name"]):
            found.append(ShownVolume(**texts, **numbers))
    return tuple(found)


def _write_disk(path: Path, told: bytes) -> None:
    path.write_bytes(told + bytes(-len(told) % JOB_ALIGN))


def _read_answer(room: Path) -> dict[str, Any]:
    """Bounded and checked: it was written inside a machine that opened a foreign image."""
    try:
        with (room / "result").open("rb") as file:
            told = json.loads(file.read(ANSWER_LIMIT))
    except (OSError, ValueError):
        told = None
    if not isinstance(told, dict):
        raise NotfallError(
            "appliance-silent",
            f"The appliance ended without an answer. {_console_tail(room)}",
            "Try again; if it happens again, build the rescue medium anew.",
            retry=True,
            status=500,
        )
    return told


def _console_tail(room: Path) -> str:
    try:
        lines = (room / "console.log").read_text(errors="replace").splitlines()
    except OSError:
        return ""
    return "Its console ends with: " + " | ".join(lines[-6:])[-800:]
