"""The guard against hosts in network namespaces: answering, half silent, silent, cut off."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest

from notfall_lab.namespace import Network, sh
from notfall_lab.own_lab import own_network

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

EXAMINE = """
import json, sys, time
from notfallserver.server.cycle.outage.examine import examine
began = time.monotonic()
asked = json.loads(sys.argv[1])
verdict = examine(asked.pop("groups"), **asked)
print(json.dumps({**verdict.to_json(), "seconds": time.monotonic() - began}))
"""

# Answers every ARP question on a tap, as a virtual machine would.
GUEST = """
import fcntl, os, struct, sys
tap = os.open("/dev/net/tun", os.O_RDWR)
fcntl.ioctl(tap, 0x400454CA, struct.pack("16sH", b"tap0", 0x1002))
os.system("ip link set tap0 master lan0 up")
print("up", flush=True)
mac = bytes.fromhex("525400c80001")
while True:
    frame = os.read(tap, 2048)
    if frame[12:14] == b"\\x08\\x06" and frame[38:42] == bytes(map(int, sys.argv[1].split("."))):
        os.write(tap, frame[6:12] + mac + b"\\x08\\x06" + frame[14:20] + b"\\0\\2"
                 + mac + frame[38:42] + frame[22:32])
"""


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    with own_network("guard", 200) as network:
        network.add_host("db", 20)
        network.add_host("shy", 21, pings=False)
        yield network


def examine(network: Network, number: int, version: int = 4, **more: Any) -> dict[str, Any]:
    address = network.address(number) if version == 4 else network.address6(number)
    asked = {"groups": [[address]], "bridge": "lan0", "heartbeat_age": None, **more}
    line = [sys.executable, "-W", "error", "-c", EXAMINE, json.dumps(asked)]
    verdict: dict[str, Any] = json.loads(sh(*network.inside("server", *line)))
    assert verdict["seconds"] < 1.6
    return verdict


def keys(verdict: dict[str, Any], about: str = "primary") -> set[str]:
    return {one["key"] for one in verdict["evidence"] if one["about"] == about}


def test_a_host_that_answers(network: Network) -> None:
    verdict = examine(network, 20, ports=[80])
    assert not verdict["allowed"] and verdict["reason"] == "alive"
    assert {"ping-yes", "arp-yes", "tcp-yes"} <= keys(verdict)
    assert verdict["seconds"] < 0.6  # life is told at once, only silence takes time
    assert {"ping-yes", "neighbour-yes"} <= keys(examine(network, 20, 6))


def test_a_host_that_drops_pings(network: Network) -> None:
    verdict = examine(network, 21)
    assert verdict["reason"] == "alive"
    assert {"ping-no", "arp-yes"} <= keys(verdict)
    verdict = examine(network, 21, 6)
    assert verdict["reason"] == "alive"
    assert {"ping-no", "neighbour-yes"} <= keys(verdict)


def test_silence(network: Network) -> None:
    for version in (4, 6):
        verdict = examine(network, 22, version, ports=[80], heartbeat_age=100.0)
        assert verdict["allowed"] and verdict["reason"] == "silent"
        assert "ping-yes" in keys(verdict, "witness")
    assert examine(network, 22, heartbeat_age=3.0)["reason"] == "alive"


def test_a_server_that_is_cut_off(network: Network) -> None:
    network.plug("router", False)
    try:
        assert examine(network, 22)["reason"] == "cut-off"
        # Others that answer are not enough where the way out is missing: which side is this?
        verdict = examine(network, 22, other_addresses=[network.address(20)])
        assert verdict["reason"] == "split" and network.address(254) in verdict["text"]
        # The server's own address and the primary's own are no witnesses.
        mine = [network.address(1), network.address(22)]
        verdict = examine(network, 22, configured_witnesses=mine)
        assert verdict["reason"] == "cut-off" and len(keys(verdict, "witness")) == 2
    finally:
        network.plug("router", True)


def test_without_any_witness(network: Network) -> None:
    sh("ip", "-n", network.namespace(), "route", "del", "default")
    try:
        verdict = examine(network, 22)
        assert verdict["reason"] == "no-witness" and "witnesses" in verdict["remedy"]
        verdict = examine(network, 22, configured_witnesses=[network.address(254)])
        assert verdict["allowed"]
        # Where there is no way out at all, other machines that answer are enough.
        assert examine(network, 22, other_addresses=[network.address(20)])["allowed"]
    finally:
        route = ["route", "add", "default", "via", network.address(254)]
        sh("ip", "-n", network.namespace(), *route)


def test_our_own_machine_is_neither_life_nor_witness(network: Network) -> None:
    address = network.address(23)
    line = network.inside("server", sys.executable, "-c", GUEST, address)
    with subprocess.Popen(line, stdout=subprocess.PIPE) as guest:
        try:
            assert guest.stdout is not None and guest.stdout.readline() == b"up\n"
            verdict = examine(network, 23)
            assert verdict["allowed"] and "arp-ours" in keys(verdict)
            network.plug("router", False)
            assert examine(network, 22, other_addresses=[address])["reason"] == "cut-off"
        finally:
            network.plug("router", True)
            guest.kill()


def test_a_segment_that_cannot_be_asked(network: Network) -> None:
    verdict = examine(network, 22, groups=[["10.99.9.5"]], bridge="nope")
    assert verdict["reason"] == "cannot-tell" and "arp-unknown" in keys(verdict)
    told = [one["text"] for one in verdict["evidence"] if one["key"] == "arp-unknown"]
    assert "No such device" in told[0]


def test_ipv6_answers_and_ipv4_does_not(network: Network) -> None:
    network.add_host("six", 24)
    inside = ["ip", "-n", network.namespace("six")]
    sh(*inside, "addr", "del", f"{network.address(24)}/24", "dev", "eth0")
    both = [[network.address(24), network.address6(24)]]
    verdict = examine(network, 24, groups=both)
    assert verdict["reason"] == "alive"
    assert {"arp-no", "neighbour-yes"} <= keys(verdict)
    network.drop_host("six")


def test_a_network_with_ipv6_only(network: Network) -> None:
    """Its way out is a link-local address."""
    told = json.loads(sh("ip", "-n", network.namespace("router"), "-j", "addr", "show", "eth0"))
    (link,) = [one["local"] for one in told[0]["addr_info"] if one["scope"] == "link"]
    inside = ["ip", "-n", network.namespace()]
    sh(*inside, "route", "del", "default")
    sh(*inside, "-6", "route", "add", "default", "via", link, "dev", "lan0")
    try:
        verdict = examine(network, 22, 6)
        assert verdict["allowed"] and keys(verdict, "witness") == {"neighbour-yes"}
        network.plug("router", False)
        assert examine(network, 22, 6)["reason"] == "cut-off"
    finally:
        network.plug("router", True)
        sh(*inside, "-6", "route", "del", "default")
        sh(*inside, "route", "add", "default", "via", network.address(254))


def test_asking_does_not_take_the_address_from_a_machine_that_starts(network: Network) -> None:
    """While it looks whether its IPv6 address is free, a probe would look like another user."""
    network.add_host("starts", 25)
    inside = ["ip", "-n", network.namespace("starts")]
    address = f"{network.address6(25)}/64"
    sh(*inside, "addr", "del", address, "dev", "eth0")
    asking = {"groups": [[network.address6(25)]], "bridge": "lan0", "heartbeat_age": None}
    line = network.inside("server", sys.executable, "-c", EXAMINE, json.dumps(asking))
    with subprocess.Popen(line, stdout=subprocess.DEVNULL) as guard:
        while guard.poll() is None:
            sh(*inside, "addr", "add", address, "dev", "eth0")
            time.sleep(0.3)
            assert "dadfailed" not in sh(*inside, "addr", "show", "dev", "eth0")
            sh(*inside, "addr", "del", address, "dev", "eth0")
    network.drop_host("starts")


# -- several segments ------------------------------------------------------------------------------


@pytest.fixture
def dmz(network: Network) -> Iterator[str]:
    """A second network, with a leg of the server; the machine's address in it."""
    net = network.net
    network.add_host("two", 26)
    server, two = network.namespace(), network.namespace("two")
    sh("ip", "-n", server, "link", "add", "dmz0", "type", "bridge", "forward_delay", "0")
    sh("ip", "-n", server, "addr", "add", f"10.78.{net}.1/24", "dev", "dmz0")
    sh("ip", "-n", server, "link", "set", "dmz0", "up")
    peer = ["peer", "name", "eth1", "netns", two]
    sh("ip", "-n", server, "link", "add", "v-two1", "type", "veth", *peer)
    sh("ip", "-n", server, "link", "set", "v-two1", "master", "dmz0", "up")
    sh("ip", "-n", two, "addr", "add", f"10.78.{net}.26/24", "dev", "eth1")
    sh("ip", "-n", two, "link", "set", "eth1", "up")
    yield f"10.78.{net}.26"
    sh("ip", "-n", server, "link", "del", "dmz0")
    network.drop_host("two")


def test_one_of_two_segments_is_cut(network: Network, dmz: str) -> None:
    """The machine lives on in the other one, and serves there."""
    both = [[network.address(26)], [dmz]]
    network.plug("two", False)
    verdict = examine(network, 26, groups=both)
    assert verdict["reason"] == "alive" and {"arp-no", "arp-yes"} <= keys(verdict)
    sh("ip", "-n", network.namespace(), "link", "set", "v-two1", "down")
    assert examine(network, 26, groups=both)["allowed"]


def test_a_network_that_the_server_is_not_in(network: Network) -> None:
    """Silence from there tells nothing, unless it used to answer, or nobody is served there."""
    far = "10.99.9.5"
    both = [[network.address(22)], [far]]
    verdict = examine(network, 22, groups=both)
    assert verdict["reason"] == "cannot-tell" and far in verdict["text"]
    assert verdict["text"].count(network.address(22)) == 0
    assert examine(network, 22, groups=both, seen=[f"arp {far}"])["allowed"]
    assert examine(network, 22, groups=both, ignored=["10.99.9.0/24"])["allowed"]
    # On the same card as an address nearby it is heard: the server only has no address beside it.
    assert examine(network, 22, groups=[[network.address(22), far]])["allowed"]


# -- a cut between two switches --------------------------------------------------------------------


@pytest.fixture
def halves(network: Network) -> Iterator[Network]:
    """A second switch behind a cable (``trunk``); the primary is there."""
    server = network.namespace()
    sh("ip", "-n", server, "link", "add", "far0", "type", "bridge", "forward_delay", "0")
    sh("ip", "-n", server, "link", "add", "trunk", "type", "veth", "peer", "name", "trunk1")
    sh("ip", "-n", server, "link", "set", "trunk", "master", "lan0", "up")
    sh("ip", "-n", server, "link", "set", "trunk1", "master", "far0", "up")
    sh("ip", "-n", server, "link", "set", "far0", "up")
    network.add_host("prim", 30)
    network.add_host("mate", 31)
    for host in ("prim", "mate"):
        move(network, host, "far0")
    yield network
    move(network, "router", "lan0")
    for host in ("prim", "mate"):
        network.drop_host(host)
    for link in ("trunk", "far0"):
        sh("ip", "-n", server, "link", "del", link)


def move(network: Network, host: str, bridge: str) -> None:
    sh("ip", "-n", network.namespace(), "link", "set", f"v-{host}", "master", bridge)


def cut(network: Network, apart: bool) -> None:
    state = "down" if apart else "up"
    sh("ip", "-n", network.namespace(), "link", "set", "trunk", state)
    # The router's card and ours may know each other still.
    sh("ip", "-n", network.namespace(), "neigh", "flush", "all")


def lives_on(network: Network) -> None:
    """Those on its own side still reach the primary."""
    line = ["ping", "-c", "1", "-W", "5", network.address(30)]
    sh(*network.inside("mate", *line))


def test_the_server_has_the_way_out_and_the_primary_is_cut_off(halves: Network) -> None:
    """It may start: whoever comes from outside, and all on this side, find nobody otherwise. The
    original lives on without a way out; when the cut heals it is alive again at once, and its
    agent is ordered off the network."""
    assert examine(halves, 30)["reason"] == "alive"
    cut(halves, True)
    lives_on(halves)
    assert examine(halves, 30, other_addresses=[halves.address(20)])["reason"] == "silent"
    cut(halves, False)
    assert examine(halves, 30)["reason"] == "alive"


def test_the_primary_has_the_way_out_and_the_server_is_cut_off(halves: Network) -> None:
    """It may not start, though others on its side answer: the original works as ever."""
    move(halves, "router", "far0")
    cut(halves, True)
    lives_on(halves)
    assert examine(halves, 30)["reason"] == "cut-off"
    verdict = examine(halves, 30, other_addresses=[halves.address(20)])
    assert verdict["reason"] == "split"
    # A named witness on this side changes nothing.
    verdict = examine(halves, 30, configured_witnesses=[halves.address(20)])
    assert verdict["reason"] == "split"


def test_the_primary_has_another_way_out_than_the_server(halves: Network) -> None:
    """Its own one counts, where the server could see it."""
    cut(halves, True)
    verdict = examine(halves, 30, gateway=halves.address(31))
    assert verdict["reason"] == "split" and halves.address(31) in verdict["text"]
    cut(halves, False)
    assert examine(halves, 22, gateway=halves.address(31))["allowed"]


# -- two emergency servers -------------------------------------------------------------------------


def test_another_server_that_looks_is_no_life_and_one_that_is_about_to_start_is(
    network: Network,
) -> None:
    """Both see the primary die. Looking disturbs nobody; of two that are about to start their
    stand-ins at the same moment, each gives way."""
    network.add_host("second", 2)
    groups = [[network.address(22), network.address6(22)]]
    for claim, reason in ((False, "silent"), (True, "alive")):
        asked = {"groups": groups, "bridge": "eth0", "heartbeat_age": None, "claim": claim}
        ready = "import notfallserver.server.cycle.outage.examine; print('ready', flush=True)\n"
        script = ready + EXAMINE.replace("print", "0 and print") * 8
        line = network.inside("second", sys.executable, "-c", script, json.dumps(asked))
        with subprocess.Popen(line, stdout=subprocess.PIPE) as other:
            assert other.stdout and other.stdout.readline() == b"ready\n"
            time.sleep(0.3)
            assert examine(network, 22, groups=groups, claim=claim)["reason"] == reason
            other.kill()
    network.drop_host("second")


def test_the_stand_in_of_another_server_is_life(network: Network) -> None:
    network.add_host("standin", 27, "52:54:00:c8:00:27")
    verdict = examine(network, 27)
    assert verdict["reason"] == "alive" and "52:54:00:c8:00:27" in str(verdict["evidence"])
    network.drop_host("standin")
