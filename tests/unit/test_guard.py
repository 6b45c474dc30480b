"""The guard's decision, and the frames it asks with."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_interface

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notfallserver.server.cycle.outage.guard import Findings, Reason, decide, overrule
from notfallserver.server.cycle.outage.legs import (
    Leg,
    Place,
    counting,
    groups_of,
    legs_of,
    map_groups,
    map_single,
)
from notfallserver.server.cycle.outage.probe import Sighting, Way, ask, lives, weigh
from notfallserver.server.cycle.outage.sounding import learned, telling_ports, unheard
from notfallserver.wire import packets
from notfallserver.wire.errors import NotfallError
from notfallserver.wire.facts import Machine, Nic

MAC = bytes.fromhex("525400000001")
OTHER = bytes.fromhex("525400000002")


def seen(
    alive: bool | None, way: Way = Way.PING, address: str = "10.0.0.5", ours: bool = False
) -> Sighting:
    return Sighting(way, address, alive, ours=ours)


SILENT = seen(False)
WITNESS = seen(True, address="10.0.0.254")


def reason(
    *primary: Sighting, witnesses: tuple[Sighting, ...] = (WITNESS,), age: float | None = None
) -> Reason:
    verdict = decide(Findings(primary, witnesses, age, heartbeat_limit=15))
    assert verdict.allowed == (verdict.reason is Reason.SILENT)
    assert verdict.allowed or verdict.remedy
    return verdict.reason


def test_rules() -> None:
    assert reason(SILENT) is Reason.SILENT
    assert reason(SILENT, age=15.1) is Reason.SILENT
    assert reason(SILENT, age=14.9) is Reason.ALIVE
    assert reason(SILENT, seen(True, Way.ARP)) is Reason.ALIVE
    assert reason(SILENT, seen(True, ours=True)) is Reason.SILENT
    assert reason(seen(None)) is Reason.CANNOT_TELL
    assert reason(seen(None), seen(False, Way.ARP)) is Reason.SILENT
    assert reason(SILENT, seen(None, address="10.0.0.6")) is Reason.CANNOT_TELL
    assert reason() is Reason.CANNOT_TELL
    assert reason(SILENT, witnesses=()) is Reason.NO_WITNESS
    assert reason(SILENT, witnesses=(seen(False), seen(None))) is Reason.CUT_OFF
    assert reason(SILENT, witnesses=(seen(True, ours=True),)) is Reason.CUT_OFF
    # Others answer, but no way out does.
    ways = frozenset(["10.0.0.1"])
    silent, other = seen(False, address="10.0.0.1"), WITNESS

    def split(*witnesses: Sighting) -> Reason:
        return decide(Findings((SILENT,), witnesses, None, gateways=ways)).reason

    assert split(silent, other) is Reason.SPLIT
    assert split(silent, seen(True, Way.ARP, "10.0.0.1")) is Reason.SILENT
    assert split(silent) is Reason.CUT_OFF
    assert split(seen(None, address="10.0.0.1"), other) is Reason.SILENT  # it could not be asked
    assert split(seen(True, address="10.0.0.1", ours=True), other) is Reason.SILENT
    # Life is told even by a server that is cut off, and without a witness.
    assert reason(seen(True), witnesses=()) is Reason.ALIVE


def test_what_was_switched_off_from_afar_is_dead_unless_something_answers() -> None:
    def fenced(*primary: Sighting, witnesses: tuple[Sighting, ...] = (WITNESS,)) -> Reason:
        verdict = decide(Findings(primary, witnesses, 4.0, heartbeat_limit=15, fenced_age=3.0))
        assert verdict.allowed == (verdict.reason is Reason.FENCED)
        return verdict.reason

    assert fenced(SILENT) is Reason.FENCED  # heard 4 s ago, off for 3 s
    assert fenced(seen(None)) is Reason.FENCED
    assert fenced(SILENT, witnesses=()) is Reason.FENCED
    assert fenced(SILENT, seen(True, Way.ARP)) is Reason.WRONG_DEVICE
    assert fenced(SILENT, witnesses=(seen(False),)) is Reason.CUT_OFF
    heard = Findings((SILENT,), (WITNESS,), 2.0, heartbeat_limit=15, fenced_age=3.0)
    assert decide(heard).reason is Reason.WRONG_DEVICE


sightings = st.lists(
    st.builds(
        Sighting,
        st.sampled_from(Way),
        st.sampled_from(["10.0.0.5", "fd00::5"]),
        st.sampled_from([True, False, None]),
    ),
    max_size=6,
).map(tuple)


@given(sightings, sightings, st.none() | st.floats(0, 100))
def test_a_sign_of_life_always_refuses(
    primary: tuple[Sighting, ...], witnesses: tuple[Sighting, ...], age: float | None
) -> None:
    verdict = decide(Findings(primary, witnesses, age))
    if lives(primary) or (age is not None and age < 15):
        assert verdict.reason is Reason.ALIVE
    if verdict.allowed:
        assert lives(witnesses) and primary
    assert len(verdict.evidence) == 1 + len(primary) + len(witnesses)


def test_overruling_needs_a_reason_and_keeps_the_evidence() -> None:
    refused = decide(Findings((seen(True),), (WITNESS,), None))
    with pytest.raises(NotfallError) as caught:
        refused.require()
    assert caught.value.code == "guard-alive" and "10.0.0.5 answers ping" in caught.value.cause
    with pytest.raises(NotfallError):
        overrule(refused, "  ")
    overruled = overrule(refused, "power cord is in my hand")
    overruled.require()
    assert overruled.evidence == refused.evidence
    told = overruled.to_json()
    assert told["reason"] == "overruled" and told["overruled_because"].startswith("power cord")
    allowed = decide(Findings((SILENT,), (WITNESS,), None))
    assert overrule(allowed, "to be sure") == allowed


def test_silence_tells_something_only_where_an_answer_would_be_heard() -> None:
    leg = Leg("br0", (ip_interface("10.0.0.1/24"), ip_interface("fd00::1/64")))
    vlan = Leg("br20", (ip_interface("10.0.20.1/24"),))
    groups = [["10.0.0.5", "fd77::5"], ["10.0.20.5"], ["10.99.0.5"]]
    where = map_groups(groups, [vlan, leg], "br0")
    assert where.of("10.0.0.5") == Place("br0", "10.0.0.1")
    assert where.of("fd77::5") == Place("br0")  # beside it on the same card
    assert where.of("10.0.20.5") == Place("br20", "10.0.20.1")
    assert where.of("10.99.0.5") == Place("br0", near=False)
    far = (seen(False, Way.ARP, "10.99.0.5"), seen(False, Way.PING, "10.99.0.5"))
    told = [one.alive for one in weigh(far, where, ["ping 10.99.0.5"])]
    assert told == [None, False]
    assert weigh((seen(True, address="10.99.0.5"), SILENT), where, []) == (
        seen(True, address="10.99.0.5"),
        SILENT,
    )
    single = map_single(["fe80::1%eth9", "10.0.20.9"], [leg, vlan], "br0")
    assert single.of("fe80::1%eth9").interface == "eth9"
    assert single.of("10.0.20.9").interface == "br20"


def test_a_bridge_without_addresses_is_no_leg() -> None:
    item = {"local": "10.0.0.1", "prefixlen": 24, "scope": "global"}
    link = {"local": "fe80::1", "prefixlen": 64, "scope": "link"}
    links = [
        {"ifname": "br0", "link_type": "ether", "addr_info": [item, link]},
        {"ifname": "br1", "link_type": "ether", "addr_info": [link]},
        {"ifname": "lo", "link_type": "loopback", "addr_info": [item]},
        {"ifname": "wg0", "link_type": "none", "addr_info": [item]},
    ]
    assert [leg.name for leg in legs_of(links)] == ["br0"]


def test_what_answered_in_peace_is_kept_as_long_as_the_machine_has_the_address() -> None:
    machine = Machine("m", nics=[Nic("eth0", MAC.hex(":"), addresses=["10.0.0.5/24"])])
    before = frozenset(["ping 10.0.0.5", "tcp:443 10.0.0.5", "ping 10.0.0.6"])
    heard = (seen(False), seen(True, Way.ARP), seen(True, Way.TCP, ours=True))
    after = learned(before, machine, heard)
    assert after == ["arp 10.0.0.5", "ping 10.0.0.5", "tcp:443 10.0.0.5"]
    assert telling_ports([22, 80, 443], frozenset(after)) == (443,)
    assert telling_ports([22, 80], frozenset()) == (22, 80)


def test_addresses_whose_silence_tells_nothing_are_known_in_peace() -> None:
    nic = Nic("eth0", MAC.hex(":"), addresses=["10.0.0.5/24"])
    far = Nic("eth1", OTHER.hex(":"), addresses=["10.99.0.5/24"])
    machine = Machine("m", nics=[nic, far])
    where = map_groups(groups_of(machine), [Leg("br0", (ip_interface("10.0.0.1/24"),))], "br0")
    assert unheard(machine, where, {}) == ()  # nobody has asked yet
    assert unheard(machine, where, {"answers": ["ping 10.0.0.5"]}) == ("10.99.0.5",)
    assert unheard(machine, where, {"answers": ["tcp:80 10.99.0.5"]}) == ()
    assert counting(groups_of(machine), ["10.99.0.0/16"]) == [["10.0.0.5"], []]


def test_an_address_that_is_none_is_near_nothing() -> None:
    leg = Leg("br0", (ip_interface("10.0.0.1/24"),))
    where = map_groups([["no address", "10.0.0.5"]], [leg], "br0")
    assert where.of("10.0.0.5").near
    assert counting([["no address"]], ["10.0.0.0/8"]) == [["no address"]]
    with pytest.raises(NotfallError) as caught:
        ask(["no address"], where=where)
    assert caught.value.code == "bad-address"


def test_arp_frames() -> None:
    address = IPv4Address("10.0.0.5")
    probe = packets.arp_question(address, MAC)
    assert probe[:6] == b"\xff" * 6 and probe[28:32] == bytes(4)
    assert packets.read_arp(probe, MAC) is None
    # Another machine that probes for the address is about to use it.
    assert packets.read_arp(probe, OTHER) == ("10.0.0.5", packets.mac_text(MAC))
    reply = MAC + OTHER + b"\x08\x06" + probe[14:20] + b"\0\2" + OTHER + address.packed
    assert packets.read_arp(reply + MAC + bytes(4), MAC) == ("10.0.0.5", packets.mac_text(OTHER))


def test_a_question_is_no_probe() -> None:
    address = IPv4Address("10.0.0.5")
    question = packets.arp_question(address, MAC, IPv4Address("10.0.0.1"))
    assert packets.read_arp(question, OTHER) == ("10.0.0.1", packets.mac_text(MAC))
    probe = packets.arp_question(address, MAC, answer_to=packets.EVERYBODY)
    assert probe[6:12] == MAC and probe[22:28] == packets.EVERYBODY
    assert packets.read_arp_user(probe) is None  # whoever looks does not use it
    assert packets.read_arp_user(question) == ("10.0.0.1", packets.mac_text(MAC))
    asked = packets.neighbour_question(IPv6Address("fd00::5"), MAC)
    assert asked[22:38] == IPv6Address("fe80::5054:ff:fe00:1").packed and asked[-6:] == MAC
    assert packets.in_vlan(probe, 20)[12:18] == b"\x81\0\0\x14\x08\x06"


def test_neighbour_frames() -> None:
    probe = packets.neighbour_probe(IPv6Address("fd00::aa:bbcc"), MAC)
    assert probe[:6] == bytes.fromhex("3333ffaabbcc")
    assert probe[38:54] == IPv6Address("ff02::1:ffaa:bbcc").packed
    assert packets.read_neighbour(probe, OTHER) is None  # a question is no answer
    advert = probe[:6] + OTHER + probe[12:54] + b"\x88" + probe[55:]
    assert packets.read_neighbour(advert, MAC) == ("fd00::aa:bbcc", packets.mac_text(OTHER))
    routed = advert[:21] + b"\x40" + advert[22:]
    assert packets.read_neighbour(routed, MAC) is None


@given(st.binary(max_size=120))
def test_any_frame_can_be_read(frame: bytes) -> None:
    packets.read_arp(frame, MAC)
    packets.read_neighbour(frame, MAC)
