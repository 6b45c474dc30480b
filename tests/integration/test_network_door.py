"""What this host's network looks like, in a namespace with real interfaces."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from secrets import token_hex
from typing import Any

import pytest

LINKS = """
import dataclasses, json
from notfallserver.server.host.network import read_links
print(json.dumps([dataclasses.asdict(one) for one in read_links()]))
"""
FACTS = """
import json
from notfallserver.agent.disks.linux import machine_facts
print(json.dumps(machine_facts([]).to_json()))
"""


@pytest.fixture
def namespace() -> Iterator[str]:
    name = f"door-{token_hex(3)}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        for line in (
            "link add port0 type veth peer name far0",
            "link add lan0 type bridge",
            "link set port0 master lan0",
            "link set port0 up",
            "link set far0 up",
            "link set lan0 up",
            "address add 192.0.2.9/24 dev lan0 valid_lft 3600 preferred_lft 3600",
            "address add 192.0.2.10/24 dev lan0",
            "address add fd00:9::9/64 dev lan0",
        ):
            subprocess.run(["ip", "-n", name, *line.split()], check=True)
        yield name
    finally:
        subprocess.run(["ip", "netns", "del", name], check=True)


def inside(namespace: str, program: str) -> Any:
    line = ["ip", "netns", "exec", namespace, sys.executable, "-c", program]
    return json.loads(subprocess.run(line, capture_output=True, check=True, text=True).stdout)


def test_bridge_ports_and_addresses_are_told(namespace: str) -> None:
    links = {one["name"]: one for one in inside(namespace, LINKS)}
    assert "lo" not in links
    lan, port = links["lan0"], links["port0"]
    assert (lan["kind"], lan["bridge"], lan["carrier"], lan["card"]) == ("bridge", "", True, False)
    assert set(lan["addresses"]) == {"192.0.2.9/24", "192.0.2.10/24", "fd00:9::9/64"}
    assert lan["leased"] and not port["leased"]
    assert (port["bridge"], port["addresses"], port["wireless"]) == ("lan0", [], False)


def test_an_agent_tells_which_of_its_addresses_were_leased(namespace: str) -> None:
    nics = {one["name"]: one for one in inside(namespace, FACTS)["nics"]}
    assert nics["lan0"]["leased"] == ["192.0.2.9/24"]
    assert "192.0.2.10/24" in nics["lan0"]["addresses"]
