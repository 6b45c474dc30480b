"""An original that comes back keeps off the network while its stand-in works."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from socket import AF_INET6, create_server
from typing import Any

import pytest
from agent_receiver import Receiver

from notfall_lab.guest_tree import loop_disk, mounted
from notfall_lab.guestshell import GuestShell
from notfall_lab.image import make_image
from notfall_lab.machine import HardDisk, Hardware, Machine
from notfall_lab.namespace import BRIDGE, Network, sh
from notfall_lab.own_lab import own_name, own_network
from notfall_lab.patience import BOOT_S, until_soon
from notfall_lab.recipe_guest import BIOS
from notfallserver.agent import install
from notfallserver.agent.config import Settings, settings_text
from notfallserver.agent.fence import own, units
from notfallserver.agent.place import Place
from notfallserver.agent.role import DIRECTORY
from notfallserver.server.agent_package import pack_agent
from notfallserver.server.host.namespace import in_namespace

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

PORT = 8443
MAC = "52:54:00:77:07:05"

# -- asking, in namespaces -------------------------------------------------------------------------

ASK = """
import json, sys
from notfallserver.agent.fence.ask import ask_own
from notfallserver.agent.fence.judge import judge
from notfallserver.agent.fence.own import Address
macs = frozenset([sys.argv[1]])
asked = [Address(one, vlan=vlan, cards=("eth0",)) for one, vlan in json.loads(sys.argv[2])]
found = judge(asked, macs, ask_own(asked, ["eth0"], macs))
print(json.dumps([found.taken, found.stand_in, found.answers]))
"""


# Answers ARP in VLAN 20 only, to whatever card the question names.
TAGGED = """
import sys
from ipaddress import IPv4Address
from notfallserver.wire import packets, segment
link = segment.open_link("eth0", packets.ARP, everything=True)
mac, address = packets.mac_bytes(sys.argv[1]), IPv4Address(sys.argv[2]).packed
link.setblocking(True)
print("up", flush=True)
while True:
    frame, vlan = segment.receive(link)
    if vlan == 20 and frame[38:42] == address:
        answer = frame[22:28] + mac + frame[12:20] + b"\\0\\2" + mac + address + frame[22:32]
        link.send(packets.in_vlan(answer, 20))
"""


@pytest.fixture(scope="module")
def lan() -> Iterator[Network]:
    """The original with an address on its card (here: none), and its stand-in with the same MAC."""
    with own_network("twin", 120) as network:
        network.add_host("original", 5, MAC)
        sh("ip", "-n", network.namespace("original"), "addr", "flush", "dev", "eth0")
        network.add_host("standin", 5, MAC)
        network.add_host("peer", 6)
        yield network


def ask(network: Network, *addresses: tuple[str, int]) -> tuple[bool, bool, list[Any]]:
    line = [sys.executable, "-c", ASK, MAC, json.dumps(addresses)]
    taken, stand_in, answers = json.loads(sh(*network.inside("original", *line)))
    return taken, stand_in, answers


def test_a_stand_in_with_the_same_mac_is_heard(lan: Network) -> None:
    """No switch sends an answer from a MAC back to it: hence the special probe."""
    for address in (lan.address(5), lan.address6(5)):
        assert ask(lan, (address, 0)) == (True, True, [[address, MAC]])
    assert ask(lan, (lan.address(5), 20), (lan.address(9), 0)) == (False, False, [])


def test_it_is_asked_for_in_its_vlan(lan: Network) -> None:
    line = lan.inside("standin", sys.executable, "-c", TAGGED, MAC, lan.address(7))
    with subprocess.Popen(line, stdout=subprocess.PIPE) as answering:
        try:
            assert answering.stdout is not None and answering.stdout.readline() == b"up\n"
            assert ask(lan, (lan.address(7), 20)) == (True, True, [[lan.address(7), MAC]])
            for vlan in (0, 21):
                assert ask(lan, (lan.address(7), vlan)) == (False, False, [])
        finally:
            answering.kill()


def test_an_address_that_another_machine_has_is_no_stand_in(lan: Network) -> None:
    """Pairs of servers hand an address over; one whose all addresses are taken keeps off."""
    taken, stand_in, answers = ask(lan, (lan.address(6), 0), (lan.address(9), 0))
    assert not taken and not stand_in and answers[0][0] == lan.address(6)
    taken, stand_in, _ = ask(lan, (lan.address(6), 0))
    assert taken and not stand_in


BOOT = """
import json, sys
from pathlib import Path
from notfallserver.agent.fence import ask, boot
from notfallserver.agent.fence.own import Address, Card, Network
ask.is_card = lambda name: name == "eth0"  # there is no hardware in a namespace
ask.is_settled = boot.is_settled = lambda name: True
known = [Address(one, cards=("eth0",)) for one in json.loads(sys.argv[2])]
mac = sys.argv[1]
boot.recall = lambda _: Network((Card("eth0", mac),), tuple(known), frozenset([mac]))
print(json.dumps(boot.guard_boot(Path("/nowhere"))))
"""


def test_where_nobody_answers_the_cards_are_left_as_they_were(lan: Network) -> None:
    """What sets the network up afterwards finds what it expects, and the kernel gave no address."""
    inside = lan.inside("original", "sh", "-c")
    switch = "/proc/sys/net/ipv6/conf/eth0/disable_ipv6"
    for before in ("0", "1"):
        sh(*inside, f"ip link set eth0 down; echo {before} > {switch}")
        asked = json.dumps([lan.address(9), lan.address6(9)])
        # Entering the namespace by "ip netns exec" shows its own cards in /sys.
        line = ["ip", "netns", "exec", lan.namespace("original"), sys.executable, "-c", BOOT]
        assert sh(*line, MAC, asked).strip() == "false"
        told = json.loads(sh("ip", "-n", lan.namespace("original"), "-j", "addr", "show", "eth0"))
        assert "UP" not in told[0]["flags"] and told[0]["addr_info"] == []
        assert sh(*inside, f"cat {switch}").strip() == before
    sh(*inside, f"echo 0 > {switch}; ip link set eth0 up")


# -- a real guest ----------------------------------------------------------------------------------


class Server(Receiver):
    """Says whether the stand-in works, and where it can be reached by somebody without address."""

    def __init__(self, root: Path, network: Network) -> None:
        with open(f"/run/netns/{network.namespace()}", "rb") as place:
            listener = in_namespace(
                place.fileno(),
                lambda: create_server(("::", PORT), family=AF_INET6, dualstack_ipv6=True),
            )
        super().__init__(root, listener)
        told = json.loads(sh("ip", "-n", network.namespace(), "-j", "addr", "show", BRIDGE))
        infos = told[0]["addr_info"]
        self.near = [one["local"] for one in infos if one["scope"] == "link"]
        self.url = f"https://{network.address(1)}:{PORT}"
        self.stay = True
        self.kept_off: list[dict[str, Any]] = []

    def answer(self, path: str, body: bytes) -> bytes:
        if path.endswith("/kept-off"):
            self.kept_off.append(json.loads(body))
            return json.dumps({"stay": self.stay}).encode()
        answer = super().answer(path, body)
        if path.endswith("/poll"):
            return json.dumps({**json.loads(answer), "near": self.near}).encode()
        return answer


def install_agent(tree: Path, server: Server, known: own.Network, disks: list[str]) -> None:
    """What ``agent.pyz install`` leaves on a machine that worked for a while; ``known`` are its
    addresses."""
    files = tree / str(DIRECTORY).lstrip("/")
    files.mkdir(mode=0o700)
    for name in ("ca.pem", "cert.pem", "key.pem"):
        shutil.copy(server.config / name, files / name)
    (files / "agent.json").write_text(settings_text(Settings(server.url, server.uuid, disks)))
    program = tree / str(install.PROGRAM).lstrip("/")
    program.parent.mkdir(parents=True)
    program.write_bytes(pack_agent())
    texts = units.texts(install.PROGRAM, DIRECTORY, "/usr/bin/python3")
    texts[install.UNIT] = install.unit_text("/usr/bin/python3", install.PROGRAM, DIRECTORY)
    folder = tree / "etc/systemd/system"
    (folder / "multi-user.target.wants").mkdir(exist_ok=True)
    for name, text in texts.items():
        (folder / name).write_text(text)
        if "[Install]" in text:
            (folder / "multi-user.target.wants" / name).symlink_to(f"../{name}")
    file = tree / str(Place(DIRECTORY).network).lstrip("/")
    file.parent.mkdir(parents=True)
    file.write_text(own.text_of(known))


@pytest.mark.timeout(900)
def test_a_returning_original_keeps_off_until_the_stand_in_is_gone(tmp_path: Path) -> None:
    with ExitStack() as stack:
        network = stack.enter_context(Network(own_name("backon")))
        network.add_host("customer", 100)
        network.add_host("standin", BIOS.host, BIOS.mac)
        (tmp_path / "server").mkdir()
        server = Server(tmp_path / "server", network)
        stack.callback(server.close)
        disks = make_image(BIOS).copy_to(tmp_path / "m")
        (tmp_path / "tree").mkdir()
        known = own.Network(
            (own.Card(BIOS.nic, BIOS.mac),),
            tuple(own.Address(one, cards=(BIOS.nic,)) for one in (BIOS.address, BIOS.address6)),
            frozenset([BIOS.mac]),
            {server.url: tuple(server.near)},
        )
        with loop_disk(disks[0]) as device, mounted(f"{device}p1", tmp_path / "tree"):
            install_agent(tmp_path / "tree", server, known, ["/dev/vda", "/dev/vdb"])
        hardware = Hardware(BIOS.name, tuple(HardDisk(one) for one in disks), BIOS.mac)
        machine = Machine(hardware, tmp_path / "m", network.namespace())
        shell = GuestShell(network.namespace("customer"), BIOS.address)
        stack.enter_context(machine)
        # The stand-in works: whoever asks reaches it, and never the machine that comes back.
        machine.power_on()
        machine.wait_console(f"answers at {BIOS.address} .{BIOS.mac}.", BOOT_S)
        machine.wait_console("KEEPS OFF THE NETWORK[^$]*login:", BOOT_S)
        until_soon(lambda: bool(server.kept_off), 120)
        assert server.kept_off[0]["because"] == "stand-in" and "poll" not in server.log
        # It was given up, and the emergency server says so.
        network.drop_host("standin")
        server.stay = False
        shell.wait(BOOT_S)
        until_soon(lambda: "poll" in server.log, 120)
        assert shell.run("ip netns; ls /run/issue.d").out.strip() == ""
        assert BIOS.address in shell.run("cat /var/lib/notfall-agent/*.network").out
        tells_of_its_systemd(machine, shell)
        # The server orders it off again, as if the cut between both had healed.
        server.stay, server.kept_off = True, []
        server.orders.append("stay-off")
        until_soon(lambda: bool(server.kept_off), 120)
        assert server.kept_off[0]["because"] == "order"
        with pytest.raises(OSError):
            shell.run("true", timeout=5)


def tells_of_its_systemd(machine: Machine, shell: GuestShell) -> None:
    """With its facts, and on its console as in a rehearsal."""
    shell.run("systemd-run --quiet --unit=torn /bin/false; sleep 2", check=False)
    told = json.loads(shell.run(f"/usr/bin/python3 {install.PROGRAM} facts").out)
    assert told["systemd"] in ("starting", "degraded") and "torn.service" in told["failed_units"]
    assert any(one.startswith(("getty@", "serial-getty@")) for one in told["logins"]), told
    code = (
        f"import sys; sys.path.insert(0, '{install.PROGRAM}'); "
        "from notfallserver.agent.report import tell_system; tell_system()"
    )
    shell.run(f'/usr/bin/python3 -c "{code}"')
    machine.wait_console(r'notfall-system \{.*torn\.service.*"login": true', 30)
