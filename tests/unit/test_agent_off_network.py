"""What an agent remembers of its network, and when it takes its place for taken."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notfallserver.agent import commands
from notfallserver.agent.fence import boot, own, signs
from notfallserver.agent.fence.apart import LEFT, ORDER, STAND_IN, TAKEN, Apart
from notfallserver.agent.fence.judge import judge
from notfallserver.agent.fence.own import Address, Card, Network, network_of
from notfallserver.agent.fence.units import BOOT, texts

OWN, PEER = "52:54:00:00:00:01", "52:54:00:00:00:99"


def link(name: str, *addresses: str, mac: str = OWN, **more: Any) -> dict[str, Any]:
    infos = []
    for one in addresses:
        infos.append({"local": one, "prefixlen": 24, "scope": "global"})
    infos.append({"local": "fe80::1", "prefixlen": 64, "scope": "link"})
    told = {"ifname": name, "link_type": "ether", "address": mac, "addr_info": infos}
    return {**told, **more}


def test_addresses_are_found_on_cards_below_bridges_bonds_and_vlans() -> None:
    second = "52:54:00:00:00:02"
    told = [
        {"ifname": "lo", "link_type": "loopback", "address": "00:00:00:00:00:00", "addr_info": []},
        link("eth0", master="bond0", permaddr="52:54:00:00:00:0a"),
        link("eth1", master="bond0", mac=OWN, permaddr=second),
        link("eth2", "10.3.0.5", mac="52:54:00:00:00:03"),
        link("bond0", master="br0", linkinfo={"info_kind": "bond"}),
        link("br0", "10.0.0.5", "fd00::5", linkinfo={"info_kind": "bridge"}),
        link("v20", "10.0.20.5", link="bond0", linkinfo=vlan(20)),
        link("inner", "10.9.0.5", link="v20", linkinfo=vlan(7)),
        link("docker0", "172.17.0.1", mac="02:42:00:00:00:01", linkinfo={"info_kind": "bridge"}),
        link("vrrp", "10.0.0.9", mac="00:00:5e:00:01:05", link="eth2", linkinfo=kind("macvlan")),
    ]
    found = network_of(told, frozenset(["eth0", "eth1", "eth2"]))
    assert {one.address: (one.vlan, one.cards) for one in found.addresses} == {
        "10.3.0.5": (0, ("eth2",)),
        "10.0.0.5": (0, ("eth0", "eth1")),
        "fd00::5": (0, ("eth0", "eth1")),
        "10.0.20.5": (20, ("eth0", "eth1")),
        "10.0.0.9": (0, ("eth2",)),
    }
    assert found.cards[0] == Card("eth0", "52:54:00:00:00:0a")
    assert {OWN, second, "52:54:00:00:00:0a", "52:54:00:00:00:03"} == found.macs


def vlan(number: int) -> dict[str, Any]:
    return {"info_kind": "vlan", "info_data": {"id": number}}


def kind(name: str) -> dict[str, Any]:
    return {"info_kind": name}


def test_leased_addresses_are_told_apart_and_temporary_ones_left_out() -> None:
    one = link("eth0", "10.0.0.5")
    one["addr_info"] += [
        {"local": "10.0.0.77", "scope": "global", "dynamic": True},
        {"local": "fd00::1234", "scope": "global", "temporary": True, "dynamic": True},
        {"local": "fd00::5", "scope": "global", "dadfailed": True},
    ]
    found = network_of([one], frozenset(["eth0"])).addresses
    assert [(a.address, a.leased) for a in found] == [("10.0.0.5", False), ("10.0.0.77", True)]


def test_what_is_kept_is_read_again_and_what_is_damaged_counts_for_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "kept" / "network.json"
    monkeypatch.setattr(own, "file_of", lambda _directory: file)
    told: list[Any] = [[link("eth0", "10.0.0.5")], [link("eth0")]]
    monkeypatch.setattr(commands, "read_json", lambda _line: told.pop(0))
    monkeypatch.setattr(own, "_cards", lambda: frozenset(["eth0"]))
    own.remember(tmp_path, "https://10.0.0.1:8443", ["fe80::2"])
    known = own.recall(tmp_path)
    assert known.addresses == (Address("10.0.0.5", False, 0, ("eth0",)),)
    assert known.servers == {"https://10.0.0.1:8443": ("fe80::2",)}
    own.remember(tmp_path)  # the network is down: nothing is forgotten
    assert own.recall(tmp_path) == known
    for damage in ("", "[]", '{"cards": 3}', "null"):
        file.write_text(damage)
        assert own.recall(tmp_path) == Network()


def test_who_has_our_mac_is_our_stand_in() -> None:
    macs = frozenset([OWN])
    one, leased = Address("10.0.0.5"), Address("10.0.0.77", leased=True)
    assert not judge([one], macs, {}).taken
    found = judge([one, leased], macs, {"10.0.0.77": frozenset([OWN])})
    assert found.taken and found.stand_in
    # An address that is another machine's now: a pair hands it over, or the lease went on.
    assert not judge([one, leased], macs, {"10.0.0.5": frozenset([PEER])}).taken
    everything = {"10.0.0.5": frozenset([PEER]), "10.0.0.77": frozenset([PEER])}
    found = judge([one, leased], macs, everything)
    assert found.taken and not found.stand_in
    assert not judge([], macs, {}).taken


@given(st.dictionaries(st.sampled_from(["10.0.0.5", "10.0.0.6"]), st.frozensets(st.just(PEER))))
def test_nobody_of_our_mac_never_is_a_stand_in(found: dict[str, frozenset[str]]) -> None:
    asked = [Address("10.0.0.5"), Address("10.0.0.6"), Address("10.0.0.7")]
    judged = judge(asked, frozenset([OWN]), found)
    assert not judged.stand_in and not judged.taken  # .7 answers nobody


def test_addresses_are_asked_on_their_cards_as_they_are_called_now() -> None:
    network = Network(
        (Card("eth0", OWN), Card("gone", PEER)),
        (Address("10.0.0.5", cards=("eth0",)), Address("10.1.0.5", cards=("gone",))),
    )
    found = boot.placed(network, {"eth0": "enp1s0"}, ["enp1s0", "enp2s0"])
    assert [one.cards for one in found] == [("enp1s0",), ("enp1s0", "enp2s0")]
    # One that has addresses already is left alone.
    assert [one.cards for one in boot.placed(network, {"eth0": "enp1s0"}, ["enp2s0"])] == [
        ("enp2s0",)
    ]


@pytest.mark.parametrize("because", [STAND_IN, TAKEN, ORDER, LEFT])
def test_the_console_says_it_in_two_languages(because: str) -> None:
    text = signs.text_of(Apart(because, (("10.0.0.5", OWN),)))
    assert text.isascii() and "KEEPS OFF THE NETWORK" in text and "BLEIBT VOM NETZ" in text
    assert (OWN in text) == (because not in (ORDER, LEFT))
    assert max(len(line) for line in text.splitlines()) <= 100


def test_the_unit_comes_before_the_network() -> None:
    text = texts(Path("/opt/a.pyz"), Path("/etc/a"))[BOOT]
    assert "Before=network-pre.target" in text and "Wants=network-pre.target" in text
    assert "guard-boot --config /etc/a" in text
    assert "! grep -qs stand-in /etc/a/role" in text


def test_its_start_loads_only_what_it_needs(tmp_path: Path) -> None:
    """Each start of a protected machine waits for it before its network comes up."""
    program = """
import sys
from notfallserver.agent.main import main
main(["guard-boot", "--config", sys.argv[1]])
print(*sys.modules)
"""
    source = Path(own.__file__).parents[3]
    line = [sys.executable, "-B", "-S", "-c", program, str(tmp_path)]
    told = subprocess.run(
        line, env={"PYTHONPATH": str(source)}, capture_output=True, text=True, check=True
    )
    loaded = set(told.stdout.split())
    ours = {one for one in loaded if one.startswith("notfallserver.agent.")}
    assert "notfallserver.agent.fence.boot" in ours
    few = {"main", "role", "stop", "place", "commands"}
    assert {one.split(".")[2] for one in ours} == {*few, "fence"}
    assert not loaded & {"ssl", "http.client", "urllib.request", "notfallserver.wire.client"}
