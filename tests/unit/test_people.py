"""People, their sessions and second factors: records, and a database from before there were any."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path

import pyotp
import pytest
from alembic import command
from alembic.config import Config
from argon2 import PasswordHasher, extract_parameters
from argon2.exceptions import VerifyMismatchError
from sqlalchemy import create_engine

from notfallserver.server.records import Catalogue, open_catalogue
from notfallserver.server.records import sessions as sessions_module
from notfallserver.server.records.database import MIGRATIONS
from notfallserver.server.records.events import Event, SessionsEnded
from notfallserver.server.records.passwords import (
    fits,
    hash_password,
    make_password,
    nobodys_hash,
)
from notfallserver.server.records.people import Member, Role, Somebody, hash_token
from notfallserver.server.records.second_factor import CODES, STEP_S
from notfallserver.wire.errors import NotfallError

GOOD = "four words in a row"
NOW = 1_796_000_000.0


@pytest.fixture
def catalogue(tmp_path: Path) -> Iterator[Catalogue]:
    opened = open_catalogue(tmp_path)
    opened.people.add("anna", GOOD, Role.ADMINISTRATOR, "root")
    yield opened
    opened.close()


def refused(code: str, call: Callable[[], object]) -> None:
    with pytest.raises(NotfallError) as caught:
        call()
    assert caught.value.code == code


def turn_on(catalogue: Catalogue, name: str) -> tuple[pyotp.TOTP, list[str]]:
    """A second factor whose first code is used up at ``NOW``."""
    shown = pyotp.TOTP(catalogue.second_factor.offer(name))
    return shown, catalogue.second_factor.switch_on(name, shown.at(int(NOW)), NOW)


def test_what_is_no_good_password_and_no_good_name(catalogue: Catalogue) -> None:
    add = catalogue.people.add
    for password, code in {
        "elevenchars": "password-short",
        "aaaaaaaaaaaaaaaa": "password-simple",
        "bertold-bertold": "password-simple",
    }.items():
        refused(code, partial(add, "Bertold", password, Role.VIEWER, "anna"))
    for name in ("root", "Server", "", " anna", "a/b", "../x", "x" * 64, "-"):
        refused("bad-person-name", partial(add, name, GOOD, Role.VIEWER, "anna"))
    refused("person-exists", lambda: add("ANNA", GOOD, Role.VIEWER, "anna"))
    for name in ("Jörg Müller", "x", "a.b@c.example"):
        add(name, make_password(), Role.VIEWER, "anna")


def test_an_umlaut_is_the_same_on_every_keyboard(catalogue: Catalogue) -> None:
    catalogue.people.set_password("anna", "gru\u0308ne Wiese hinten", "root")
    assert catalogue.people.knows("anna", "gr\u00fcne Wiese hinten")
    assert not catalogue.people.knows("anna", "grune Wiese hinten")
    assert not catalogue.people.knows("nobody", GOOD)


def test_the_last_administrator_stays(catalogue: Catalogue) -> None:
    people = catalogue.people
    refused("last-administrator", lambda: people.remove("anna", "anna"))
    refused("last-administrator", lambda: people.set_role("anna", Role.VIEWER, "anna"))
    people.add("bert", GOOD, Role.OPERATOR, "anna")
    people.set_role("bert", Role.ADMINISTRATOR, "anna")
    people.set_role("anna", Role.VIEWER, "anna")
    refused("last-administrator", lambda: people.remove("bert", "root"))
    people.remove("anna", "bert")
    assert people.all() == [Member("bert", Role.ADMINISTRATOR, False, 0)]
    refused("no-such-person", lambda: people.remove("anna", "bert"))


@pytest.mark.parametrize(
    "change",
    [
        lambda made: made.people.set_role("bert", Role.VIEWER, "anna"),
        lambda made: made.people.set_password("bert", "another " + GOOD, "anna"),
        lambda made: made.people.remove("bert", "anna"),
        lambda made: made.second_factor.switch_off("bert", "anna"),
    ],
    ids=["role", "password", "removal", "second factor"],
)
def test_who_is_changed_is_logged_out_at_once(
    catalogue: Catalogue, change: Callable[[Catalogue], None]
) -> None:
    catalogue.people.add("bert", GOOD, Role.OPERATOR, "anna")
    turn_on(catalogue, "bert")
    other = catalogue.sessions.open("anna", "")
    token = catalogue.sessions.open("bert", "")
    heard: list[Event] = []
    with catalogue.events.listening(heard.append):
        change(catalogue)
    assert heard == [SessionsEnded()]
    assert catalogue.sessions.who(token) is None
    assert catalogue.sessions.who(other) == Somebody("anna", Role.ADMINISTRATOR)
    entry = catalogue.journal.entries(limit=1)[0]
    assert (entry.who, entry.details["name"]) == ("anna", "bert")


def test_a_name_that_comes_again_inherits_nothing(catalogue: Catalogue) -> None:
    catalogue.people.add("bert", GOOD, Role.OPERATOR, "anna")
    _, codes = turn_on(catalogue, "bert")
    token = catalogue.sessions.open("bert", "")
    catalogue.people.remove("bert", "anna")
    catalogue.people.add("bert", GOOD, Role.VIEWER, "anna")
    assert catalogue.sessions.who(token) is None
    assert catalogue.people.find("bert") == Member("bert", Role.VIEWER, False, 0)
    assert not catalogue.second_factor.use("bert", codes[0], NOW)


def test_sessions_are_listed_and_the_others_can_be_ended(
    catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = catalogue.sessions.open("anna", "192.0.2.1")
    second = catalogue.sessions.open("anna", "192.0.2.2")
    mine, other = catalogue.sessions.of("anna", first)
    assert (mine.address, mine.mine, other.address, other.mine) == (
        *("192.0.2.1", True),
        *("192.0.2.2", False),
    )
    catalogue.sessions.saw(first)
    assert catalogue.sessions.of("anna", first)[0] == mine  # seldom written
    monkeypatch.setattr(sessions_module, "SEEN_EVERY", timedelta(0))
    catalogue.sessions.saw(first)
    seen = catalogue.sessions.of("anna", first)[0].seen_at
    assert seen and mine.seen_at and seen > mine.seen_at
    catalogue.sessions.end_others("anna", first)
    assert catalogue.sessions.who(second) is None
    assert catalogue.sessions.who(first) == Somebody("anna", Role.ADMINISTRATOR)
    catalogue.sessions.end(first)
    assert catalogue.sessions.who(first) is None


def test_a_session_ends_after_its_time(
    catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions_module, "LIFETIME", timedelta(seconds=-1))
    assert catalogue.sessions.who(catalogue.sessions.open("anna", "")) is None


def test_the_token_of_the_command_line(catalogue: Catalogue, tmp_path: Path) -> None:
    path = tmp_path / "cli-token"
    catalogue.sessions.keep_cli_token(path)
    kept = path.read_text().strip()
    catalogue.sessions.keep_cli_token(path)
    catalogue.rules.require_second_factor(True, "root")
    assert catalogue.sessions.who(kept) == Somebody("root", Role.ADMINISTRATOR)
    assert path.read_text().strip() == kept
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_second_factor_is_on_after_its_first_code(catalogue: Catalogue) -> None:
    secret = catalogue.second_factor.offer("anna")
    assert catalogue.second_factor.offer("anna") == secret
    refused("wrong-code", lambda: catalogue.second_factor.switch_on("anna", "000000x", NOW))
    assert not catalogue.second_factor.has("anna")
    mine, other = (catalogue.sessions.open("anna", "") for _ in range(2))
    code = pyotp.TOTP(secret).at(int(NOW))
    codes = catalogue.second_factor.switch_on("anna", f"{code[:3]} {code[3:]}", NOW, mine)
    assert len(set(codes)) == CODES
    assert catalogue.people.find("anna") == Member("anna", Role.ADMINISTRATOR, True, CODES)
    assert catalogue.sessions.who(mine) and not catalogue.sessions.who(other)
    refused("second-factor-on", lambda: catalogue.second_factor.offer("anna"))
    refused("wrong-code", lambda: catalogue.second_factor.switch_on("anna", code, NOW))


def test_a_code_is_good_once_and_only_around_its_time(catalogue: Catalogue) -> None:
    use = catalogue.second_factor.use
    shown, _ = turn_on(catalogue, "anna")
    assert not use("anna", shown.at(int(NOW)), NOW)  # used when it was switched on
    later = NOW + 10 * STEP_S
    code = shown.at(int(later))
    assert not use("anna", code, later - 2 * STEP_S)
    assert not use("anna", code, later + 2 * STEP_S)
    assert not use("anna", code, later, really=False)
    assert use("anna", code, later + STEP_S)
    assert not use("anna", code, later)
    before = shown.at(int(later) - STEP_S)
    assert not use("anna", before, later)  # older than the last that was used
    assert use("anna", shown.at(int(later) + STEP_S), later)
    assert not use("nobody", code, later)


def test_a_code_on_paper_is_good_once_however_it_is_typed(catalogue: Catalogue) -> None:
    use = catalogue.second_factor.use
    _, codes = turn_on(catalogue, "anna")
    assert not use("anna", codes[0], NOW, really=False)
    assert use("anna", f" {codes[0].upper().replace('-', ' ')}", NOW)
    assert not use("anna", codes[0], NOW)
    assert catalogue.people.find("anna").recovery_codes == CODES - 1
    again = catalogue.second_factor.renew_codes("anna")
    assert not use("anna", codes[1], NOW)
    assert use("anna", again[0], NOW)
    assert not use("bert", again[1], NOW)
    catalogue.second_factor.switch_off("anna", "anna")
    assert not use("anna", again[2], NOW)
    refused("second-factor-none", lambda: catalogue.second_factor.renew_codes("anna"))
    refused("second-factor-none", lambda: catalogue.second_factor.switch_off("anna", "anna"))


def test_no_secret_is_in_the_file_but_what_must_be(catalogue: Catalogue, tmp_path: Path) -> None:
    shown, codes = turn_on(catalogue, "anna")
    token = catalogue.sessions.open("anna", "")
    catalogue.close()
    held = b"".join(one.read_bytes() for one in tmp_path.glob("catalogue.db*"))
    assert shown.secret.encode() in held
    for secret in (GOOD, token, *codes):
        assert secret.encode() not in held


def test_the_rule_for_all_leaves_the_bare_only_one_way(catalogue: Catalogue) -> None:
    token = catalogue.sessions.open("anna", "")
    catalogue.rules.require_second_factor(True, "root")
    catalogue.rules.require_second_factor(True, "root")
    assert catalogue.sessions.who(token) == Somebody("anna", Role.ADMINISTRATOR, bare=True)
    secret = catalogue.second_factor.offer("anna")
    catalogue.second_factor.switch_on("anna", pyotp.TOTP(secret).at(int(NOW)), NOW, token)
    assert catalogue.sessions.who(token) == Somebody("anna", Role.ADMINISTRATOR)
    catalogue.rules.require_second_factor(False, "anna")
    events = [(one.event, one.who) for one in catalogue.journal.entries()]
    assert events[:1] == [("second-factor-optional", "anna")]
    assert events.count(("second-factor-required", "root")) == 1


def test_an_administrator_of_the_first_database_is_one_still(tmp_path: Path) -> None:
    path = tmp_path / "catalogue.db"
    engine = create_engine(f"sqlite:///{path}")
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
    engine.dispose()
    with sqlite3.connect(path) as old:
        old.execute("INSERT INTO administrators VALUES ('admin', ?)", (hash_password(GOOD),))
        old.execute(
            "INSERT INTO sessions VALUES (?, 'admin', '2999-01-01T00:00:00.000000+00:00')",
            (hash_token("old token"),),
        )
    old.close()
    opened = open_catalogue(tmp_path)
    assert opened.people.all() == [Member("admin", Role.ADMINISTRATOR, False, 0)]
    assert opened.people.knows("admin", GOOD)
    assert opened.sessions.who("old token") == Somebody("admin", Role.ADMINISTRATOR)
    assert opened.sessions.of("admin")[0].started_at is None
    opened.sessions.saw("old token")
    assert opened.sessions.of("admin")[0].seen_at is not None
    assert not opened.rules.second_factor_required
    opened.close()


def test_nobody_has_a_password_and_trying_one_takes_as_long() -> None:
    usual = PasswordHasher()
    nobodys = nobodys_hash(usual)
    assert extract_parameters(nobodys) == extract_parameters(usual.hash("a"))
    with pytest.raises(VerifyMismatchError):  # it was worked out, not refused for its form
        usual.verify(nobodys, "no password")
    assert not fits("no password", "") and not fits("", "")
