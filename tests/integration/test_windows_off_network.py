"""An original on Windows, asked and ordered by the real protocol, keeps off the network.

Its cards are played (``notfall_lab.windows.net``); what is asked is asked by TLS, once at this
machine's loopback and once at a link-local address on it.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from agent_receiver import Receiver, command

from notfall_lab.windows.net import NetMachine, Nic
from notfallserver.agent.duty import Duty
from notfallserver.agent.servers import known_servers
from notfallserver.agent.stop import Stop
from notfallserver.agent.windows import asking as asking_module
from notfallserver.agent.windows.apart import FILE
from notfallserver.agent.windows.asking import Asking, recall_near
from notfallserver.agent.windows.duty import WindowsHost

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

NEAR = f"fe80::77:{os.getpid() & 0xFFFF:x}"


@pytest.fixture
def near() -> Iterator[str]:
    """A link-local address of this machine's loopback, where it disturbs nobody."""
    command("ip", "address", "add", f"{NEAR}/128", "dev", "lo", "scope", "link")
    yield NEAR
    command("ip", "address", "del", f"{NEAR}/128", "dev", "lo")


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[Receiver]:
    """Listens on all addresses of this machine, of both families."""
    listener = socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)
    found = Receiver(tmp_path, listener)
    found.settings([])
    yield found
    found.close()


class Rounds(Stop):
    """Time does not pass; after each pause something may happen."""

    def __init__(self) -> None:
        super().__init__()
        self.pauses = 0
        self.then: dict[int, Callable[[], None]] = {}

    def wait(self, seconds: float) -> None:
        self.pauses += 1
        assert self.pauses < 500, "it never ends"
        self.then.pop(self.pauses, lambda: None)()


@pytest.fixture
def machine() -> NetMachine:
    lan = Nic("{AA}", "Ethernet", "52:54:00:00:00:01", socket.if_nametoindex("lo"))
    found = NetMachine(lan)
    found.fix(lan, "198.51.100.10", "198.51.100.1")
    found.start()
    return found


def host_of(receiver: Receiver, machine: NetMachine, stop: Stop) -> WindowsHost:
    def take(_volumes: object) -> None:
        raise AssertionError("nothing is replicated here")

    return WindowsHost(receiver.config, machine, take, stop)  # type: ignore[arg-type]


def test_the_order_is_obeyed_told_and_over_when_the_server_says_so(
    receiver: Receiver, machine: NetMachine, near: str
) -> None:
    stop, before = Rounds(), machine.saved()
    host = host_of(receiver, machine, stop)
    server = known_servers(receiver.config)[0]
    settings = server.settings()
    duty = Duty(server, settings, stop, host.work(server, settings))
    receiver.near = [near]
    polls = iter(range(10))
    duty.serve(lambda: next(polls) == 1)  # in peace: where the server is near
    assert recall_near(receiver.config) == {settings.url: (near,)}

    receiver.stand_in = True
    exposed: list[list[str]] = []

    def look() -> None:
        if receiver.stand_in:
            exposed.append(machine.exposed())
        receiver.stand_in = len(receiver.kept_off) < 2
        stop.then[stop.pauses + 1] = look

    stop.then[stop.pauses + 1] = look
    polls = iter(range(10))
    duty.serve(lambda: next(polls) == 1)
    assert not any(exposed) and exposed
    assert [one["because"] for one in receiver.kept_off] == ["order"] * len(receiver.kept_off)
    assert len(receiver.kept_off) >= 2
    assert machine.saved() == before and not (receiver.config / FILE).exists()


def test_a_service_that_starts_asks_before_it_works(
    receiver: Receiver, machine: NetMachine, near: str
) -> None:
    stop = Rounds()
    host = host_of(receiver, machine, stop)
    host.come_up()
    assert receiver.log == ["poll"] and machine.commands == []
    receiver.stand_in = True
    stop.then[1] = lambda: setattr(receiver, "stand_in", False)
    (receiver.config / "near.json").write_text(f'{{"{receiver.url}": ["{near}"]}}')
    host.come_up()
    assert receiver.log[1:] == ["poll", "kept-off", "kept-off"]
    assert machine.nics[0].ipv4 == [("198.51.100.10", 1)]


def test_a_server_whose_name_is_not_known_is_found_near(
    receiver: Receiver, near: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one who knew the name may be down as well."""
    port = urlsplit(receiver.url).port
    text = (receiver.config / "agent.json").read_text()
    url = f"https://nowhere.invalid:{port}"
    (receiver.config / "agent.json").write_text(text.replace(receiver.url, url))
    asking = Asking(receiver.config, lambda: "boot")
    index = socket.if_nametoindex("lo")
    assert asking.by_own_addresses([index]) is None
    (receiver.config / "near.json").write_text(f'{{"{url}": ["{near}"]}}')
    assert asking.by_own_addresses([index]) is False
    receiver.stand_in = True
    assert asking.by_own_addresses([index]) is True
    assert asking.without(index, "order") is True
    receiver.stand_in = False
    assert asking.without(index, "order") is False
    # Of several each is tried, though the first ones take all the time that there is.
    monkeypatch.setattr(asking_module, "_IN_ALL_S", -1.0)
    (receiver.config / "near.json").write_text(f'{{"{url}": ["fe80::1:1", "fe80::1:2", "{near}"]}}')
    assert [asking.without(index, "order") for _ in range(3)] == [None, False, False]


def test_one_server_of_two_cannot_say_that_it_is_over(receiver: Receiver) -> None:
    second = receiver.config / "servers" / "second"
    second.mkdir(parents=True)
    (second / "agent.json").write_text('{"url": "https://127.0.0.1:9", "primary": "p"}')
    for one in ("ca.pem", "cert.pem", "key.pem"):
        (second / one).write_text((receiver.config / one).read_text())
    asking = Asking(receiver.config, lambda: "boot")
    assert asking.by_own_addresses([]) is False
    receiver.stand_in = True
    assert asking.by_own_addresses([]) is True
    receiver.stand_in = False
    assert asking.without(1, "order") is None, "nobody is near"
    asking.say_goodbye("order")
    assert receiver.kept_off[-1]["because"] == "order"
