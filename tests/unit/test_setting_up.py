"""The steps of the first start, and the lines that make a bridge: pure."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from notfallserver.server.cycle.surroundings import Surroundings
from notfallserver.server.host.bridge_lines import bridge_recipe
from notfallserver.server.host.network import Link, Manager, find_manager
from notfallserver.server.vm.hypervisor import HypervisorInfo
from notfallserver.server.vm.spec import Accelerator
from notfallserver.server.web.words import setting_up as told
from notfallserver.server.web.words.setting_up import Progress, Step, steps
from notfallserver.server.web.words.situation import Light

GB = 10**9
KVM = HypervisorInfo("9.0.0", "7.2.0", (Accelerator.KVM, Accelerator.TCG), 8, 64 << 30)
CARD = Link("enp1s0", "b0:7b:25:aa:01:02", card=True, carrier=True, addresses=("192.168.10.5/24",))
BRIDGED = (
    replace(CARD, bridge="br0", addresses=()),
    Link("br0", CARD.mac, "bridge", carrier=True, addresses=("192.168.10.5/24",)),
)
GOOD = Surroundings(
    pool="/pool",
    image="",
    size=2000 * GB,
    room=1500 * GB,
    reflink=True,
    bridge="br0",
    links=BRIDGED,
    manager=Manager.IFUPDOWN,
    gateways=("192.168.10.1",),
    witnesses=(),
    answering=("192.168.10.1",),
    hypervisor=KVM,
    accelerator=Accelerator.KVM,
    cpus=8,
    memory=63 << 30,
    medium=True,
)
DONE = Progress(own_password=True, building=False, protected=["shop"])


def step(key: str, around: Surroundings = GOOD, progress: Progress = DONE) -> Step:
    return next(one for one in steps(around, progress) if one.key == key)


def texts(one: Step) -> set[str]:
    return {words.text for words in (*one.words, *one.remedy)}


def test_all_is_green_when_nothing_is_missing() -> None:
    found = steps(GOOD, DONE)
    assert [one.key for one in found] == list(told.TITLES)
    assert {one.light for one in found} == {Light.GOOD}
    assert not any(one.remedy or one.lines for one in found)


@pytest.mark.parametrize(
    ("key", "change", "light", "text"),
    [
        ("pool", {"room": 160 * GB}, Light.GOOD, told.ROOM),
        ("pool", {"room": 140 * GB}, Light.WARN, told.NO_ROOM),
        ("pool", {"room": 19 * GB}, Light.BAD, told.NO_ROOM),
        ("pool", {"reflink": False}, Light.WARN, told.NO_SHARING),
        ("pool", {"image": "/data/pool.img"}, Light.GOOD, told.IN_A_FILE),
        ("network", {"links": ()}, Light.BAD, told.BRIDGE_MISSING),
        ("network", {"links": (CARD,)}, Light.BAD, told.MAKE_BRIDGE),
        ("network", {"links": (replace(CARD, wireless=True),)}, Light.BAD, told.NO_CARD),
        ("network", {"links": BRIDGED[1:]}, Light.BAD, told.BRIDGE_EMPTY),
        ("network", {"bridge": "br1"}, Light.BAD, told.OTHER_BRIDGE),
        (
            "network",
            {"links": (replace(BRIDGED[0], carrier=False), BRIDGED[1])},
            Light.BAD,
            told.NO_CABLE,
        ),
        ("network", {"answering": ()}, Light.BAD, told.NAME_WITNESS),
        ("network", {"gateways": (), "answering": ()}, Light.BAD, told.NOBODY),
        ("network", {"witnesses": ("192.168.10.2",)}, Light.GOOD, told.GATEWAY_SILENT),
        ("hypervisor", {"hypervisor": None}, Light.BAD, told.START_LIBVIRT),
        (
            "hypervisor",
            {"hypervisor": replace(KVM, accelerators=(Accelerator.TCG,))},
            Light.BAD,
            told.SWITCH_ON,
        ),
        ("hypervisor", {"accelerator": Accelerator.TCG}, Light.WARN, told.EMULATED),
        ("medium", {"medium": False}, Light.WARN, told.BUILD_IT),
    ],
)
def test_what_is_missing_is_told_with_its_remedy(
    key: str, change: dict[str, Any], light: Light, text: str
) -> None:
    one = step(key, replace(GOOD, **change))
    assert one.light is light
    assert text in texts(one)
    assert texts(one) <= set(told.TEXTS)
    assert one.remedy or light is Light.GOOD


def test_what_people_do_is_seen() -> None:
    new = Progress(own_password=False, building=True)
    assert step("password", progress=new).light is Light.WARN
    assert step("medium", replace(GOOD, medium=False), new).light is Light.BUSY
    assert step("server", progress=new).light is Light.WARN
    coming = replace(new, coming=["shop"])
    assert step("server", progress=coming).light is Light.BUSY
    both = replace(coming, protected=["erp"])
    assert step("server", progress=both).light is Light.GOOD
    assert told.ON_ITS_WAY in texts(step("server", progress=both))


def test_lines_that_move_the_pool_are_shown_only_while_it_is_empty() -> None:
    small = replace(GOOD, room=1 * GB, image="/data/pool.img")
    empty = step("pool", small, replace(DONE, protected=[])).lines
    assert [one.title for one in empty] == ["+ 200 GB", "A disk of its own"]
    assert [one.title for one in step("pool", small).lines] == ["+ 200 GB"]


# -- the bridge ----------------------------------------------------------------------------------


def test_the_way_this_host_sets_its_network_up_comes_first() -> None:
    for manager in Manager:
        one = step("network", replace(GOOD, links=(CARD,), manager=manager))
        assert one.lines[0].title == manager
        assert len(one.lines) == len(Manager)


def test_the_card_that_carries_the_address_becomes_the_port() -> None:
    other = Link("enp0s9", "b0:7b:25:aa:01:03", card=True, carrier=True)
    one = step("network", replace(GOOD, links=(other, CARD)))
    assert all(any("enp1s0" in text for _, text in line.parts) for line in one.lines)
    assert not any("enp0s9" in text for line in one.lines for _, text in line.parts)


def test_ifupdown() -> None:
    recipe = bridge_recipe(Manager.IFUPDOWN, "br0", CARD, ("192.168.10.1", "fd00::1"))
    ((path, text),) = recipe.files
    assert path == "/etc/network/interfaces"
    assert text == (
        "auto br0\n"
        "iface br0 inet static\n"
        "    address 192.168.10.5/24\n"
        "    gateway 192.168.10.1\n"
        "    bridge_ports enp1s0\n"
        "    bridge_stp off\n"
        "    bridge_fd 0\n"
        "    bridge_hw b0:7b:25:aa:01:02\n"
    )
    two = replace(CARD, addresses=("192.168.10.5/24", "fd00::5/64"))
    ((_, text),) = bridge_recipe(Manager.IFUPDOWN, "br0", two, ("192.168.10.1", "fd00::1")).files
    assert "iface br0 inet6 static\n    address fd00::5/64\n    gateway fd00::1\n" in text
    leased = replace(CARD, leased=True)
    ((_, text),) = bridge_recipe(Manager.IFUPDOWN, "br0", leased, ("192.168.10.1",)).files
    assert "iface br0 inet dhcp\n" in text and "192.168" not in text


def test_netplan_and_networkd() -> None:
    gateways = ("192.168.10.1",)
    ((path, text),) = bridge_recipe(Manager.NETPLAN, "br0", CARD, gateways).files
    assert path.startswith("/etc/netplan/")
    assert "      interfaces: [enp1s0]\n" in text and "addresses: [192.168.10.5/24]" in text
    assert 'via: "192.168.10.1"' in text and "dhcp4: true" not in text
    files = dict(bridge_recipe(Manager.NETWORKD, "br0", CARD, gateways).files)
    assert any("Kind=bridge" in one and "STP=no" in one for one in files.values())
    assert any("Name=enp1s0" in one and "Bridge=br0" in one for one in files.values())
    assert any("Address=192.168.10.5/24\nGateway=192.168.10.1" in one for one in files.values())
    leased = replace(CARD, leased=True)
    assert "dhcp4: true" in bridge_recipe(Manager.NETPLAN, "br0", leased, gateways).files[0][1]
    networkd = bridge_recipe(Manager.NETWORKD, "br0", leased, gateways).files
    assert "DHCP=yes" in networkd[-1][1] and "Gateway" not in networkd[-1][1]


def test_what_sets_the_network_up_is_found_by_its_files(tmp_path: Path) -> None:
    assert find_manager(tmp_path) is Manager.IFUPDOWN
    (tmp_path / "etc/systemd/network").mkdir(parents=True)
    (tmp_path / "etc/systemd/network/lan.network").touch()
    assert find_manager(tmp_path) is Manager.NETWORKD
    (tmp_path / "etc/netplan").mkdir()
    (tmp_path / "etc/netplan/01.yaml").touch()
    assert find_manager(tmp_path) is Manager.NETPLAN
