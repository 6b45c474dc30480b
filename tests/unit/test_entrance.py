"""The rules of the login, with time in our hands."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pyotp
import pytest

from notfallserver.server.records import Catalogue, open_catalogue
from notfallserver.server.records.people import Role
from notfallserver.server.web import brake as brake_module
from notfallserver.server.web.brake import DAY_S, DAY_TRIES, SHORT_S, SHORT_TRIES, Brake, Visitor
from notfallserver.server.web.entrance import CODES, PATIENCE_S, CodeAsked, Entered, Entrance
from notfallserver.wire.errors import NotfallError

GOOD = "four words in a row"
WRONG = "four wrong words"
HOME = Visitor("192.0.2.1", "")
START = 1_796_000_000.0


@dataclass
class World:
    """``bert`` has a second factor, ``anna`` has none."""

    catalogue: Catalogue
    entrance: Entrance = field(init=False)
    passed: float = 0.0
    shown: pyotp.TOTP = field(init=False)
    codes: list[str] = field(init=False)

    def __post_init__(self) -> None:
        people = self.catalogue.people
        people.add("anna", GOOD, Role.ADMINISTRATOR, "root")
        people.add("bert", GOOD, Role.OPERATOR, "anna")
        factor = self.catalogue.second_factor
        self.shown = pyotp.TOTP(factor.offer("bert"))
        self.codes = factor.switch_on("bert", self.code(), self.wall())
        self.passed = 3600.0
        self.entrance = Entrance(self.catalogue, lambda: self.passed, self.wall)

    def wall(self) -> float:
        return START + self.passed

    def code(self) -> str:
        return self.shown.at(int(self.wall()))

    def ask(self, name: str, password: str, visitor: Visitor = HOME) -> str:
        """The first step, where a second one follows."""
        found = self.entrance.begin(name, password, visitor)
        assert isinstance(found, CodeAsked)
        return found.ticket

    def enter(self, name: str, password: str, visitor: Visitor = HOME) -> Entered:
        """The only step."""
        found = self.entrance.begin(name, password, visitor)
        assert isinstance(found, Entered)
        return found

    def refusal(self, name: str, password: str, visitor: Visitor = HOME) -> str:
        with pytest.raises(NotfallError) as caught:
            self.entrance.begin(name, password, visitor)
        return caught.value.code

    def refused_code(self, ticket: str, code: str, visitor: Visitor = HOME) -> NotfallError:
        with pytest.raises(NotfallError) as caught:
            self.entrance.prove(ticket, code, visitor)
        return caught.value

    def events(self) -> list[str]:
        return [one.event for one in self.catalogue.journal.entries()]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    catalogue = open_catalogue(tmp_path)
    yield World(catalogue)
    catalogue.close()


def test_one_step_without_a_second_factor(world: World) -> None:
    token = world.enter("anna", GOOD).token
    somebody = world.catalogue.sessions.who(token)
    assert somebody and somebody.name == "anna"
    assert world.refusal("anna", WRONG) == "login-refused"
    assert world.refusal("nobody", GOOD) == "login-refused"


def test_nobody_learns_whether_the_password_was_right_before_the_code_was(world: World) -> None:
    answers = []
    for password in (GOOD, WRONG):
        ticket = world.ask("bert", password)
        error = world.refused_code(ticket, "000000x")
        answers.append(error.to_json())
        world.refused_code(ticket, "000000x")
        world.refused_code(ticket, "000000x")
        answers.append(world.refused_code(ticket, world.code()).to_json())
    assert answers[0]["code"] == "code-refused" and answers[1]["code"] == "login-over"
    assert answers[:2] == answers[2:]


def test_a_right_code_does_not_help_a_wrong_password_and_stays_good(world: World) -> None:
    code = world.code()
    assert world.refused_code(world.ask("bert", WRONG), code).code == "code-refused"
    token = world.entrance.prove(world.ask("bert", GOOD), code, HOME).token
    somebody = world.catalogue.sessions.who(token)
    assert somebody and somebody.name == "bert"
    assert world.refused_code(world.ask("bert", GOOD), code).code == "code-refused"
    world.passed += 30
    world.entrance.prove(world.ask("bert", GOOD), world.code(), HOME)


def test_a_code_on_paper_opens_once(world: World) -> None:
    world.entrance.prove(world.ask("bert", GOOD), world.codes[0], HOME)
    assert world.refused_code(world.ask("bert", GOOD), world.codes[0]).code == "code-refused"
    assert "recovery-code-used" in world.events()


def test_the_second_step_does_not_wait_for_ever_nor_survive_a_new_password(world: World) -> None:
    ticket = world.ask("bert", GOOD)
    world.passed += PATIENCE_S + 1
    assert world.refused_code(ticket, world.code()).code == "login-over"
    ticket = world.ask("bert", GOOD)
    world.catalogue.people.set_password("bert", "quite " + GOOD, "anna")
    assert world.refused_code(ticket, world.code()).code == "code-refused"
    ticket = world.ask("bert", "quite " + GOOD)
    world.catalogue.people.remove("bert", "anna")
    assert world.refused_code(ticket, world.code()).code == "code-refused"
    assert world.refused_code("no ticket", world.code()).code == "login-over"


def test_where_it_is_a_rule_names_can_not_be_told_apart(world: World) -> None:
    world.catalogue.rules.require_second_factor(True, "root")
    for name in ("nobody", "anna", "bert"):
        ticket = world.ask(name, WRONG)
        assert world.refused_code(ticket, world.code()).code == "code-refused"
    somebody = world.catalogue.sessions.who(world.enter("anna", GOOD).token)
    assert somebody and somebody.bare


def test_wrong_passwords_from_one_address_are_braked_for_all_names(world: World) -> None:
    for number in range(SHORT_TRIES):
        assert world.refusal(f"x{number}", WRONG) == "login-refused"
    assert world.refusal("anna", GOOD) == "too-many-tries"
    world.enter("anna", GOOD, Visitor("192.0.2.2", ""))
    world.passed += SHORT_S
    world.enter("anna", GOOD)
    braked = [one for one in world.catalogue.journal.entries() if one.event == "logins-braked"]
    assert [one.details for one in braked] == [{"name": "", "address": "192.0.2.1"}]


def test_many_addresses_can_not_guess_one_name_together(world: World) -> None:
    def bot(number: int) -> Visitor:
        return Visitor(f"198.51.100.{number}", "")

    for number in range(SHORT_TRIES):
        assert world.refusal("anna", WRONG, bot(number)) == "login-refused"
    assert world.refusal("anna", GOOD, bot(99)) == "too-many-tries"
    assert world.refusal("nobody", GOOD, bot(99)) == "login-refused"
    tries = SHORT_TRIES
    while tries < DAY_TRIES:
        world.passed += SHORT_S
        for number in range(min(SHORT_TRIES, DAY_TRIES - tries)):
            assert world.refusal("anna", WRONG, bot(number)) == "login-refused"
            tries += 1
    world.passed += SHORT_S
    assert world.refusal("anna", GOOD, bot(0)) == "too-many-tries-today"
    world.entrance.brake.release("anna")
    world.enter("anna", GOOD, bot(0))
    world.passed += DAY_S
    world.enter("anna", GOOD, bot(1))


def test_codes_are_braked_like_passwords(world: World) -> None:
    """Two tickets with three codes each, and two more: eight tries."""
    for _ in range(2):
        ticket = world.ask("bert", GOOD)
        for _ in range(CODES):
            assert world.refused_code(ticket, "000000x").code == "code-refused"
    ticket = world.ask("bert", GOOD)
    assert world.refused_code(ticket, "000000x").code == "code-refused"
    assert world.refused_code(ticket, "000000x").code == "code-refused"
    assert world.refused_code(ticket, world.code()).code == "too-many-tries"
    assert world.refusal("bert", GOOD) == "too-many-tries"
    assert "logins-braked" in world.events()


def test_a_login_begun_and_never_ended_counts_whether_the_password_was_right(world: World) -> None:
    for password in (GOOD, WRONG):
        world.passed += SHORT_S
        for _ in range(SHORT_TRIES):
            world.ask("bert", password)
        assert world.refusal("bert", password) == "too-many-tries"


def test_a_browser_that_was_here_is_not_locked_out_by_others(world: World) -> None:
    mark = world.enter("anna", GOOD).mark
    known = Visitor("192.0.2.1", mark)
    for number in range(SHORT_TRIES):
        world.refusal("anna", WRONG, Visitor(f"198.51.100.{number}", ""))
        world.refusal("nobody", WRONG, HOME)
    assert world.refusal("anna", GOOD, HOME) == "too-many-tries"
    assert world.enter("anna", GOOD, known).mark == ""
    forged = Visitor("203.0.113.1", mark[:-1] + ("0" if mark[-1] != "0" else "1"))
    assert world.refusal("anna", GOOD, forged) == "too-many-tries"
    for _ in range(SHORT_TRIES):
        assert world.refusal("anna", WRONG, known) == "login-refused"
    assert world.refusal("anna", GOOD, known) == "too-many-tries"
    world.refusal("bert2", WRONG, Visitor("203.0.113.2", mark))  # a mark is for one name
    again = Entrance(world.catalogue, lambda: world.passed, world.wall)
    assert isinstance(again.begin("anna", GOOD, known), Entered)


def test_good_logins_are_not_counted(world: World) -> None:
    for _ in range(3 * SHORT_TRIES):
        world.enter("anna", GOOD)
        world.passed += 30
        ticket = world.ask("bert", GOOD)
        world.refused_code(ticket, "000000x")
        world.entrance.prove(ticket, world.code(), HOME)


def test_the_own_password_can_not_be_guessed_in_an_open_browser(world: World) -> None:
    world.entrance.require_own_password("anna", GOOD, HOME)
    codes = set()
    for _ in range(SHORT_TRIES + 1):
        with pytest.raises(NotfallError) as caught:
            world.entrance.require_own_password("anna", WRONG, HOME)
        codes.add(caught.value.code)
    assert codes == {"wrong-password", "too-many-tries"}


def test_a_household_of_ipv6_is_one_address_and_invented_names_do_not_fill_the_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    passed = [0.0]
    brake = Brake(lambda: passed[0])
    for number in range(SHORT_TRIES):
        brake.charge(f"x{number}", Visitor(f"2001:db9::{number + 1}", ""), b"k")
    with pytest.raises(NotfallError):
        brake.charge("y", Visitor("2001:db9::ffff", ""), b"k")
    brake.charge("y", Visitor("2001:db9:0:1::1", ""), b"k")
    for host in range(1, 2 * SHORT_TRIES):  # neighbours on the wire are one by one
        brake.charge(f"z{host}", Visitor(f"fe80::{host}%eth0", ""), b"k")
    passed[0] += DAY_S
    monkeypatch.setattr(brake_module, "NAME_BUCKETS", 4)
    for number in range(40):
        passed[0] += SHORT_S
        brake.charge(f"name {number}", Visitor("192.0.2.1", ""), b"k")
    assert len(brake._tries) <= 5
