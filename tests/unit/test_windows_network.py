"""Addresses that follow to another network card: what is set, once, and what is waited for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from notfall_lab.windows.machine import Machine
from notfallserver.agent.windows import network
from notfallserver.agent.windows.adapters import ETHERNET, Adapter, Address
from notfallserver.agent.windows.network import DONE, WANTED, NetworkKeeper, Wanted, plan_network

MAC = "52:54:00:00:00:01"
ONE = Wanted(MAC, ("198.51.100.10/24",), ("198.51.100.1",), ("198.51.100.2", "198.51.100.3"))


def adapter(*addresses: Address, mac: str = MAC, name: str = "Ethernet 2") -> Adapter:
    return Adapter("{AA}", name, "Intel", mac, ETHERNET, addresses, ())


def test_a_new_card_gets_address_gateway_and_name_servers() -> None:
    plan = plan_network([ONE], [adapter(Address("198.51.100.77/24", leased=True))])
    assert plan.missing == ()
    card = "name=Ethernet 2"
    assert [" ".join(one) for one in plan.commands] == [
        f"interface ipv4 set address {card} source=static address=198.51.100.10 "
        "mask=255.255.255.0 gateway=198.51.100.1 gwmetric=1",
        f"interface ipv4 set dnsservers {card} source=static address=198.51.100.2 "
        "register=primary validate=no",
        f"interface ipv4 add dnsservers {card} address=198.51.100.3 index=2 validate=no",
    ]


def test_several_addresses_of_both_families() -> None:
    wanted = Wanted(MAC, ("198.51.100.10/24", "203.0.113.4/25", "2001:db8::4/64"), (), ())
    commands = plan_network([wanted], [adapter(Address("203.0.113.4/25", False))]).commands
    assert [one[1:4] for one in commands] == [
        ("ipv4", "set", "address"),
        ("ipv4", "add", "address"),
        ("ipv6", "add", "address"),
    ]
    assert commands[0][-1] == "gateway=none"
    assert commands[1][-2:] == ("address=203.0.113.4", "mask=255.255.255.128")
    assert commands[2][-2:] == ("interface=Ethernet 2", "address=2001:db8::4/64")


def test_what_is_so_already_is_left_alone() -> None:
    wanted = Wanted(MAC, ("198.51.100.10/24",), ("198.51.100.1",), ())
    assert plan_network([wanted], [adapter(Address("198.51.100.10/24", False))]).commands == ()
    assert plan_network([Wanted(MAC, (), (), ())], [adapter()]).commands == ()


def test_a_card_that_is_not_there_is_named() -> None:
    other = Wanted("52:54:00:00:00:02", ("198.51.100.10/24",), (), ())
    assert plan_network([other], [adapter()]).missing == ("52:54:00:00:00:02",)


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"cards": 3}', '{"cards": [{"mac": "a", "addresses": ["x"]}]}']
)
def test_what_nobody_wrote_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        network.read_wanted(text)


def test_it_is_set_once_and_what_people_change_later_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine()
    keeper = NetworkKeeper(tmp_path, machine)
    assert keeper.settle(), "nothing was noted"
    found: list[Adapter] = []
    monkeypatch.setattr(network, "read_adapters", lambda content, base: found)
    told = {"cards": [{"mac": MAC.upper(), "addresses": ["198.51.100.10/24"]}]}
    (tmp_path / WANTED).write_text(json.dumps(told))
    assert not keeper.settle(), "the card is not there yet"
    found.append(adapter())
    machine.netsh_refuses = True
    assert not keeper.settle()
    assert not (tmp_path / DONE).exists()
    machine.netsh_refuses = False
    assert keeper.settle()
    assert len(machine.commands) == 1
    assert keeper.settle() and NetworkKeeper(tmp_path, machine).settle()
    assert len(machine.commands) == 1
    told["cards"][0]["addresses"] = ["198.51.100.11/24"]
    (tmp_path / WANTED).write_text(json.dumps(told))
    assert keeper.settle()
    assert "address=198.51.100.11" in machine.commands[-1]
