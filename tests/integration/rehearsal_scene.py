"""An emergency server on a small LAN with a real libvirt, and a copy that starts within seconds."""

from __future__ import annotations

import os
import select
import signal
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hand_agent import HandAgent
from server_process import ServerProcess

from notfall_lab.hypervisor import Lab
from notfall_lab.own_lab import own_lab
from notfall_lab.patience import BOOT_S, PATIENCE_S, until
from notfall_lab.relay import relay
from notfall_lab.small_guest import SmallGuest
from notfallserver.server.host.mount import unmount_image
from notfallserver.server.host.namespace import in_namespace
from notfallserver.server.vm import MachineState
from notfallserver.server.vm.libvirt import LibvirtHypervisor
from notfallserver.wire.errors import NotfallError

PORT = 80
"""Emulated, and the processors are shared with other tests."""
SETTINGS = {
    "listen_host": "0.0.0.0",  # noqa: S104 -- in a namespace; seen from outside it is the relay
    "lan_bridge": "lan0",
    "accelerator": "tcg",
    "heartbeat_timeout_s": 30,
    "rehearsal_minutes": 10,
}


@dataclass
class Scene:
    lab: Lab
    server: ServerProcess
    hypervisor: LibvirtHypervisor
    agent: HandAgent
    guest: SmallGuest

    @property
    def rehearsal(self) -> str:
        return f"rehearsal-{self.agent.uuid}"

    def ask(self, path: str) -> Any:
        with self.server.root() as root:
            answer = root.get(f"/api/v1{path}")
            assert answer.status_code == 200, answer.text
            return answer.json()

    def state(self) -> str:
        return str(self.ask(f"/primaries/{self.agent.name}")["state"])

    def rehearsals(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self.ask(f"/primaries/{self.agent.name}/rehearsals")
        return rows

    def begin(self) -> str:
        """One that runs on, when the original is heard; its job."""
        until(lambda: self.state() == "normal")
        with self.server.root() as root:
            body = {"keep_running": True}
            answer = root.post(f"/api/v1/primaries/{self.agent.name}/rehearse", json=body)
            assert answer.status_code == 202, answer.text
            return str(answer.json()["id"])

    def await_evidence(self, job: str) -> dict[str, Any]:
        def known() -> bool:
            rows = self.rehearsals()
            assert rows or self.server.job(job)["finished_at"] is None, self.server.job(job)
            return bool(rows) and rows[0]["id"] == job

        until(known, BOOT_S)
        return self.rehearsals()[0]

    def console(self, place: str) -> str:
        path = self.server.pool.primary(self.agent.uuid).paths.root / place / "console.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def serves_in_hiding(self, address: str) -> bool:
        """Whether the copy answers in the network that only the server's process holds."""
        assert self.server.process is not None
        for one in Path(f"/proc/{self.server.process.pid}/fd").iterdir():
            if not one.exists() or not str(one.readlink()).startswith("net:["):
                continue
            with one.open("rb") as place:
                in_namespace(
                    place.fileno(), lambda: socket.create_connection((address, PORT), 10).close()
                )
            return True
        return False

    def nothing_is_left(self) -> None:
        """Neither machine nor cable nor clone of a rehearsal."""
        assert self.hypervisor.state(self.rehearsal) is MachineState.ABSENT
        assert "nfr-" not in self.lab.run_in(["ip", "link", "show"]).stdout
        work = self.server.pool.primary(self.agent.uuid).paths.work
        assert list(work.iterdir()) == []

    def kill_server(self) -> None:
        assert self.server.process is not None
        self.server.process.send_signal(signal.SIGKILL)
        self.server.process.wait(PATIENCE_S)
        self.server.process = None


@contextmanager
def rehearsable(directory: Path, name: str, net: int, leased: bool = False) -> Iterator[Scene]:
    """``leased``: the guest gets its IPv4 address by DHCP."""
    with ExitStack() as stack:
        server = ServerProcess(directory, dict(SETTINGS))
        socket_path = directory / "lab" / "run" / "libvirt-sock"
        server.settings["libvirt_uri"] = f"qemu+unix:///system?socket={socket_path}"
        server.set_up()  # before the lab, whose libvirt must see the pool that this mounts
        stack.callback(unmount_image, server.data / "pool")
        lab = stack.enter_context(own_lab(name, directory / "lab", net))
        server.inside = lab.network.inside("server")
        inside = lab.network.namespace()
        stack.enter_context(relay(server.port, inside, "127.0.0.1", server.port))
        stack.callback(server.put_away)
        server.start()
        guest = SmallGuest(
            name="shop",
            mac=f"52:54:00:00:{net:02x}:20",
            address=f"{lab.network.address(20)}/24",
            address6=f"{lab.network.address6(32)}/64",
            gateway=lab.network.address(254),
            port=PORT,
            server=(lab.network.address(1), server.port),
            leased=leased,
        )
        built = directory / "guest"
        built.mkdir()
        agent = HandAgent(server, "shop", guest.make_disk(built).read_bytes())
        stack.callback(agent.close)
        agent.machine |= guest.facts()
        agent.poll()
        agent.replicate()
        scene = Scene(lab, server, LibvirtHypervisor(lab.uri), agent, guest)
        stack.callback(scene.hypervisor.close)
        until(lambda: scene.state() == "normal")
        _prepare(scene)
        yield scene


def _prepare(scene: Scene) -> None:
    """The guest fits as it is; the server's own try fails, because no real medium is built."""
    server, uuid = scene.server, scene.agent.uuid

    def tried() -> bool:
        with server.catalogue() as catalogue:
            rows = catalogue.jobs.newest(uuid, "prepare", limit=1)
        return bool(rows) and rows[0].finished

    until(tried)
    store = server.pool.primary(uuid)
    with store.preparing(store.need_newest()) as clones:
        store.seal_prepared(clones, {})
    with server.catalogue() as catalogue:
        job, _ = catalogue.jobs.add("prepare", uuid, {}, "test")
        catalogue.jobs.begin(job.id)
        catalogue.jobs.finish(job.id, "done")


@dataclass
class Alive:
    """The original at work: its agent calls, inside the block."""

    agent: HandAgent
    _over: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Alive:
        self._thread = threading.Thread(target=self._call)
        self._thread.start()
        return self

    def _call(self) -> None:
        body = {"boot_id": "b", "role": "primary", "agent": "0", "busy": True}
        client = self.agent.connect()  # of its own: the agent may be replicating
        while not self._over.wait(1):
            try:
                client.call("POST", "/agent/v1/poll", body)
            except NotfallError:
                continue  # the server is being killed just now
        client.close()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


@dataclass
class Eavesdropper:
    """Hears every frame on every interface of the server, the whole LAN among them."""

    network: str
    frames: list[bytes] = field(default_factory=list)

    def __enter__(self) -> Eavesdropper:
        with open(f"/run/netns/{self.network}", "rb") as place:
            self._link = in_namespace(place.fileno(), self._listen)
        self._end = os.eventfd(0)
        self._thread = threading.Thread(target=self._hear)
        self._thread.start()
        return self

    def _listen(self) -> socket.socket:
        link = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))  # ETH_P_ALL
        everything = struct.pack("iHH8s", socket.if_nametoindex("lan0"), 1, 0, bytes(8))
        link.setsockopt(263, 1, everything)  # SOL_PACKET, PACKET_ADD_MEMBERSHIP: promiscuous
        return link

    def _hear(self) -> None:
        while True:
            ready, _, _ = select.select([self._link.fileno(), self._end], [], [])
            if self._end in ready:
                return
            self.frames.append(self._link.recv(2048))

    def __exit__(self, *_: object) -> None:
        os.eventfd_write(self._end, 1)
        self._thread.join()
        self._link.close()
        os.close(self._end)

    def of(self, mac: str) -> int:
        """Frames that this card sent."""
        sender = bytes.fromhex(mac.replace(":", ""))
        return sum(frame[6:12] == sender for frame in self.frames)
