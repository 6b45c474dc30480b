"""The guard's findings and the journal in plain words: pure."""

from datetime import UTC, datetime, timedelta

from notfallserver.server.cycle.outage.guard import Findings, decide
from notfallserver.server.cycle.outage.probe import Sighting, Way
from notfallserver.server.records.journal import Entry
from notfallserver.server.web.words.findings import TEXTS, findings_of
from notfallserver.server.web.words.history import happenings
from notfallserver.server.web.words.situation import LAST_SIGN, NO_SIGN, Light

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)


def seen(way: Way, alive: bool | None) -> Sighting:
    return Sighting(way, "192.0.2.7", alive)


def test_what_is_dead_speaks_for_the_start_and_what_lives_against_it() -> None:
    witness = (Sighting(Way.PING, "192.0.2.254", True),)
    dead = (seen(Way.PING, False), seen(Way.ARP, False))
    found = findings_of(decide(Findings(dead, witness, 300.0)), NOW)
    assert found.allowed
    assert {one.speaks for one in found.signs} == {Light.GOOD}
    alive = (seen(Way.PING, False), seen(Way.ARP, True))
    found = findings_of(decide(Findings(alive, witness, 2.0)), NOW)
    assert not found.allowed
    assert [one.speaks for one in found.signs] == [
        *(Light.BAD, Light.GOOD, Light.BAD, Light.GOOD),
    ]
    assert {one.words.text for one in found.signs} <= {*TEXTS, LAST_SIGN}


def test_a_cut_off_server_is_no_evidence_of_an_outage() -> None:
    silent = (Sighting(Way.PING, "192.0.2.254", False),)
    found = findings_of(decide(Findings((seen(Way.PING, False),), silent, None)), None)
    assert not found.allowed
    assert found.signs[0].words.text == NO_SIGN
    assert found.signs[-1].speaks is Light.WARN


def entry(number: int, event: str, kind: str = "") -> Entry:
    at = NOW - timedelta(minutes=number)
    return Entry(100 - number, at, "u", event, "server", "", "", "", {"kind": kind} if kind else {})


def test_copies_in_a_row_are_one_line() -> None:
    told = happenings(
        [
            entry(1, "version", "replication"),
            entry(2, "version", "replication"),
            entry(3, "outage_seen"),
            entry(4, "version", "capture"),
            entry(5, "version", "replication"),
        ]
    )
    assert [(one.event, one.times, one.grave) for one in told] == [
        ("version", 2, False),
        ("outage_seen", 1, True),
        ("capture", 1, False),
        ("version", 1, False),
    ]
    assert told[0].at == NOW - timedelta(minutes=1)
