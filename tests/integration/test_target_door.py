"""A target on the real routes: refused, paired, pulling onto a real disk, up to the switch-back.

The target is the rescue system's own puller on a loop device. Nothing here needs a machine: the
stand-in's disks are a clone in the pool, and libvirt is its built-in test driver, which knows of no
machine; so the stand-in counts as shut down.
"""

from __future__ import annotations

import json
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from agent_receiver import command, loop_device
from hand_agent import HandAgent
from server_process import ServerProcess, running

from notfallserver.rescue.pull import Puller, PullProgress
from notfallserver.rescue.secret import pairing_code
from notfallserver.rescue.targets import read_disks
from notfallserver.wire.blocks import BLOCK, HASH
from notfallserver.wire.client import Client, tls_context
from notfallserver.wire.errors import NotfallError
from notfallserver.wire.facts import Disk, Machine
from notfallserver.wire.frames import read_blocks, write_offer, write_want

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

MIB = 1 << 20
SIZE = 24 * MIB + 512  # the last block is short


class Target:
    """A machine booted from the rescue medium, as far as the server sees it."""

    def __init__(self, server: ServerProcess, *disks: Disk, firmware: str = "bios") -> None:
        self.machine = Machine("notfall-rescue", firmware=firmware, disks=list(disks))
        self.secret = secrets.token_hex(32)
        self.code = pairing_code(self.secret)
        self._server = server
        self.client = self.connect()
        self.report: dict[str, Any] = {"state": "idle"}

    def connect(self) -> Client:
        return Client(self._server.url, tls_context(self._server.ca), bearer=self.secret)

    def register(self, code: str = "") -> str:
        body = {"machine": self.machine.to_json(), "code": code or self.code}
        return str(self.client.call("POST", "/target/v1/register", body)["target"])

    def poll(self) -> dict[str, Any]:
        return self.client.call("POST", "/target/v1/poll", {"report": self.report})

    def index(self, version: str, disk: int = 0) -> bytes:
        return self.client.send("GET", f"/target/v1/index?version={version}&disk={disk}", b"")

    def want(self, version: str, frame: bytes) -> bytes:
        return self.client.send("POST", f"/target/v1/want?version={version}", frame)


class Working(threading.Thread):
    """A target that does what it is ordered; ``hold`` keeps it before each pull."""

    def __init__(self, target: Target) -> None:
        super().__init__()
        self.target = target
        self.over = threading.Event()
        self.hold = threading.Event()
        self.orders: list[dict[str, Any]] = []
        self.written: list[int] = []
        self._puller: Puller | None = None

    def run(self) -> None:
        while not self.over.is_set():
            try:
                order = self.target.poll()
            except NotfallError:
                time.sleep(0.3)
                continue
            if order["order"] in ("none", "release"):
                continue
            if not self.orders or order != self.orders[-1]:
                self.orders.append(order)
            self._carry_out(order)

    def _carry_out(self, order: dict[str, Any]) -> None:
        told = {"recovery": order["recovery"], "version": order.get("version", "")}
        try:
            if order["order"] == "pull":
                while self.hold.is_set() and not self.over.is_set():
                    time.sleep(0.1)
                if self._puller is None:
                    self._puller = Puller(read_disks(order), self.target.connect, self.over)
                progress = PullProgress()
                self._puller.pull(order["version"], progress)
                self.written.append(progress.written)
                amount = {"written": progress.written, "verified": progress.verified}
                self.target.report = {"state": "pulled", **told, **amount}
            elif order["order"] == "adapt":
                self.target.report = {"state": "adapted", **told, "changes": ["fstab"]}
            elif order["order"] == "reboot":
                self.target.report = {"state": "rebooting", **told}
        except NotfallError as error:
            self.target.report = {"state": "failed", **told, "error": error.to_json()}

    def __enter__(self) -> Working:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.join()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    settings = {"libvirt_uri": "test:///default"}
    with running(ServerProcess(tmp_path_factory.mktemp("target"), settings)) as server:
        yield server


@pytest.fixture
def agent(server: ServerProcess) -> Iterator[HandAgent]:
    """A primary whose stand-in works; the first half of its disk is a hole."""
    half = SIZE // 2 // BLOCK * BLOCK
    agent = HandAgent(server, f"p{secrets.token_hex(4)}", bytes(half) + os.urandom(SIZE - half))
    agent.protect()
    server.put_in_emergency(agent.uuid)
    yield agent
    agent.close()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """A larger disk that holds something."""
    image = tmp_path / "target.img"
    image.write_bytes(os.urandom(32 * MIB))
    with loop_device(image) as device:
        yield Disk(device.removeprefix("/dev/"), 32 * MIB, serial="T1", model="Loop")


@pytest.fixture
def boot(server: ServerProcess) -> Iterator[Callable[..., Target]]:
    """Boots a target with some disks."""
    booted: list[Target] = []

    def one(*disks: Disk, firmware: str = "bios") -> Target:
        booted.append(Target(server, *disks, firmware=firmware))
        return booted[-1]

    yield one
    for target in booted:
        target.client.close()


def state_of(server: ServerProcess, agent: HandAgent) -> str:
    with server.root() as root:
        return str(root.get(f"/api/v1/primaries/{agent.name}").json()["state"])


def await_state(server: ServerProcess, agent: HandAgent, state: str) -> None:
    until = time.monotonic() + 60
    while (now := state_of(server, agent)) != state:
        assert time.monotonic() < until, (now, server.log()[-3000:])
        time.sleep(0.2)


def refusal(server: ServerProcess, *arguments: str) -> dict[str, Any]:
    done = server.notfall(*arguments, "--json")
    assert done.returncode == 1, done.stdout
    told: dict[str, Any] = json.loads(done.stderr)
    return told


def test_only_a_target_with_its_own_code_registers(
    server: ServerProcess, boot: Callable[..., Target]
) -> None:
    target = boot(Disk("sda", SIZE))
    with pytest.raises(NotfallError) as caught:
        target.poll()
    assert (caught.value.status, caught.value.code) == (401, "no-such-target")
    for code in ("ABCDEFGH", "x" * 5000):
        with pytest.raises(NotfallError) as caught:
            target.register(code)
        assert (caught.value.status, caught.value.code) == (400, "bad-code")
    assert target.register() == target.register()
    with server.root() as root:
        shown = root.get("/api/v1/targets").text
    assert target.code not in shown and target.secret not in shown
    stranger = boot(Disk("sda", SIZE))
    stranger.client = Client(server.url, tls_context(server.ca), bearer="z" * 64)
    with pytest.raises(NotfallError) as caught:
        stranger.register()
    assert (caught.value.status, caught.value.code) == (401, "bad-secret")


def test_what_does_not_fit_is_refused_before_any_order(
    server: ServerProcess, agent: HandAgent, boot: Callable[..., Target]
) -> None:
    small = boot(Disk("sda", SIZE - BLOCK, serial="S1"))
    uefi = boot(Disk("sda", SIZE), firmware="uefi")
    for target, code in ((small, "target-disk-too-small"), (uefi, "firmware-differs")):
        target.register()
        for option in ((), ("--disk", "vda=sda"), ("--yes",)):
            told = refusal(server, "recover", agent.name, "--to", target.code, *option)
            assert told["code"] == code and told["remedy"]
        assert target.poll() == {"order": "none"}
    told = refusal(server, "recover", agent.name, "--to", "ABCDEFGH", "--yes")
    assert told["code"] == "no-such-target"
    assert state_of(server, agent) == "emergency"


def test_a_target_reads_nothing_before_it_is_paired(
    server: ServerProcess, agent: HandAgent, boot: Callable[..., Target]
) -> None:
    stamp = server.pool.primary(agent.uuid).need_newest().stamp
    target = boot(Disk("sda", SIZE))
    for status, code in ((401, "no-such-target"), (403, "not-paired")):
        for read in (lambda: target.index(stamp), lambda: target.want(stamp, write_want(0, [0]))):
            with pytest.raises(NotfallError) as caught:
                read()
            assert (caught.value.status, caught.value.code) == (status, code)
        target.register()


def recover(server: ServerProcess, agent: HandAgent, target: Target) -> str:
    done = server.notfall("recover", agent.name, "--to", target.code, "--yes", "--json")
    assert done.returncode == 0, done.stderr
    return str(json.loads(done.stdout)["id"])


def test_a_paired_target_reads_versions_of_its_primary_only(
    server: ServerProcess, agent: HandAgent, boot: Callable[..., Target]
) -> None:
    other = HandAgent(server, f"q{secrets.token_hex(4)}")
    foreign = other.protect()
    target = boot(Disk("sda", SIZE, serial="S1"))
    target.register()
    job = recover(server, agent, target)
    try:
        order = target.poll()
        assert order["order"] == "pull" and not order["final"]
        assert order["disks"] == [{"index": 0, "serial": "S1", "name": "sda", "size": SIZE}]
        stamp = order["version"]
        index = target.index(stamp)
        last = len(index) // HASH - 1
        frame = read_blocks(target.want(stamp, write_want(0, [last])), last, SIZE % BLOCK)
        assert bytes(frame.payload) == agent.disk[last * BLOCK :]
        refused = [
            (lambda: target.index(foreign), "unknown-version"),
            (lambda: target.index("../../x"), "bad-version"),
            (lambda: target.index(stamp, 7), "unknown-disk"),
            (lambda: target.want(stamp, write_want(0, [last + 1])), "bad-frame"),
            (lambda: target.want(stamp, write_want(0, [0])), "bad-frame"),  # a hole
            (lambda: target.want(stamp, write_want(0, [last] * 65)), "bad-frame"),
            (lambda: target.want(stamp, write_want(0, [last])[:-1]), "bad-frame"),
            (lambda: target.want(stamp, write_offer(0, [(0, bytes(16))])), "bad-frame"),
            (lambda: target.want(stamp, write_want(9, [0])), "unknown-disk"),
            (lambda: target.want(stamp, b""), "bad-frame"),
        ]
        for number, (read, code) in enumerate(refused):
            with pytest.raises(NotfallError) as caught:
                read()
            assert (number, caught.value.code) == (number, code)
            assert 400 <= caught.value.status < 500
        second = boot(Disk("sda", SIZE))
        second.register()
        told = refusal(server, "recover", other.name, "--to", target.code, "--yes")
        assert told["code"] == "not-in-this-state"
        with pytest.raises(NotfallError) as caught:
            second.index(stamp)
        assert caught.value.code == "not-paired"
    finally:
        with server.root() as root:
            root.post(f"/api/v1/jobs/{job}/cancel")
    assert server.await_job(job)["state"] == "cancelled"
    assert target.poll()["order"] == "release"
    with pytest.raises(NotfallError) as caught:
        target.index(stamp)
    assert caught.value.code == "not-paired"
    assert state_of(server, agent) == "emergency"
    other.close()


def test_a_recovery_goes_on_after_the_server_was_killed_and_ends_in_the_switch_back(
    server: ServerProcess, agent: HandAgent, disk: Disk, boot: Callable[..., Target]
) -> None:
    target = boot(disk)
    target.register()
    with ExitStack() as stack:
        working = stack.enter_context(Working(target))
        working.hold.set()
        job = recover(server, agent, target)
        until = time.monotonic() + 30
        while not working.orders:
            assert time.monotonic() < until
            time.sleep(0.1)
        server.kill()
        working.hold.clear()  # it reads while the server is away and while it comes back
        server.start()
        assert state_of(server, agent) == "recovering"
        standin = server.pool.primary(agent.uuid).standin()
        assert standin is not None
        with standin.disks[0].open("r+b") as stream:
            stream.seek(3 * BLOCK)
            stream.write(b"written by the stand-in")
        while not ready(server, agent):
            assert time.monotonic() < until + 60, server.log()[-3000:]
            time.sleep(0.3)
        with server.root() as root:
            answer = root.post(f"/api/v1/primaries/{agent.name}/switch-back", json={})
            assert answer.status_code == 202, answer.text
            switch = answer.json()["id"]
        while working.orders[-1]["order"] != "reboot":
            assert time.monotonic() < until + 120, (server.job(switch), target.report)
            time.sleep(0.2)
        assert server.await_job(job)["state"] == "done"
        state = state_of(server, agent)
        assert agent.poll("primary") == {"order": "none"}  # the recovered machine's agent is heard
        row = server.await_job(switch)
    assert (state, row["state"]) == ("switching_back", "done"), row
    assert row["result"]["changes"] == ["fstab"]
    # First everything that is no hole, later only what the stand-in wrote.
    assert sum(working.written) <= SIZE // 2 + 4 * BLOCK
    assert state_of(server, agent) == "normal"
    assert server.pool.primary(agent.uuid).standin() is None
    newest = server.pool.primary(agent.uuid).need_newest()
    command("cmp", "-n", SIZE, newest.raw(0), f"/dev/{disk.name}")
    assert b"written by the stand-in" in newest.raw(0).read_bytes()


def ready(server: ServerProcess, agent: HandAgent) -> bool:
    with server.catalogue() as catalogue:
        notes = catalogue.primaries.find(agent.uuid).notes.get("recovery", {})
    return bool(notes.get("closeness", {}).get("ready"))
