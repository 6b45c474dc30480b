"""The guard against hosts in network namespaces: answering, half silent, silent, cut off."""

from __future__ import annotations

import json
import os
import subprocess
import sys
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
verdict = examine(**json.loads(sys.argv[1]))
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
    asked = {"addresses": [address], "interface": "lan0", "heartbeat_age": None, **more}
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
        # Another primary that answers shows that the network works.
        assert examine(network, 22, other_addresses=[network.address(20)])["allowed"]
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
    verdict = examine(network, 22, interface="nope")
    assert "arp-unknown" in keys(verdict)
    told = [one["text"] for one in verdict["evidence"] if one["key"] == "arp-unknown"]
    assert "No such device" in told[0]
