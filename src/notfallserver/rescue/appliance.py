"""The program of the appliance: read the job, do it, answer over a virtio-serial port.

Disks are told by their virtio serial: ``notfall-job`` holds the job as JSON (padded with zeros),
``notfall-0``, ``notfall-1``, ... are the image's disks in order, ``notfall-root`` is ourselves;
``notfall-drivers``, where it is there, has drivers for a Windows (``guest/windows/parcel.py``).
"""

from __future__ import annotations

import json
import os
import re
import select
import subprocess
import sys
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Dict, List, Mapping, Sequence

from notfallserver.guest.adapt import adapt
from notfallserver.guest.check import Comparison, check_filesystems
from notfallserver.guest.facts import Volume, read_hardware
from notfallserver.guest.look import look_inside
from notfallserver.guest.mounts import DATA_FILESYSTEMS, fstab_lines, mounted
from notfallserver.guest.names import DeviceNames
from notfallserver.guest.paths import read_text
from notfallserver.guest.volumes import opened_volumes
from notfallserver.guest.windows.packages import Windows
from notfallserver.guest.windows.parcel import unpack_parcel
from notfallserver.rescue.reshape import measure, reshape
from notfallserver.wire.errors import NotfallError
from notfallserver.wire.facts import Machine, read_machine

SYS_BLOCK = Path("/sys/block")
PORTS = Path("/sys/class/virtio-ports")
RESULT_PORT = "notfall.result"
FILES_PORT = "notfall.files"
VOLUMES = Path("/volumes")
JOB_LIMIT = 4 << 20
CONNECT_LIMIT_S = 300.0
SFTP_SERVER = "/usr/lib/openssh/sftp-server"


def disks_by_serial() -> Dict[str, str]:
    found = {}
    for base in SYS_BLOCK.iterdir():
        serial = base / "serial"
        if serial.is_file():
            found[serial.read_text().strip()] = f"/dev/{base.name}"
    return found


def image_disks(found: Dict[str, str]) -> List[str]:
    numbered = [(int(one[8:]), path) for one, path in found.items() if re.match(r"notfall-\d", one)]
    return [path for _, path in sorted(numbered)]


def port_device(name: str) -> Path:
    """The port's node; there is no udev that would link it by name."""
    for base in PORTS.iterdir():
        if (base / "name").read_text().strip() == name:
            return Path("/dev") / base.name
    raise NotfallError("no-port", f"The appliance has no port '{name}'.", "", status=500)


def read_job(disk: str) -> Dict[str, Any]:
    with open(disk, "rb") as raw:
        told = json.loads(raw.read(JOB_LIMIT).rstrip(b"\0"))
    if not isinstance(told, dict):
        raise NotfallError("bad-job", "The appliance's job is no object.", "", status=500)
    return told


def do_adapt(job: Dict[str, Any], disks: Sequence[str], parcel: str = "") -> Dict[str, Any]:
    """``parcel``: the disk with drivers for a Windows, where there is one."""
    hardware = read_hardware(job.get("hardware") or {})
    machine, plan = read_machine(job.get("machine")), job.get("plan") is True
    with TemporaryDirectory(prefix="drivers-") as folder:
        supply = partial(given_drivers, parcel, Path(folder)) if parcel else None
        done = adapt(disks, machine, hardware, log, supply, carry_out=not plan)
    told: Dict[str, Any] = {"system": done.system, "changes": done.changes}
    told.update(warnings=done.warnings, boots_by=list(done.boots_by), clock=done.clock)
    return told


def given_drivers(parcel: str, folder: Path, windows: Windows, ids: Sequence[str]) -> Path:
    """The server has chosen already, by what it knows."""
    with open(parcel, "rb") as raw:
        unpack_parcel(raw, folder)
    return folder


def do_check(job: Dict[str, Any], disks: Sequence[str]) -> Dict[str, Any]:
    """The disks are written to: logs are played back first."""
    taken: List[str] = []
    results = []
    comparison = Comparison(job.get("sample") or [])
    for one in check_filesystems(disks, comparison):
        taken.append(volume_name(one.volume, taken))
        filesystem = one.volume.filesystem
        told = {"volume": taken[-1], "filesystem": filesystem, "state": one.state}
        results.append({**told, "told": one.told})
    return {
        "checks": results,
        "compared": comparison.compared,
        "differing": comparison.differing,
    }


def volume_name(volume: Volume, taken: Sequence[str] = ()) -> str:
    """``disk0-part1``, with the label where there is one; logical volumes by their own name."""
    if volume.disk < 0:
        name = volume.device.rsplit("/", 1)[-1]
    elif volume.partition:
        name = f"disk{volume.disk}-part{volume.partition}"
    else:
        name = f"disk{volume.disk}"
    label = re.sub(r"[^\w.-]+", "_", volume.label)
    told = f"{name}-{label}" if label else name
    return told if told not in taken else f"{told}-{len(taken)}"


def do_serve(job: Dict[str, Any], disks: Sequence[str], answer: Answer) -> None:
    """Serve the volumes until the port's other side goes; the answer is sent when all is ready."""
    with ExitStack() as stack:
        volumes = stack.enter_context(opened_volumes(disks, writable=False))
        shown: Dict[str, Volume] = {}
        problems = []
        for volume in volumes:
            if volume.filesystem not in DATA_FILESYSTEMS:
                continue
            name = volume_name(volume, sorted(shown))
            try:
                stack.enter_context(mounted(volume, VOLUMES / name, writable=False))
                shown[name] = volume
            except NotfallError as error:
                problems.append({"code": error.code, "text": f"{name}: {error.cause}"})
        port = os.open(port_device(FILES_PORT), os.O_RDWR | os.O_CLOEXEC)
        mounts = mount_points(shown, volumes, job.get("machine"))
        told = [describe(shown[name], name, mounts.get(name, "")) for name in sorted(shown)]
        answer.give({"ok": True, "volumes": told, "warnings": problems})
        await_other_side(port)
        subprocess.run(
            [SFTP_SERVER, "-R", "-d", str(VOLUMES)], stdin=port, stdout=port, check=False
        )
        os.close(port)


def describe(volume: Volume, name: str, mount: str) -> Dict[str, Any]:
    told = {key: getattr(volume, key) for key in ("disk", "partition", "filesystem", "size")}
    return {**told, "name": name, "label": volume.label, "mount": mount}


def mount_points(
    shown: Mapping[str, Volume], volumes: Sequence[Volume], machine: Any
) -> Dict[str, str]:
    """Where the first system found mounts what is shown, by name."""
    for name in shown:
        base = VOLUMES / name
        lines = fstab_lines(read_text(base, "/etc/fstab"))
        if not lines or not (base / "usr").is_dir():
            continue
        names = DeviceNames(volumes, read_machine(machine) if machine else Machine(""))
        found = {name: "/"}
        for spec, point, _ in lines:
            volume = names.find(spec)
            for other, one in shown.items():
                if one is volume and point.startswith("/"):
                    found.setdefault(other, point)
        return found
    return {}


def await_other_side(port: int) -> None:
    """Until somebody connects, reading the port would look like the end of the connection."""
    until = time.monotonic() + CONNECT_LIMIT_S
    poll = select.poll()
    poll.register(port, select.POLLIN)
    while any(events & select.POLLHUP for _, events in poll.poll(1000)):
        if time.monotonic() > until:
            raise NotfallError("nobody-there", "Nobody asked for the files.", "")
        time.sleep(0.05)


class Answer:
    """The one JSON line that the server waits for."""

    def __init__(self) -> None:
        self.given = False

    def give(self, told: Dict[str, Any]) -> None:
        with open(port_device(RESULT_PORT), "wb", buffering=0) as port:
            port.write(json.dumps(told).encode() + b"\n")
        self.given = True


def log(text: str) -> None:
    print(f"notfall: {text}", file=sys.stderr, flush=True)


def main() -> None:
    answer = Answer()
    try:
        found = disks_by_serial()
        job = read_job(found["notfall-job"])
        disks = image_disks(found)
        log(f"{job.get('task')} on {', '.join(disks)}")
        if job.get("task") == "adapt":
            parcel = found.get("notfall-drivers", "")
            answer.give({"ok": True, **do_adapt(job, disks, parcel)})
        elif job.get("task") == "check":
            answer.give({"ok": True, **do_check(job, disks)})
        elif job.get("task") == "look":
            answer.give({"ok": True, **look_inside(disks)})
        elif job.get("task") == "measure":
            answer.give({"ok": True, "least": measure(disks)})
        elif job.get("task") == "reshape":
            answer.give({"ok": True, "disks": reshape(job, disks)})
        elif job.get("task") == "serve":
            do_serve(job, disks, answer)
        else:
            raise NotfallError("bad-job", f"The task '{job.get('task')}' is not known.", "")
    except Exception as error:  # the answer is the only way anybody hears of it
        log(f"{type(error).__name__}: {error}")
        told = (
            error
            if isinstance(error, NotfallError)
            else NotfallError(
                "appliance-failed", f"{type(error).__name__}: {error}", "See the appliance's log."
            )
        )
        if not answer.given:
            answer.give({"ok": False, "error": told.to_json()})


if __name__ == "__main__":
    main()
