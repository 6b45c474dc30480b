"""An original on Windows keeps off the network while its stand-in works, and comes back whole."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from notfall_lab.windows.net import FIREWALL, LEASE, Killed, NetMachine, Nic
from notfallserver.agent import files
from notfallserver.agent.config import Settings, settings_text
from notfallserver.agent.stop import Stop
from notfallserver.agent.windows import apart as notes
from notfallserver.agent.windows import quiet as rules
from notfallserver.agent.windows.adapters import Adapter, Address
from notfallserver.agent.windows.asking import recall_near, remember_near
from notfallserver.agent.windows.standoff import PATIENCE, Standoff
from notfallserver.agent.windows.system import NUMBER, TEXT, TEXTS
from notfallserver.wire.errors import NotfallError

URL = "https://198.51.100.9:8443"
OWN = "198.51.100.10"


def lan_card(**others: object) -> Nic:
    return Nic("{AA}", "Ethernet", "52:54:00:00:00:01", 11, **others)  # type: ignore[arg-type]


def other_card(**others: object) -> Nic:
    return Nic("{BB}", "Storage", "52:54:00:00:00:02", 12, **others)  # type: ignore[arg-type]


class Answers(Stop):
    """The servers, and the time: ``until`` calls without addresses the stand-in works. While it
    does, and this machine has once left, nothing of it may be seen."""

    def __init__(self, machine: NetMachine, until: int = 3) -> None:
        super().__init__()
        self.machine = machine
        self.until = until
        self.heard: list[str] = []
        self.own: list[bool | None] = []
        """What is said one after another to a machine that is on the network; then: nothing."""
        self.away = False  # the server can't be reached without addresses
        self.left = False
        self.waited = 0.0
        self.then: dict[int, Callable[[], None]] = {}  # at which pause what happens
        self.pauses = 0

    def wait(self, seconds: float) -> None:
        self.waited += seconds
        self.pauses += 1
        assert self.pauses < 1000, "it never ends"
        if self.pauses in self.then:
            self.then[self.pauses]()
        self.look()

    def look(self) -> None:
        exposed = self.machine.exposed()
        self.left |= not exposed
        if self.left and self.until > 0 and not self.away:
            assert not exposed
        if self.until <= 0:
            self.left = False

    def by_own_addresses(self, indexes: Sequence[int]) -> bool | None:
        self.heard.append(f"own {list(indexes)}")
        if self.own:
            return self.own.pop(0)
        return None

    def without(self, index: int, because: str) -> bool | None:
        assert not self.machine.exposed()
        self.heard.append(f"without {index} {because}")
        if self.away:
            return None
        self.until -= 1
        return self.until > 0

    def say_goodbye(self, because: str) -> None:
        self.heard.append(f"goodbye {because}")


@pytest.fixture
def machine() -> NetMachine:
    lan, other = lan_card(), other_card()
    found = NetMachine(lan, other, routers=True)
    found.fix(lan, OWN, "198.51.100.1")
    found.lease(other)
    found.start()
    return found


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "agent.json").write_text(settings_text(Settings(URL, "p")))
    remember_near(tmp_path, URL, ["fe80::9"])
    return tmp_path


def standoff_of(place: Path, machine: NetMachine, answers: Answers) -> Standoff:
    return Standoff(place, machine, answers, answers, lambda count: bytes(range(count)))


# -- the whole of it -----------------------------------------------------------------------------


def test_it_leaves_asks_and_comes_back_as_it_was(place: Path, machine: NetMachine) -> None:
    before, answers = machine.saved(), Answers(machine)
    assert standoff_of(place, machine, answers).stay_off()
    assert answers.heard == ["without 11 order"] * 3
    assert machine.saved() == before
    assert not (place / notes.FILE).exists()


def test_while_it_is_off_only_the_quiet_card_is_on(place: Path, machine: NetMachine) -> None:
    answers = Answers(machine, until=100)
    seen: list[list[tuple[object, ...]]] = []

    def look() -> None:
        seen.append([(one.on, one.mac_now, one.ipv4, one.gateways) for one in machine.nics])
        assert len(machine.rules) == 4
        assert machine.nics[0].silenced
        answers.until = 1

    answers.then[1] = look
    standoff_of(place, machine, answers).stay_off()
    lan, other = seen[0]
    assert lan == (True, "02:00:01:02:03:04", [("169.254.6.7", 1)], [])
    assert not other[0]


def test_what_is_written_down_is_whole(place: Path, machine: NetMachine) -> None:
    answers = Answers(machine)
    told: list[notes.Apart | None] = []
    answers.then[1] = lambda: told.append(notes.read_apart(place))
    standoff_of(place, machine, answers).stay_off()
    apart = told[0]
    assert apart is not None and apart.quiet is not None
    assert [one.name for one in apart.cards] == ["Ethernet", "Storage"]
    assert dict(apart.quiet.addresses)["IPAddress"] == (TEXTS, [OWN])
    assert apart.quiet.own_mac is None
    notebook = notes.Notebook(place)
    notebook.write(apart)
    assert notebook.read() == apart


def test_a_driver_with_a_mac_of_its_own_gets_it_back(place: Path, machine: NetMachine) -> None:
    lan = machine.nics[0]
    machine.values[lan.key, "NetworkAddress"] = (TEXT, "525400000001")
    machine.lease(lan)
    machine.start()
    before = machine.saved()
    standoff_of(place, machine, Answers(machine)).stay_off()
    assert machine.saved() == before
    assert machine.nics[0].ipv4[0][0] == LEASE


# -- killed --------------------------------------------------------------------------------------


def killed_at(machine: NetMachine, place: Path, monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """The process ends at this change, before or after it (the steps count both)."""
    left = [step]

    def count() -> None:
        left[0] -= 1
        if left[0] == 0:
            raise Killed

    machine.counted = count
    write = files.write_whole

    def write_whole(path: Path, content: bytes) -> None:
        count()
        write(path, content)
        count()

    monkeypatch.setattr(notes, "write_whole", write_whole)


@pytest.mark.parametrize("restarted", [False, True], ids=["agent", "windows"])
def test_killed_at_any_instant_it_ends_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, restarted: bool
) -> None:
    for step in range(1, 500):
        place = tmp_path / str(step)
        place.mkdir()
        (place / "agent.json").write_text(settings_text(Settings(URL, "p")))
        remember_near(place, URL, ["fe80::9"])
        machine = NetMachine(lan_card(), other_card(), routers=True)
        machine.fix(machine.nics[0], OWN, "198.51.100.1")
        machine.lease(machine.nics[1])
        machine.start()
        before, answers = machine.saved(), Answers(machine)
        with monkeypatch.context() as patched:
            killed_at(machine, place, patched, step)
            try:
                standoff_of(place, machine, answers).stay_off()
                break
            except Killed:
                machine.counted = lambda: None
        if restarted:
            machine.start()
            machine.mark = "second start"
            answers.left = False
        answers.own = [True] if answers.until > 0 else [False]
        standoff_of(place, machine, answers).begin()
        assert machine.saved() == before, step
        assert not (place / notes.FILE).exists(), step
    assert 40 < step < 499


# -- after a restart of Windows ------------------------------------------------------------------


def off_and_restarted(place: Path, machine: NetMachine, answers: Answers) -> None:
    """Kept off; then the machine was switched off and on."""

    def out() -> None:
        raise Killed

    answers.then[answers.pauses + 2] = out
    with pytest.raises(Killed):
        standoff_of(place, machine, answers).stay_off()
    machine.start()
    machine.mark = "second start"


def test_after_a_restart_it_asks_anew_and_stays_off(place: Path, machine: NetMachine) -> None:
    before, answers = machine.saved(), Answers(machine, until=6)
    off_and_restarted(place, machine, answers)
    answers.own = [False]
    standoff_of(place, machine, answers).begin()
    assert answers.until == 0
    assert machine.saved() == before


def test_after_a_restart_without_a_server_it_does_not_stay_dead(
    place: Path, machine: NetMachine
) -> None:
    before, answers = machine.saved(), Answers(machine, until=6)
    off_and_restarted(place, machine, answers)
    answers.away, answers.waited = True, 0.0
    standoff_of(place, machine, answers).begin()
    assert machine.saved() == before
    assert answers.waited > PATIENCE * 10 - 20, "the server may be starting as well"
    assert not (place / notes.FILE).exists()


def test_back_without_an_answer_it_goes_off_when_the_server_says_so(
    place: Path, machine: NetMachine
) -> None:
    remember_near(place, URL, ["fe80::9"])
    machine.registry[rf"{FIREWALL}\PublicProfile", "EnableFirewall"] = 0
    answers = Answers(machine, until=6)
    off_and_restarted(place, machine, answers)
    answers.left, answers.own = False, [None, None, True]
    machine.registry[rf"{FIREWALL}\PublicProfile", "EnableFirewall"] = 1
    before = machine.saved()
    standoff_of(place, machine, answers).begin()
    assert [one for one in answers.heard if one.startswith("own")] == ["own [11, 12]"] * 3
    assert answers.until == 0
    assert {**machine.saved(), "cards": 0} == {**before, "cards": 0}
    assert all(one.on for one in machine.nics)


def test_an_agent_that_starts_asks_first(place: Path, machine: NetMachine) -> None:
    answers = Answers(machine)
    answers.own = [True]
    standoff_of(place, machine, answers).begin()
    assert answers.heard[:2] == ["own [11, 12]", "without 11 order"]
    for said in (False, None):
        answers = Answers(machine)
        answers.own = [said]
        standoff_of(place, machine, answers).begin()
        assert answers.heard == ["own [11, 12]"]
        assert machine.exposed()


def test_a_stand_in_and_a_new_machine_do_not_ask(place: Path, machine: NetMachine) -> None:
    (place / "role").write_text("stand-in\n")
    answers = Answers(machine)
    standoff_of(place, machine, answers).begin()
    assert answers.heard == []


# -- where no server can be asked ----------------------------------------------------------------


def deaf(place: Path, machine: NetMachine) -> notes.Apart:
    """Goes off, and is looked at some rounds later."""
    answers = Answers(machine)

    def out() -> None:
        raise Killed

    answers.then[6] = out
    with pytest.raises(Killed):
        standoff_of(place, machine, answers).stay_off()
    assert not any(one.on for one in machine.nics)
    assert machine.rules == []
    assert not any("without" in one for one in answers.heard)
    told = notes.read_apart(place)
    assert told is not None and told.quiet is None
    return told


def test_a_server_that_never_told_where_it_is_near(place: Path, machine: NetMachine) -> None:
    (place / "near.json").unlink()
    values = dict(machine.values)
    assert "not found" in deaf(place, machine).refused
    assert machine.values == values, "cards are only switched off"


def test_then_it_says_so_while_it_still_can(place: Path, machine: NetMachine) -> None:
    (place / "near.json").unlink()
    answers = Answers(machine)

    def out() -> None:
        raise Killed

    answers.then[3] = out
    with pytest.raises(Killed):
        standoff_of(place, machine, answers).stay_off()
    assert answers.heard == ["goodbye order"]


@pytest.mark.parametrize(
    ("key", "name", "value"),
    [
        (rf"{FIREWALL}\DomainProfile", "EnableFirewall", 0),
        (r"SOFTWARE\Policies\Microsoft\WindowsFirewall\PrivateProfile", "EnableFirewall", 0),
        (r"SOFTWARE\Policies\Microsoft\WindowsFirewall\PublicProfile", "AllowLocalPolicyMerge", 0),
        (r"SYSTEM\CurrentControlSet\Services\MpsSvc", "Start", 4),
    ],
)
def test_a_firewall_that_does_not_act(
    place: Path, machine: NetMachine, key: str, name: str, value: int
) -> None:
    machine.registry[key, name] = value
    assert "firewall" in deaf(place, machine).refused


def test_a_driver_that_keeps_its_mac(place: Path, machine: NetMachine) -> None:
    machine.nics[0].keeps_mac = True
    values = dict(machine.values)
    assert "MAC" in deaf(place, machine).refused
    assert machine.values == values


def test_an_address_that_should_not_be_there(place: Path, machine: NetMachine) -> None:
    machine.refused = {"routerdiscovery=disabled"}
    values = dict(machine.values)
    assert "2001:db8::77" in deaf(place, machine).refused
    assert machine.values == values


@pytest.mark.parametrize("word", ["add", "IPAddress", "EnableDHCP", "NetworkAddress"])
def test_what_windows_refuses(place: Path, machine: NetMachine, word: str) -> None:
    before = dict(machine.values)
    if word == "add":
        machine.refused = {word}
        deaf(place, machine)
        assert machine.values == before
        return
    real = machine.set_value
    refused = [word]

    def set_value(key: str, name: str, value: object) -> None:
        if name in refused:
            refused.clear()
            machine.refused = {name}
        try:
            real(key, name, value)  # type: ignore[arg-type]
        finally:
            machine.refused = set()

    machine.set_value = set_value  # type: ignore[method-assign]
    deaf(place, machine)
    assert machine.values == before


def test_cards_that_are_not_fit_for_asking(place: Path) -> None:
    for change in ("fixed", "wireless", "bare"):
        nic = lan_card(fixed6=["2001:db8::5"] if change == "fixed" else [])
        nic.kind = 71 if change == "wireless" else 6
        machine = NetMachine(nic)
        if change != "bare":
            machine.fix(nic, OWN)
        machine.start()
        assert "fit" in deaf(place, machine).refused
        notes.Notebook(place).forget()


def test_a_card_under_a_virtual_switch_is_not_asked_by() -> None:
    def adapter(guid: str, mac: str) -> Adapter:
        address = Address(f"{OWN}/24", False)
        return Adapter(guid, guid, "", mac, 6, (address,), ("198.51.100.1",), True, 3)

    below, above, other = adapter("{1}", "a"), adapter("{2}", "a"), adapter("{3}", "b")
    assert rules.choose([below], [below, above], lambda _: "key") is None
    assert rules.choose([below, other], [below, above, other], lambda _: "key") is other
    assert rules.choose([other], [other], lambda _: "") is None


# -- what people and machines do meanwhile -------------------------------------------------------


def test_a_card_that_cannot_be_switched_off_is_told(
    place: Path, machine: NetMachine, caplog: pytest.LogCaptureFixture
) -> None:
    machine.nics[1].stuck = True
    before, answers = machine.saved(), Answers(machine)
    standoff = standoff_of(place, machine, answers)
    assert not standoff.stay_off()
    assert "SWITCH THIS SERVER OFF" in caplog.text and "Storage" in caplog.text
    assert (place / notes.FILE).exists()
    standoff.settle()
    assert not any("without" in one for one in answers.heard)
    machine.nics[1].stuck = False
    standoff.settle()
    assert not standoff.off
    assert machine.saved() == before


def test_cards_switched_on_or_plugged_in_meanwhile_go_off(place: Path, machine: NetMachine) -> None:
    third = Nic("{CC}", "USB", "52:54:00:00:00:03", 13, on=False)
    machine.nics.append(third)
    answers = Answers(machine, until=9)
    states: list[list[bool]] = []

    def come() -> None:
        for one in machine.nics[1:]:
            one.on = True
            machine.plug(one)
        answers.left = False

    answers.then[2] = come
    answers.then[4] = lambda: states.append([one.on for one in machine.nics])
    standoff_of(place, machine, answers).stay_off()
    assert states == [[True, False, False]]
    assert all(one.on for one in machine.nics)


def test_addresses_that_a_person_set_meanwhile_stay(place: Path, machine: NetMachine) -> None:
    lan, answers = machine.nics[0], Answers(machine, until=9)

    def change() -> None:
        machine.fix(lan, "198.51.100.55", "198.51.100.1")
        answers.until = 1

    answers.then[2] = change
    standoff_of(place, machine, answers).stay_off()
    assert machine.values[lan.place, "IPAddress"] == (TEXTS, ["198.51.100.55"])
    assert lan.ipv4 == [("198.51.100.55", 1)] and lan.mac_now == lan.mac
    assert machine.rules == []


def test_a_card_without_a_link_is_switched_off_at_once(place: Path, machine: NetMachine) -> None:
    before, answers = machine.saved(), Answers(machine)
    machine.nics[1].plugged = False
    states: list[bool] = []

    def plug() -> None:
        states.append(machine.nics[1].on)
        machine.nics[1].plugged = True

    answers.then[1] = plug
    standoff_of(place, machine, answers).stay_off()
    assert states == [False] and machine.saved() == before


def test_cards_that_were_off_before_stay_off(place: Path, machine: NetMachine) -> None:
    machine.nics[1].on = False
    standoff_of(place, machine, Answers(machine)).stay_off()
    assert [one.on for one in machine.nics] == [True, False]


def test_a_card_with_another_name_is_found(place: Path, machine: NetMachine) -> None:
    answers = Answers(machine)

    def rename() -> None:
        other = machine.nics[1]
        other.name = "Renamed"
        key = next(one for one, _ in machine.registry if "{BB}\\Connection" in one)
        machine.registry[key, "Name"] = "Renamed"

    answers.then[1] = rename
    standoff_of(place, machine, answers).stay_off()
    assert machine.nics[1].on


def test_a_card_that_was_taken_out_is_no_reason_to_wait(
    place: Path, machine: NetMachine, caplog: pytest.LogCaptureFixture
) -> None:
    answers = Answers(machine)
    answers.then[1] = lambda: machine.nics.remove(machine.nics[1])
    assert standoff_of(place, machine, answers).stay_off()
    assert machine.nics[0].on and machine.nics[0].ipv4 == [(OWN, 1)]
    assert "ncpa.cpl" in caplog.text
    assert not (place / notes.FILE).exists()


def test_settings_that_can_not_be_given_back_are_tried_for_ever(
    place: Path, machine: NetMachine
) -> None:
    before, answers = machine.saved(), Answers(machine, until=1)

    def refuse() -> None:
        machine.refused = {"SubnetMask"}

    answers.then[1] = refuse
    answers.until = 2

    def allow() -> None:
        assert not machine.nics[0].on, "parked is no address to work with"
        machine.refused = set()

    answers.then[8] = allow
    standoff_of(place, machine, answers).stay_off()
    assert machine.saved() == before


def test_a_file_that_cannot_be_written(
    place: Path, machine: NetMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full: off all the same, but nothing is done that could not be taken back."""

    def write_whole(path: Path, content: bytes) -> None:
        raise OSError(28, "no space left")

    monkeypatch.setattr(notes, "write_whole", write_whole)
    values, answers = dict(machine.values), Answers(machine)

    def out() -> None:
        raise Killed

    answers.then[4] = out
    with pytest.raises(Killed):
        standoff_of(place, machine, answers).stay_off()
    assert not any(one.on for one in machine.nics)
    assert machine.values == values


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"because": "order", "boot": "x"}'])
def test_a_damaged_file_gives_all_cards_back(
    place: Path, machine: NetMachine, content: str
) -> None:
    for one in machine.nics:
        one.on = False
    (place / notes.FILE).write_text(content)
    answers = Answers(machine)
    answers.own = [False]
    standoff_of(place, machine, answers).begin()
    assert all(one.on for one in machine.nics)
    assert answers.heard == ["own [11, 12]"]


# -- by a person ---------------------------------------------------------------------------------


def kept_off(place: Path, machine: NetMachine, answers: Answers) -> None:
    def out() -> None:
        raise Killed

    answers.then[2] = out
    with pytest.raises(Killed):
        standoff_of(place, machine, answers).stay_off()


def test_unfence_asks_first(place: Path, machine: NetMachine) -> None:
    before, answers = machine.saved(), Answers(machine, until=9)
    kept_off(place, machine, answers)
    with pytest.raises(NotfallError) as caught:
        standoff_of(place, machine, answers).unfence(False)
    assert caught.value.code == "stand-in-answers"
    assert standoff_of(place, machine, answers).off
    answers.away = True
    assert "comes up" in standoff_of(place, machine, answers).unfence(False)
    assert machine.saved() == before
    assert "not kept off" in standoff_of(place, machine, answers).unfence(False)


def test_unfence_in_spite_of_it(place: Path, machine: NetMachine) -> None:
    before, answers = machine.saved(), Answers(machine, until=9)
    kept_off(place, machine, answers)
    answers.left, answers.until = False, 0
    standoff_of(place, machine, answers).unfence(True)
    assert machine.saved() == before


def test_a_persons_word_is_carried_out_though_it_was_interrupted(
    place: Path, machine: NetMachine
) -> None:
    before, answers = machine.saved(), Answers(machine, until=9)
    kept_off(place, machine, answers)
    answers.left, answers.away, answers.waited = False, True, 0.0
    machine.refused = {"admin=enabled"}
    with pytest.raises(NotfallError) as caught:
        standoff_of(place, machine, answers).unfence(False)
    assert caught.value.code == "not-given-back"
    machine.refused = set()
    answers.own, answers.waited = [False], 0.0
    standoff_of(place, machine, answers).begin()
    assert machine.saved() == before
    assert answers.waited < 10, "nobody is asked once more"


def test_another_servers_order_meanwhile_changes_nothing(place: Path, machine: NetMachine) -> None:
    answers = Answers(machine)
    standoff = standoff_of(place, machine, answers)
    told: list[bool] = []
    answers.then[1] = lambda: told.append(standoff.stay_off())
    answers.then[2] = standoff.settle
    assert standoff.stay_off()
    assert told == [True]


def test_an_agent_that_is_removed_leaves_the_cards_off(place: Path, machine: NetMachine) -> None:
    values, answers = dict(machine.values), Answers(machine, until=9)
    kept_off(place, machine, answers)
    told = standoff_of(place, machine, answers).let_go()
    assert "Ethernet, Storage" in told
    assert not any(one.on for one in machine.nics)
    assert machine.values == values and machine.rules == []
    assert standoff_of(place, machine, answers).let_go() == ""


# -- rules ---------------------------------------------------------------------------------------


def test_only_the_server_is_spared_by_the_firewall() -> None:
    blocked = rules.others6(["fe80::9", "fe80::8"])
    assert blocked == [
        "::",
        "::2-fe80::7",
        "fe80::a-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
    ]
    told = rules.rules(["fe80::9"])
    assert {one[7:9] for one in told} == {
        (way, f"protocol={kind}") for way in ("dir=in", "dir=out") for kind in ("tcp", "udp")
    }
    assert all("remoteip" in one[-1] for one in told if "dir=out" in one)
    assert rules.parked_values("169.254.1.2")[0][0] == rules.ADDRESS_VALUE
    assert ("EnableDHCP", (NUMBER, 0)) in rules.parked_values("169.254.1.2")


def test_where_the_servers_are_near(tmp_path: Path) -> None:
    assert recall_near(tmp_path) == {}
    remember_near(tmp_path, URL, ["fe80::9"])
    remember_near(tmp_path, "https://second", ["fe80::7"])
    remember_near(tmp_path, URL, [])
    assert recall_near(tmp_path) == {URL: ("fe80::9",), "https://second": ("fe80::7",)}
    (tmp_path / "near.json").write_text("[1]")
    assert recall_near(tmp_path) == {}
    assert json.loads((tmp_path / "near.json").read_text()) == [1]
