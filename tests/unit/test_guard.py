"""The guard's decision, and the frames it asks with."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notfallserver.server.cycle.outage import packets
from notfallserver.server.cycle.outage.guard import Findings, Reason, decide, overrule
from notfallserver.server.cycle.outage.probe import Sighting, Way, lives
from notfallserver.wire.errors import NotfallError

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


def test_arp_frames() -> None:
    address = IPv4Address("10.0.0.5")
    probe = packets.arp_probe(address, MAC)
    assert probe[:6] == b"\xff" * 6 and probe[28:32] == bytes(4)
    assert packets.read_arp(probe, MAC) is None
    # Another machine that probes for the address is about to use it.
    assert packets.read_arp(probe, OTHER) == ("10.0.0.5", packets.mac_text(MAC))
    reply = MAC + OTHER + b"\x08\x06" + probe[14:20] + b"\0\2" + OTHER + address.packed
    assert packets.read_arp(reply + MAC + bytes(4), MAC) == ("10.0.0.5", packets.mac_text(OTHER))


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
