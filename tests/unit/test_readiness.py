"""What stands in the way of replacing a primary: rules on machines as they are told, and words."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from notfallserver.server.cycle.normal import readiness as rules
from notfallserver.server.cycle.normal.forecast import Outlook
from notfallserver.server.cycle.normal.readiness import Crowd, Facts, Finding, Host, Severity, find
from notfallserver.server.pool.proof import Evidence, ServiceCheck, VolumeCheck, VolumeState
from notfallserver.server.pool.version import Application, Manifest
from notfallserver.server.web.language import speech
from notfallserver.server.web.words import problems
from notfallserver.server.web.words import readiness as words
from notfallserver.server.web.words.situation import Light
from notfallserver.wire.facts import (
    DOMAIN_CONTROLLER,
    FAST_START,
    OEM_LICENCE,
    REBOOT_PENDING,
    Disk,
    Machine,
    Partition,
    read_machine,
)

GIB = 1 << 30
MACHINES = Path(__file__).parents[1] / "data" / "machines"
HOST = Host(
    cpus=16,
    memory=63 * GIB,
    free=1000 * GIB,
    reflink=True,
    bridge="br0",
    bridged=True,
    hypervisor=True,
    accelerated=True,
    uefi=True,
    witnesses=True,
    idle_memory=60 * GIB,
    rehearses=True,
)


WINDOWS = [REBOOT_PENDING, FAST_START, OEM_LICENCE, DOMAIN_CONTROLLER]
HURT = VolumeCheck("disk0-part3", "xfs", VolumeState.DAMAGED)
INSIDE = VolumeCheck("vg-secret", "crypto_LUKS", VolumeState.SKIPPED)


def machine(name: str) -> Machine:
    return read_machine(json.loads((MACHINES / f"readiness-{name}.json").read_text()))


def copy(**given: Any) -> Manifest:
    known: dict[str, Any] = {
        "primary": "p",
        "name": "shop",
        "stamp": "20261126T101500.000Z",
        "kind": "replication",
        "consistency": "filesystem",
        "base": "20261126T091500.000Z",
        "machine": machine("shop"),
        "disks": (),
        "started_at": "",
        "sealed_at": "",
        "read_all": False,
    }
    return Manifest(**(known | given))


def facts(**given: Any) -> Facts:
    known: dict[str, Any] = {
        "machine": machine("office"),
        "heard": True,
        "agent": "1",
        "program": "1",
        "schedule_minutes": 60,
        "copies": (copy(),),
        "used": 200 * GIB,
        "prepared": True,
    }
    return Facts(**(known | given))


def with_drive(filesystem: str, encrypted: str) -> Machine:
    drive = Partition(1, 0, GIB, filesystem=filesystem, mountpoint="C:\\", encrypted=encrypted)
    return replace(machine("office"), disks=[Disk("PhysicalDrive0", GIB, partitions=[drive])])


def keys(given: Facts, host: Host = HOST) -> list[str]:
    return [one.key for one in find(given, host)]


def test_a_machine_that_fits_has_nothing_in_its_way() -> None:
    assert find(facts(), HOST) == ()
    assert words.told([]).light is Light.GOOD


@pytest.mark.parametrize(
    ("name", "host", "expected"),
    [
        ("office", {}, []),
        ("office", {"uefi": False}, ["no-firmware"]),
        ("office", {"cpus": 4, "memory": 15 * GIB}, ["less-memory", "fewer-processors"]),
        ("office", {"memory": 30 * GIB}, []),  # 31 GiB are told
        ("shop", {"uefi": False}, ["address-leased"]),
        ("sealed", {}, ["no-card", "disk-key", "no-services"]),
    ],
)
def test_captured_machines(name: str, host: dict[str, Any], expected: list[str]) -> None:
    assert keys(facts(machine=machine(name)), replace(HOST, **host)) == expected


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"heard": False, "copies": (), "prepared": False}, ["never-heard"]),
        ({"copies": (), "prepared": False}, ["no-copy-yet"]),
        ({"copies": (), "failed": {"replicate": ("x", "y")}}, ["no-copy"]),
        ({"failed": {"replicate": ("x", "y")}}, ["copy-failed"]),
        ({"prepared": False}, ["not-prepared-yet"]),
        ({"prepared": False, "failed": {"prepare": ("x", "y")}}, ["not-prepared"]),
        ({"failed": {"prepare": ("x", "y")}}, []),  # an older failure: the image is there
        ({"agent": "0.9"}, ["agent-differs"]),
        ({"schedule_minutes": 0}, ["no-schedule"]),
        ({"outlook": Outlook.CANNOT_KEEP_UP}, ["line-too-thin"]),
        ({"outlook": Outlook.LATE}, ["runs-too-long"]),
        ({"outlook": Outlook.OK}, []),
        ({"copies": (copy(consistency="crash"),)}, ["not-frozen"]),
        (
            {"copies": (copy(applications=(Application("db", error="no"), Application("web"))),)},
            ["application-not-frozen"],
        ),
        ({"copies": (copy(read_all=True),) * 3}, ["reads-all"]),
        ({"copies": (copy(read_all=True),) * 2}, []),
        ({"copies": (copy(read_all=True), copy(), copy(read_all=True))}, []),
        ({"copies": (copy(read_all=True, deep=True),) * 3}, []),  # that is what a deep run does
        ({"warnings": (("nic-driver-missing", "e1000e"),)}, ["nic-driver-missing"]),
        ({"warnings": (("of-a-newer-program", "?"),)}, ["image-warning"]),
        ({"warnings": (("odd-boot-loader", "not GRUB"),)}, ["odd-boot-loader"]),
        ({"evidence": Evidence(started=False)}, ["starts-not"]),
        ({"evidence": Evidence(started=False), "proven": True}, ["newest-starts-not"]),
        ({"evidence": Evidence(started=True, volumes=(HURT,))}, ["filesystem-damaged"]),
        (
            {"evidence": Evidence(started=True, checks=(ServiceCheck("a", False),))},
            ["check-failed"],
        ),
        ({"evidence": Evidence(started=True, volumes=(INSIDE,))}, ["disk-key"]),
        ({"evidence": Evidence(started=True, ports=(80,)), "proven": True}, []),
        ({"machine": replace(machine("office"), outside=["/srv (nfs)"])}, ["data-outside"]),
        ({"machine": replace(machine("office"), licence_keys=["HASP"])}, ["licence-key"]),
        ({"machine": replace(machine("office"), conditions=WINDOWS)}, WINDOWS[:3]),
        ({"machine": with_drive("ntfs", "BitLocker")}, ["copy-not-encrypted"]),
        ({"machine": with_drive("BitLocker", "BitLocker")}, ["drive-locked"]),
        ({"warnings": (("windows-unclean", "?"),)}, ["windows-unclean"]),
        ({"machine": None}, []),
        ({"crowd": Crowd(4, 6, 12 * GIB)}, ["not-together"]),
        ({"unheard": ("10.9.0.5",)}, ["addresses-unheard"]),
    ],
)
def test_what_is_known_of_the_primary(given: dict[str, Any], expected: list[str]) -> None:
    assert keys(facts(**given)) == expected


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ({"hypervisor": False, "accelerated": False}, ["no-hypervisor"]),
        ({"accelerated": False}, ["no-kvm"]),
        ({"bridged": False}, ["no-bridge"]),
        ({"witnesses": False}, ["no-witness"]),
        ({"memory": 4 * GIB}, ["too-little-memory"]),
        ({"idle_memory": 20 * GIB}, ["memory-taken"]),
        ({"memory": 16 * GIB, "idle_memory": 15 * GIB}, ["less-memory"]),
        ({"rehearses": False}, ["never-rehearsed"]),
        ({"free": 1 * GIB}, ["no-space"]),
        ({"free": 19 * GIB}, ["little-space"]),
        ({"free": 21 * GIB}, []),
        ({"free": 150 * GIB, "reflink": False}, ["no-space", "no-reflink"]),
        ({"free": 250 * GIB, "reflink": False}, ["no-reflink"]),
    ],
)
def test_what_is_known_of_the_emergency_server(host: dict[str, Any], expected: list[str]) -> None:
    assert keys(facts(), replace(HOST, **host)) == expected


def test_blockers_come_first_and_decide_the_title() -> None:
    found = find(facts(schedule_minutes=0), replace(HOST, bridged=False))
    assert [one.severity for one in found] == [Severity.BLOCKER, Severity.WARNING]
    assert words.told(found).title == words.NOT_READY
    assert words.told(found[1:]).title == words.LOOK_AT
    assert words.told(found[1:]).light is Light.WARN


def test_every_finding_has_words_with_all_their_values() -> None:
    source = Path(rules.__file__).read_text()
    for key, texts in words.WORDS.items():
        assert f'"{key}"' in source or key == "image-warning", f"{key} is never found"
        assert all(texts)
    shown = []
    for given, host in (
        (facts(machine=machine("sealed"), failed={"replicate": ("pool-full", "ENOSPC")}), HOST),
        (
            facts(crowd=Crowd(4, 6, 12 * GIB)),
            replace(HOST, memory=8 * GIB, cpus=2, free=1 * GIB, bridged=False),
        ),
        (facts(), replace(HOST, memory=4 * GIB, idle_memory=GIB, rehearses=False)),
        (
            facts(
                machine=replace(machine("office"), outside=["/srv (nfs)"], licence_keys=["HASP"]),
                evidence=Evidence(
                    started=True, volumes=(HURT,), checks=(ServiceCheck("a", False),)
                ),
                warnings=(("odd-boot-loader", "not GRUB"),),
            ),
            HOST,
        ),
        (facts(machine=with_drive("ntfs", "BitLocker")), HOST),
        (facts(evidence=Evidence(started=False)), HOST),
        (facts(evidence=Evidence(started=False), proven=True), HOST),
    ):
        for one in words.told(find(given, host)).list:
            for language in ("en", "de"):
                shown.append(speech(language).words(one.words))
                assert speech(language).words(one.remedy)
    assert "The network bridge br0 is missing, so a stand-in would have no network." in shown
    assert "Its stand-in gets less memory: 8.6 GB instead of 33.4 GB." in shown
    assert any("only 4 of 6 stand-ins find room" in one and "12.9 GB" in one for one in shown)
    assert any("/srv (nfs)" in one for one in shown)
    assert any("viel zu wenig Arbeitsspeicher" in one and "4,3 GB statt" in one for one in shown)
    assert "Sein Ersatzsystem bekommt weniger Prozessoren: 2 statt 8." in shown
    # A cause that has plain words is told in the reader's language.
    assert any("keinen Platz" in one or "kein Platz" in one for one in shown)
    assert not any("ENOSPC" in one for one in shown)
    unknown = Finding("no-copy", Severity.BLOCKER, {"code": "new-code", "why": "It rained."})
    assert "It rained." in speech("de").words(words.told([unknown]).list[0].words)
    assert "pool-full" in problems.PROBLEMS
