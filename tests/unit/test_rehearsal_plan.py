"""What a rehearsal may take, and from where its machine is asked: pure."""

from __future__ import annotations

from pathlib import Path

import pytest

from notfallserver.server.cycle.rehearsal.plan import (
    Need,
    asking_addresses,
    leases_of,
    refuse_unaskable,
    refuse_without_memory,
    why_silent,
)
from notfallserver.server.cycle.state import State
from notfallserver.server.host.memory import free_memory
from notfallserver.wire.errors import NotfallError
from notfallserver.wire.facts import Machine, Nic

GIB = 1 << 30


def machine(*addresses: str, gateway: str = "") -> Machine:
    return Machine("shop", gateway=gateway, nics=[Nic("eth0", "m", addresses=list(addresses))])


def test_it_is_asked_from_an_address_that_is_nobodys() -> None:
    asked = asking_addresses(
        machine("10.1.2.20/24", "10.1.2.21/24", "fd77::20/64", gateway="10.1.2.254"), ["10.1.2.253"]
    )
    assert asked == ["10.1.2.252/24", "fd77::ffff:ffff:ffff:fefe/64"]
    # Small networks, too: the machine has the last address, the gateway the one before.
    assert asking_addresses(machine("10.1.2.6/29", gateway="10.1.2.5"), []) == ["10.1.2.4/29"]


@pytest.mark.parametrize(
    "addresses",
    [
        (),
        ("fe80::1/64", "127.0.0.1/8", "169.254.3.4/16"),
        ("10.1.2.20/32", "fd77::1/128", "10.1.2.20/31"),
        ("10.1.2.1/30",),  # the other one is the gateway
        ("nonsense",),
    ],
)
def test_a_machine_that_nobody_can_ask_is_refused(addresses: tuple[str, ...]) -> None:
    alone = machine(*addresses, gateway="10.1.2.2")
    assert asking_addresses(alone, []) == []
    with pytest.raises(NotfallError) as refused:
        refuse_unaskable(alone, asking_addresses(alone, []))
    assert refused.value.code == "rehearsal-unaskable"


def test_memory_that_a_stand_in_may_need_is_never_taken() -> None:
    def code(free: int, *others: Need) -> str:
        try:
            refuse_without_memory(free * GIB, 4 * GIB, others)
        except NotfallError as error:
            return error.code
        return ""

    assert code(4) == "" and code(3) == "rehearsal-no-memory"
    largest, small = Need(State.NORMAL, 8 * GIB), Need(State.NORMAL, 2 * GIB)
    assert code(12, largest, small) == "" and code(11, largest, small) == "rehearsal-no-memory"
    down = [Need(State.OUTAGE, 2 * GIB), Need(State.ACTIVATING, 3 * GIB)]
    assert code(17, largest, *down) == "" and code(16, largest, *down) == "rehearsal-no-memory"
    # A stand-in at work has its memory already.
    assert code(4, Need(State.EMERGENCY, 32 * GIB)) == ""


def test_why_it_did_not_pass() -> None:
    assert why_silent([22], [80, 443], ["10.1.2.20"], True).code == "rehearsal-ports-silent"
    assert "80, 443" in why_silent([22], [80, 443], ["10.1.2.20"], True).cause
    assert why_silent([], [80], ["10.1.2.20"], True).code == "rehearsal-no-address"
    assert why_silent([], [80], ["10.1.2.20"], False).code == "rehearsal-silent"


def test_free_memory_is_what_the_kernel_says(tmp_path: Path) -> None:
    told = tmp_path / "meminfo"
    told.write_text("MemTotal: 900 kB\nMemFree: 1 kB\nMemAvailable:    300 kB\n")
    assert free_memory(told) == 300 << 10
    assert 0 < free_memory() < 1 << 50
    told.write_text("MemTotal: 900 kB\n")
    with pytest.raises(OSError, match="how much memory"):
        free_memory(told)


def test_what_it_has_by_dhcp_it_gets_in_hiding() -> None:
    nic = Nic(
        "eth0",
        "52:54:00:AA:00:01",
        addresses=["10.1.2.6/24", "fd00::6/64"],
        leased=["10.1.2.6/24", "fd00::6/64"],
    )
    still = Nic("eth1", "52:54:00:aa:00:02", addresses=["10.9.0.6/24"])
    (lease,) = leases_of(Machine("shop", nics=[nic, still], gateway="10.1.2.254"))
    assert (lease.mac, str(lease.address), lease.gateway) == (
        "52:54:00:aa:00:01",
        "10.1.2.6/24",
        "10.1.2.254",
    )
    for gateway in ("10.9.0.254", "", "nonsense"):
        assert leases_of(Machine("shop", nics=[nic], gateway=gateway))[0].gateway == ""
