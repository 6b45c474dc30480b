"""An emergency server on a small LAN with a real libvirt, whose pool holds copies of small guests.

The copies are laid into the pool as finished, prepared versions before the server starts; it takes
them over as it does after the loss of its catalogue. No agent calls: all originals are dead, unless
a host of the LAN has their addresses.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any
from uuid import uuid4

from notfall_lab.hypervisor import Lab
from notfall_lab.patience import until
from notfall_lab.small_guest import SmallGuest
from notfallserver.server.host.clone import can_reflink
from notfallserver.server.host.files import replace_json
from notfallserver.server.host.mount import unmount_image
from notfallserver.server.host.namespace import in_namespace
from notfallserver.server.host.run import run
from notfallserver.server.pool import layout
from notfallserver.server.pool.store import Pool, PrimaryStore
from notfallserver.server.pool.version import DiskImage, Manifest, read_version
from notfallserver.server.records import Catalogue, open_catalogue
from notfallserver.server.rescue_medium import medium_in, seal_medium
from notfallserver.server.vm.libvirt import LibvirtHypervisor
from notfallserver.wire.blocks import BLOCK
from notfallserver.wire.facts import Machine, read_machine

PORT = 80
SERVER_PORT = 8443
FIRST_HOST = 20
"""The guests' addresses on the LAN are this and the following."""
_NOTFALL = "from notfallserver.server.cli import main; main()"


@dataclass
class SmallCompany:
    """The server's machine is ``lab``; ``uuids`` are by the guests' names."""

    directory: Path
    lab: Lab
    uuids: dict[str, str] = field(default_factory=dict)
    guests: dict[str, SmallGuest] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    @property
    def data(self) -> Path:
        return self.directory / "data"

    @property
    def pool(self) -> Pool:
        return Pool(self.data / "pool")

    @property
    def log(self) -> str:
        return (self.directory / "log").read_text(errors="replace")

    # -- before it starts ------------------------------------------------------------------------

    def next_guest(self, name: str) -> SmallGuest:
        """A guest with the next addresses of the LAN; nothing of it is made."""
        network, number = self.lab.network, FIRST_HOST + len(self.guests)
        return SmallGuest(
            name=name,
            mac=f"52:54:00:01:{network.net:02x}:{number:02x}",
            address=f"{network.address(number)}/24",
            address6=f"{network.address6(number)}/64",
            gateway=network.address(254),
            port=PORT,
            server=(network.address(1), SERVER_PORT),
        )

    def add(self, name: str, disk: Path | None = None, size: int = 0, memory: int = 0) -> None:
        """A guest's prepared copy, enlarged by a hole to ``size`` bytes; ``disk``: of another guest
        that never comes up."""
        guest = self.guests[name] = self.next_guest(name)
        facts = guest.facts()
        if disk is None:
            disk = self._make_disk(guest)
        size = size or disk.stat().st_size
        facts["disks"][0]["size"] = size
        facts["memory"] = memory or facts["memory"]
        store = self.pool.add_primary(str(uuid4()), name)
        _lay_in(store, name, read_machine(facts), disk, size)
        self.uuids[name] = store.uuid

    def _make_disk(self, guest: SmallGuest) -> Path:
        """Made anew for the first one only: that takes its time."""
        place = self.directory / "guests"
        known = [one for one in self.guests if (place / one).is_dir()]
        built = place / guest.name
        built.mkdir(parents=True)
        if known:
            return guest.make_disk_like(place / known[0], known[0], built)
        return guest.make_disk(built)

    # -- at work ---------------------------------------------------------------------------------

    def start(self) -> None:
        """Return when the server answers."""
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(
                self._line("server", "run"), env=self._environment(), stdout=log, stderr=log
            )
        until(lambda: self.notfall("server", "status", check=False).returncode == 0, 60)

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def _end(self, number: int) -> None:
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait(40)
            self.process = None

    def notfall(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            self._line(*words),
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        if check and done.returncode:
            raise RuntimeError(f"notfall {' '.join(words)}: {done.stdout}{done.stderr}")
        return done

    def ask(self, *words: str) -> Any:
        """What a command answers in JSON."""
        return json.loads(self.notfall(*words, "--json").stdout)

    def hypervisor(self) -> LibvirtHypervisor:
        return LibvirtHypervisor(self.lab.uri)

    def catalogue(self) -> closing[Catalogue]:
        """Beside the server."""
        return closing(open_catalogue(self.data))

    def page(self, name: str) -> str:
        """What its server says, as the LAN's router sees it; why not, if it does not."""
        address = self.guests[name].address.split("/")[0]

        def ask() -> str:
            line = HTTPConnection(address, PORT, timeout=10)
            try:
                line.request("GET", "/")
                return line.getresponse().read().decode()
            except (OSError, HTTPException) as error:
                return repr(error)
            finally:
                line.close()

        with open(f"/run/netns/{self.lab.network.namespace('router')}", "rb") as place:
            return in_namespace(place.fileno(), ask)

    def _line(self, *words: str) -> list[str]:
        return self.lab.network.inside("server", sys.executable, "-c", _NOTFALL, *words)

    def _environment(self) -> dict[str, str]:
        settings = str(self.directory / "notfall.toml")
        return {**os.environ, "NOTFALL_CONFIG": settings, "NO_COLOR": "1"}


@contextmanager
def small_company(directory: Path, lab: Lab, pool_gib: int = 4) -> Iterator[SmallCompany]:
    """The pool is there and empty, and the LAN; the server is still to be started."""
    company = SmallCompany(directory, lab)
    with ExitStack() as stack:
        _set_up(company, pool_gib)
        stack.callback(unmount_image, company.data / "pool")
        stack.enter_context(lab)  # its libvirt sees the pool, which is mounted by now
        stack.callback(company.stop)
        yield company


def _set_up(company: SmallCompany, pool_gib: int) -> None:
    network = company.lab.network
    url = f"https://{network.address(1)}:{SERVER_PORT}"
    settings = {
        "data_dir": str(company.data),
        "pool_path": str(company.data / "pool"),
        "pool_image_gib": pool_gib,
        "listen_host": "0.0.0.0",  # noqa: S104 -- in a namespace
        "listen_port": SERVER_PORT,
        "urls": [url],
        "lan_bridge": "lan0",
        "protect_versions": not can_reflink(company.directory),
        "accelerator": "tcg",
        "libvirt_uri": company.lab.uri,
        "schedule_minutes": 0,
        "capture_minutes": 0,
        "rehearsal_days": 0,
        "scrub_days": 0,
        "heartbeat_timeout_s": 86400,
    }
    lines = [f"{key} = {json.dumps(value)}\n" for key, value in settings.items()]
    company.directory.mkdir(parents=True, exist_ok=True)
    (company.directory / "notfall.toml").write_text("".join(lines))
    line = [sys.executable, "-c", _NOTFALL, "server", "init"]
    subprocess.run(line, env=company._environment(), check=True, capture_output=True, timeout=120)
    medium = company.data / "rescue"  # nobody boots it: the copies are prepared
    medium.mkdir()
    for path in vars(medium_in(medium)).values():
        path.touch()
    seal_medium(medium, [url])


def _lay_in(store: PrimaryStore, name: str, machine: Machine, disk: Path, size: int) -> None:
    """A version as a replication leaves it, but that its index says nothing; and its image."""
    stamp = store.fresh_stamp()
    path = store.paths.versions / stamp
    path.mkdir(parents=True)
    run(["cp", "--sparse=always", disk, path / "disk0.raw"])
    os.truncate(path / "disk0.raw", size)
    blocks = -(-size // BLOCK)
    (path / "disk0.idx").touch()
    os.truncate(path / "disk0.idx", blocks * 16)
    moment = layout.stamp_time(stamp).isoformat()
    manifest = Manifest(
        primary=store.uuid,
        name=name,
        stamp=stamp,
        kind="replication",
        consistency="filesystem",
        base="",
        machine=machine,
        disks=(DiskImage(0, size, -(-disk.stat().st_size // BLOCK), ""),),
        started_at=moment,
        sealed_at=moment,
    )
    replace_json(path / layout.MANIFEST, manifest.to_json())
    version = read_version(path)
    with store.preparing(version) as clones:
        store.seal_prepared(clones, {"changes": []})
