"""What the service on Windows does, but for Windows: enrol, wait for orders, replicate."""

from __future__ import annotations

import hashlib
import json
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from agent_receiver import Receiver

from notfall_lab.patience import PATIENCE_S
from notfall_lab.windows.scene import Base, Scene, make_base
from notfallserver.agent import config
from notfallserver.agent.disks.windows import machine_facts, see_disks
from notfallserver.agent.duty import Duty
from notfallserver.agent.servers import known_servers
from notfallserver.agent.stop import Stop
from notfallserver.agent.windows import load
from notfallserver.agent.windows.duty import WindowsHost
from notfallserver.agent.windows.enrol import Invitation, enrol, read_invitation
from notfallserver.agent.windows.network import NetworkKeeper
from notfallserver.agent.windows.system import Times
from notfallserver.server.authority import create_authority
from notfallserver.wire.allowance import Allowance
from notfallserver.wire.errors import NotfallError
from notfallserver.wire.facts import Machine, read_machine


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    return make_base(tmp_path_factory.mktemp("base"))


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[Receiver]:
    found = Receiver(tmp_path)
    yield found
    found.close()


def host_of(scene: Scene, receiver: Receiver, stop: Stop) -> WindowsHost:
    return WindowsHost(receiver.config, scene.machine, scene.take, stop)


def duty_of(scene: Scene, receiver: Receiver) -> Duty:
    settings = receiver.settings([])
    server, stop = known_servers(receiver.config)[0], Stop()
    work = host_of(scene, receiver, stop).work(server, settings)
    return Duty(server, settings, stop, work)


def test_an_order_is_carried_out(base: Base, receiver: Receiver) -> None:
    receiver.orders.append("replicate")
    duty_of(Scene(base), receiver).serve(lambda: bool(receiver.seals))
    assert receiver.store.newest() is not None
    assert receiver.seals[0]["consistency"] == "application"


def test_a_failure_is_told(base: Base, receiver: Receiver) -> None:
    scene = Scene(base)
    duty = duty_of(scene, receiver)
    scene.machine.devices[0].refused = 5
    receiver.orders.append("replicate")
    duty.serve(lambda: duty._untold is not None)
    assert duty.poll_body(False, False)["failed"]["code"] == "windows-refused"
    assert receiver.store.newest() is None


def test_a_stand_in_does_not_replicate(base: Base, receiver: Receiver) -> None:
    duty = duty_of(Scene(base), receiver)
    (receiver.config / "role").write_text("stand-in\n")
    assert duty.poll_body(False, False)["role"] == "stand-in"
    with pytest.raises(NotfallError) as caught:
        duty.replicate()
    assert caught.value.code == "is-stand-in"
    assert "runs" not in receiver.log


def test_drivers_come_before_addresses(
    base: Base, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A card without its driver has none to set."""
    scene = Scene(base)
    package = receiver.config / "drivers/netkvm-0123"
    package.mkdir(parents=True)
    (package / "netkvm.inf").write_text("x")
    seen: list[int] = []

    def settle(keeper: NetworkKeeper) -> bool:
        seen.append(len(scene.machine.driver_commands))
        return True

    monkeypatch.setattr(NetworkKeeper, "settle", settle)
    duty_of(scene, receiver).serve(lambda: bool(seen))
    assert seen == [1]
    assert (receiver.config / "drivers.done").read_text() == "netkvm-0123\n"


def test_what_is_told_with_a_poll(base: Base, receiver: Receiver) -> None:
    body = duty_of(Scene(base), receiver).poll_body(True, False)
    assert read_machine(body["machine"]).hostname == "DC01"
    assert (body["role"], body["can"], body["busy"]) == ("primary", [], False)


@pytest.mark.parametrize("nice", [0, 10])
def test_the_priority_is_lower_unless_set_otherwise(
    base: Base, receiver: Receiver, nice: int
) -> None:
    scene = Scene(base)
    host_of(scene, receiver, Stop()).begin(receiver.settings([], nice=nice))
    assert scene.machine.settled == (1 if nice else 0)


def test_a_run_pauses_while_windows_is_busy(
    base: Base, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All processors are at work; the run ends all the same."""
    monkeypatch.setattr(load, "LEAST_S", 0.5)
    scene, answer = Scene(base), receiver.answer
    told: list[str] = []
    paused = threading.Event()

    def times() -> Times:
        seen = scene.machine.clock
        scene.machine.clock = Times(seen.idle, seen.passed + 40)
        return scene.machine.clock

    def limited(path: str, body: bytes) -> bytes:
        if path.endswith("/blocks"):
            paused.wait(PATIENCE_S)
        found = answer(path, body)
        if path.endswith("/progress"):
            told.append(json.loads(body)["phase"])
            if told[-1] == "paused: load":
                paused.set()
        if path.endswith(("/runs", "/progress")):
            limits = Allowance(pause_load=2, pause_s=2).to_json()
            return json.dumps({**json.loads(found), "allowance": limits}).encode()
        return found

    scene.machine.times = times  # type: ignore[method-assign]
    receiver.answer = limited  # type: ignore[method-assign]
    assert duty_of(scene, receiver).replicate().version
    assert paused.is_set()
    assert told[-1] == "hot"


# -- enrolment -----------------------------------------------------------------------------------


class Inviter:
    """A server with a CA of its own that takes one token."""

    def __init__(self, root: Path) -> None:
        authority = create_authority(root / "ca")
        authority.ensure_server_certificate(["127.0.0.1"])
        self.ca = authority.ca_pem
        self.fingerprint = hashlib.sha256(ssl.PEM_cert_to_DER_cert(self.ca)).hexdigest()
        self.bodies: list[dict[str, Any]] = []
        inviter = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._answer(inviter.ca.encode(), 200 if self.path == "/ca.pem" else 404)

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                inviter.bodies.append(body)
                if body["token"] != "right":
                    error = NotfallError("bad-token", "No.", "Ask for a new one.")
                    self._answer(json.dumps(error.to_json()).encode(), 400)
                    return
                names = ("primary", "certificate", "key", "ca")
                answer = {name: f"the {name}" for name in names} | {"url": inviter.url}
                self._answer(json.dumps(answer).encode(), 200)

            def _answer(self, content: bytes, status: int) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                """Quiet."""

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(authority.server_certificate, authority.server_key)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.url = f"https://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,))
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def inviter(tmp_path: Path) -> Iterator[Inviter]:
    found = Inviter(tmp_path)
    yield found
    found.close()


@pytest.fixture
def place(tmp_path: Path) -> Path:
    found = tmp_path / "config"
    found.mkdir()
    return found


def facts_of(base: Base) -> Machine:
    machine = Scene(base).machine
    return machine_facts(machine, see_disks(machine))


def test_an_invitation_is_used(base: Base, inviter: Inviter, place: Path) -> None:
    given = read_invitation(inviter.url + "/", f" right:{inviter.fingerprint.upper()} ")
    settings = enrol(given, place, lambda _disks: facts_of(base)).settings()
    assert config.load_settings(place) == settings
    assert (settings.url, settings.primary) == (inviter.url, "the primary")
    assert (place / "key.pem").read_text() == "the key"
    assert read_machine(inviter.bodies[0]["machine"]).hostname == "DC01"
    assert {one.name for one in place.iterdir()} == {"agent.json", "ca.pem", "cert.pem", "key.pem"}


def test_settings_outlive_a_new_invitation(base: Base, inviter: Inviter, place: Path) -> None:
    old = config.Settings("https://old", "old", disks=["0"], workers=2)
    (place / "agent.json").write_text(config.settings_text(old))
    given = Invitation(inviter.url, "right", inviter.fingerprint)
    settings = enrol(given, place, lambda _disks: facts_of(base)).settings()
    assert (settings.disks, settings.workers, settings.url) == (["0"], 2, inviter.url)


@pytest.mark.parametrize(
    ("token", "code"), [("right:" + "0" * 64, "wrong-server"), ("wrong:", "bad-token")]
)
def test_a_refused_invitation_leaves_everything(
    base: Base, inviter: Inviter, place: Path, token: str, code: str
) -> None:
    whole = token if len(token) > 20 else token + inviter.fingerprint
    with pytest.raises(NotfallError) as caught:
        enrol(read_invitation(inviter.url, whole), place, lambda _disks: facts_of(base))
    assert caught.value.code == code
    assert list(place.iterdir()) == []
    if code == "wrong-server":
        assert inviter.bodies == []  # the token was told to nobody


@pytest.mark.parametrize("token", ["", "right", "right:12", ":" + "0" * 64, "right:" + "x" * 64])
def test_an_invitation_that_is_not_whole(token: str) -> None:
    with pytest.raises(NotfallError) as caught:
        read_invitation("https://server", token)
    assert caught.value.code == "bad-invitation"
