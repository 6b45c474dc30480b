"""What of a primary answers in peace is asked once an hour, and only of one that is well."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from notfallserver.server.cycle.outage import sounding
from notfallserver.server.cycle.outage.probe import Sighting, Way
from notfallserver.server.cycle.outage.sounding import Sounding, read_sounding
from notfallserver.server.records import Catalogue, open_catalogue
from notfallserver.wire.facts import Disk, Machine, Nic

MAC = "52:54:00:00:00:01"


@pytest.fixture
def catalogue(tmp_path: Path) -> Iterator[Catalogue]:
    opened = open_catalogue(tmp_path)
    yield opened
    opened.close()


def test_what_answers_is_noted_once_an_hour(
    catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def ask(addresses: list[str], **_: Any) -> tuple[Sighting, ...]:
        asked.extend(addresses)
        return tuple(Sighting(Way.ARP, one, True) for one in addresses)

    monkeypatch.setattr(sounding, "ask", ask)
    monkeypatch.setattr(sounding, "read_legs", lambda: ())
    for name in ("web", "silent"):
        nic = Nic("eth0", MAC, addresses=[f"10.0.0.{len(name)}/24"])
        machine = Machine(name, disks=[Disk("vda", 1 << 30)], nics=[nic])
        catalogue.primaries.adopt_primary(name, name, machine, "", "normal", 60, 15)
    means: Any = SimpleNamespace(catalogue=catalogue, settings=SimpleNamespace(lan_bridge="br0"))
    sounds = Sounding(means)

    def look() -> list[str]:
        asked.clear()
        sounds.look(catalogue.primaries.all())
        return list(asked)

    assert look() == []  # nobody has called
    catalogue.primaries.saw_agent("web", "b", "primary", "0")
    assert look() == ["10.0.0.3"] and look() == []
    assert read_sounding(catalogue.primaries.find("web").notes) == {"arp 10.0.0.3"}
    # Another address: at once. The old one's answers are forgotten with it.
    nic = Nic("eth0", MAC, addresses=["10.0.0.9/24"])
    moved = Machine("web", disks=[Disk("vda", 1 << 30)], nics=[nic])
    catalogue.primaries.saw_agent("web", "b", "primary", "0", moved)
    assert look() == ["10.0.0.9"]
    assert read_sounding(catalogue.primaries.find("web").notes) == {"arp 10.0.0.9"}
    monkeypatch.setattr(sounding, "EVERY", timedelta(0))
    assert look() == ["10.0.0.9"]
    # A stand-in's answers are none of the original.
    catalogue.primaries.saw_agent("web", "b", "stand-in", "0")
    assert look() == []
    catalogue.primaries.saw_agent("web", "b", "primary", "0")
    catalogue.primaries.move("web", "normal", "outage", "outage_seen", "test")
    assert look() == []
