"""A planned handover: what is shut down, when it is near enough, and the point of no return."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from notfallserver.agent.handover import departure
from notfallserver.agent.handover.departure import Departure, finish_leftovers
from notfallserver.agent.handover.listeners import listening
from notfallserver.agent.handover.note import Note
from notfallserver.agent.handover.services import Services
from notfallserver.agent.handover.units import own_unit, read_units, to_start, to_stop
from notfallserver.server.cycle.handover.plan import (
    LEFT,
    MOST_ROUNDS,
    SMALL,
    Left,
    has_left,
    near_enough,
    predict,
)
from notfallserver.wire.errors import NotfallError


def shown(name: str, early: bool = False, before: str = "", state: str = "active") -> str:
    own, stops = "no" if early else "yes", "no" if name.startswith("auditd") else "yes"
    return (
        f"Id={name}\nBefore=shutdown.target {before}\nDefaultDependencies={own}\n"
        f"ActiveState={state}\nCanStop={stops}\n"
    )


WORKING = {
    "postgresql@15-main.service": "postgresql.service",
    "shop.service": "",
    "ssh.service": "multi-user.target",
    "ssh.socket": "sockets.target",
    "cron.service": "",
    "nfs-server.service": "",
    "docker.service": "",
    "docker-0123.scope": "",
    "session-3.scope": "",
    "user@1000.service": "",
    "apt-daily.timer": "",
    "systemd-nspawn@guest.service": "",
}
STAYING = {
    "notfall-agent.service": "",
    "networking.service": "network.target network-online.target",
    "our-vpn.service": "network-online.target",
    "systemd-networkd.service": "",
    "dbus.service": "",
    "wg-quick@wg0.service": "",
    "auditd.service": "",
    "kept-by-us.service": "",
}


def test_all_is_shut_down_but_what_the_line_and_the_disks_need() -> None:
    blocks = [shown(name, before=before) for name, before in {**WORKING, **STAYING}.items()]
    blocks += [shown("lvm2-monitor.service", early=True), shown("rpcbind.socket", early=True)]
    blocks += [shown("idle.service", state="inactive"), shown("mail.service", state="activating")]
    kept = ["notfall-agent.service", "kept-*"]
    units = read_units("\n".join(blocks))
    assert len(units) == len(blocks)
    assert set(to_stop(units, kept)) == {*WORKING, "mail.service"}


def test_what_was_stopped_is_started_again_but_for_what_others_make() -> None:
    assert to_start(["shop.service", "session-3.scope", "ssh.socket"]) == [
        *("shop.service", "ssh.socket"),
    ]


@pytest.mark.parametrize(
    ("told", "unit"),
    [
        ("0::/system.slice/shop.service\n", "shop.service"),
        ("0::/system.slice/docker-01.scope/init\n", "docker-01.scope"),
        ("12:pids:/user.slice\n1:name=systemd:/user.slice/session-2.scope\n", "session-2.scope"),
        ("0::/init.scope\n", "init.scope"),
        ("0::/\n", ""),
    ],
)
def test_a_process_is_known_by_its_unit(told: str, unit: str) -> None:
    assert own_unit(told) == unit


def test_only_what_others_can_reach_counts_as_listening() -> None:
    row = "  0: {}:{} 00000000:0000 {} 00000000:00000000 00:00000000 00000000     0        0 {} 1"
    table = "\n".join(
        [
            "  sl  local_address rem_address   st ...",
            row.format("00000000", "0050", "0A", 11),
            row.format("0100007F", "1538", "0A", 12),
            row.format("00000000000000000000000001000000", "1538", "0A", 13),
            row.format("0000000000000000FFFF00000100007F", "1538", "0A", 14),
            row.format("00000000000000000000000000000000", "0016", "0A", 15),
            row.format("0138A8C0", "0050", "01", 16),
        ]
    )
    assert listening(table) == {11: 80, 15: 22}


def test_rounds_go_on_while_they_help_and_not_for_ever() -> None:
    assert near_enough(1, SMALL, 0)
    assert not near_enough(1, SMALL + 1, 0)
    assert not near_enough(2, 10 * SMALL, 30 * SMALL)
    assert near_enough(2, 20 * SMALL, 30 * SMALL)  # it does not get closer
    assert near_enough(MOST_ROUNDS, 10 * SMALL, 30 * SMALL)


def test_what_was_measured_is_expected_again() -> None:
    assert predict().whole > 60
    slow = predict(line_rate=SMALL / 100, adapt_s=200.0, boot_s=90.0)
    assert (slow.adapt, slow.boot) == (200.0, 90.0) and 100 < slow.last_delta < 120
    assert slow.whole == slow.shut_down + slow.last_delta + 290


def test_an_echo_of_an_original_that_has_left_is_no_sign_of_life() -> None:
    at = datetime(2026, 11, 26, 12, tzinfo=UTC)
    notes = {LEFT: Left("v1", "b1", "j1", at.isoformat()).to_json()}
    assert has_left(notes, at + timedelta(seconds=1))
    assert has_left(notes, at - timedelta(hours=1))
    assert not has_left(notes, at + timedelta(minutes=1))
    assert not has_left({}, at)


# -- the point of no return ------------------------------------------------------------------------


class Machine:
    """Writes down what is done to it."""

    def __init__(self, note: Note) -> None:
        self._note = note
        self.done: list[str] = []

    def stop(self, tick: Callable[[], None]) -> None:
        self._note.write(["shop.service"])
        tick()
        self.done.append("stopped")

    def start_again(self) -> None:
        self.done.append("started")
        self._note.remove()

    def power_off(self) -> None:
        self.done.append("off")


@pytest.fixture
def note(tmp_path: Path) -> Note:
    return Note(tmp_path / "stopped")


def leave(note: Note, tell: Callable[[Mapping[str, Any]], object]) -> list[str]:
    machine = Machine(note)
    one = Departure(note, machine, tell, machine.power_off)
    try:
        with one.shut_down(lambda: None):
            machine.done.append("frozen")
            one.leave("v1", "b1")
    except NotfallError as error:
        machine.done.append(error.code)
    return machine.done


def test_it_tells_and_goes_and_nothing_is_started_again(note: Note) -> None:
    told: list[Any] = []

    def tell(body: Mapping[str, Any]) -> None:
        stopped = note.read()
        assert stopped is not None and stopped.leaving  # known before anybody may hear of it
        told.append(dict(body))

    assert leave(note, tell) == ["stopped", "frozen", "off"]
    assert told == [{"version": "v1", "boot_id": "b1"}]


def test_where_the_server_refuses_it_works_on(note: Note) -> None:
    def tell(_: Mapping[str, Any]) -> None:
        raise NotfallError("handover-over", "Given up.", status=409)

    assert leave(note, tell) == ["stopped", "frozen", "started", "handover-over"]
    assert note.read() is None


def test_who_may_have_been_heard_goes_even_without_an_answer(
    note: Note, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(departure, "TELL_S", 0.0)
    tries: list[int] = []

    def tell(_: Mapping[str, Any]) -> None:
        tries.append(1)
        raise NotfallError("server-unreachable", "Cut.", retry=True, status=503)

    assert leave(note, tell) == ["stopped", "frozen", "off"]
    assert tries


def test_what_fails_before_is_taken_back(note: Note) -> None:
    def cancelled() -> None:
        raise NotfallError("cancelled", "The replication was cancelled.", status=409)

    machine = Machine(note)
    one = Departure(note, machine, lambda _: None, machine.power_off)
    with pytest.raises(NotfallError), one.shut_down(cancelled):
        pytest.fail("it was cancelled while it was shut down")
    assert machine.done == ["started"]


def test_an_agent_that_was_killed_is_taken_back_unless_the_server_may_know(
    note: Note, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    monkeypatch.setattr(departure, "switch_off", lambda: done.append("off"))
    monkeypatch.setattr(Services, "start_again", lambda self: done.append("started"))
    services = Services(note, [], 1)
    assert finish_leftovers(note, services) == "" and done == []
    note.write(["shop.service"])
    assert "shop.service" in finish_leftovers(note, services)
    note.write(["shop.service"], leaving=True)
    finish_leftovers(note, services)
    assert done == ["started", "off"]
