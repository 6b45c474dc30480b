"""Records: migrations make what the tables say; transitions, invitations and targets are safe."""

import hashlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine

from notfallserver.server.records import Catalogue, open_catalogue
from notfallserver.server.records import invites as invites_module
from notfallserver.server.records.events import Event, PrimaryChanged
from notfallserver.server.records.tables import metadata
from notfallserver.server.records.targets import MOST, pairing_code
from notfallserver.wire.errors import NotfallError
from notfallserver.wire.facts import Disk, Machine, Nic

MACHINE = Machine("web", disks=[Disk("vda", 1 << 30)], nics=[Nic("eth0", "52:54:00:00:00:01")])


@pytest.fixture
def catalogue(tmp_path: Path) -> Iterator[Catalogue]:
    opened = open_catalogue(tmp_path)
    yield opened
    opened.close()


def adopt(catalogue: Catalogue, name: str = "web", uuid: str = "u-1") -> str:
    catalogue.primaries.adopt_primary(uuid, name, MACHINE, "", "normal", 60, 15)
    return uuid


def refused(code: str, call: Callable[[], object]) -> NotfallError:
    with pytest.raises(NotfallError) as caught:
        call()
    assert caught.value.code == code
    return caught.value


def test_the_migrations_make_just_the_tables(catalogue: Catalogue, tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path}/catalogue.db")
    with engine.connect() as connection:
        differences = compare_metadata(MigrationContext.configure(connection), metadata)
    engine.dispose()
    assert differences == []
    assert (tmp_path / "catalogue.db").stat().st_mode & 0o777 == 0o600


def test_a_broken_catalogue_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "catalogue.db").write_bytes(b"no database" * 1000)
    error = refused("broken-catalogue", lambda: open_catalogue(tmp_path))
    assert "pool" in error.remedy


def test_only_one_of_two_movers_wins_and_every_move_is_journalled(catalogue: Catalogue) -> None:
    uuid = adopt(catalogue)
    results: list[str] = []
    barrier = threading.Barrier(8)

    def mover() -> None:
        barrier.wait()
        try:
            catalogue.primaries.move(uuid, "normal", "activating", "activate", "anna", "fire")
            results.append("moved")
        except NotfallError as error:
            results.append(error.code)

    threads = [threading.Thread(target=mover) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == ["moved"] + ["state-changed"] * 7
    moves = [one for one in catalogue.journal.entries(uuid) if one.event == "activate"]
    assert [(one.from_state, one.to_state, one.who, one.why) for one in moves] == [
        ("normal", "activating", "anna", "fire")
    ]


def test_what_was_written_is_there_after_reopening(tmp_path: Path) -> None:
    first = open_catalogue(tmp_path)
    uuid = adopt(first)
    first.primaries.saw_agent(uuid, "boot", "primary", "0.1", MACHINE)
    first.primaries.note(uuid, domain="x", other=1)
    first.primaries.note(uuid, other=None)
    before = first.primaries.find("WEB")
    first.close()
    second = open_catalogue(tmp_path)
    assert second.primaries.find(uuid) == before
    assert before.notes == {"domain": "x"}
    assert before.machine == MACHINE
    assert before.last_seen is not None and before.last_seen.tzinfo is not None
    second.close()


def test_adopting_again_changes_nothing(catalogue: Catalogue) -> None:
    uuid = adopt(catalogue)
    catalogue.primaries.set_schedule(uuid, 5, None, "anna")
    adopt(catalogue)
    assert catalogue.primaries.find(uuid).schedule_minutes == 5
    refused("name-in-use", lambda: adopt(catalogue, "WEB", "u-2"))


def test_an_invitation_is_good_once_for_one_of_many(catalogue: Catalogue) -> None:
    token = catalogue.invites.invite("web", "anna").token
    results: list[str] = []
    barrier = threading.Barrier(6)

    def enrol() -> None:
        barrier.wait()
        try:
            catalogue.invites.enrol(token, MACHINE, 60, 15, lambda uuid: f"serial-{uuid}")
            results.append("enrolled")
        except NotfallError as error:
            results.append(error.code)

    threads = [threading.Thread(target=enrol) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == ["enrolled"] + ["invite-refused"] * 5
    assert len(catalogue.primaries.all()) == 1


def test_a_failed_enrolment_leaves_the_invitation_usable(catalogue: Catalogue) -> None:
    token = catalogue.invites.invite("web", "anna").token

    def broken(uuid: str) -> str:
        raise RuntimeError("no certificate")

    with pytest.raises(RuntimeError):
        catalogue.invites.enrol(token, MACHINE, 60, 15, broken)
    assert catalogue.primaries.all() == []
    catalogue.invites.enrol(token, MACHINE, 60, 15, lambda uuid: "s1")


def test_wrong_and_expired_invitations_are_refused(
    catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    def enrol(token: str) -> object:
        return catalogue.invites.enrol(token, MACHINE, 60, 15, lambda uuid: "s")

    refused("invite-refused", lambda: enrol("0" * 32))
    monkeypatch.setattr(invites_module, "LIFETIME", -invites_module.LIFETIME)
    old = catalogue.invites.invite("web", "anna").token
    assert "expired" in refused("invite-refused", lambda: enrol(old)).cause
    assert catalogue.primaries.all() == []


def test_inviting_again_keeps_the_primary_and_revokes_its_certificate(catalogue: Catalogue) -> None:
    first = catalogue.invites.enrol(
        catalogue.invites.invite("web", "anna").token, MACHINE, 60, 15, lambda uuid: "s1"
    )
    refused("name-in-use", lambda: catalogue.invites.invite("Web", "anna"))
    assert catalogue.invites.is_trusted("s1", first.uuid)
    again = catalogue.invites.invite("web", "anna", again=True).token
    second = catalogue.invites.enrol(again, MACHINE, 60, 15, lambda uuid: "s2")
    assert second.uuid == first.uuid
    assert not catalogue.invites.is_trusted("s1", first.uuid)
    assert catalogue.invites.is_trusted("s2", first.uuid)
    assert not catalogue.invites.is_trusted("s2", "another")
    catalogue.primaries.remove(first.uuid, "anna")
    assert not catalogue.invites.is_trusted("s2", first.uuid)


def test_a_lost_catalogue_does_not_lock_agents_out(catalogue: Catalogue) -> None:
    uuid = adopt(catalogue)
    assert catalogue.invites.is_trusted("serial from before", uuid)


def secret_of(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()


def test_a_target_is_found_by_secret_and_by_code(catalogue: Catalogue) -> None:
    secret = secret_of(1)
    target = catalogue.targets.register(secret, MACHINE, pairing_code(secret))
    assert catalogue.targets.register(secret, MACHINE, pairing_code(secret)).id == target.id
    code = pairing_code(secret)
    assert catalogue.targets.by_code(f" {code[:4].lower()}-{code[4:]}").id == target.id
    assert catalogue.targets.by_secret(secret).id == target.id
    refused("no-such-target", lambda: catalogue.targets.by_code("AAAAAAAA"))
    refused("bad-code", lambda: catalogue.targets.register(secret_of(2), MACHINE, code))
    refused("bad-secret", lambda: catalogue.targets.register("x", MACHINE, code))


def test_a_paired_target_belongs_to_one_recovery(catalogue: Catalogue) -> None:
    secret = secret_of(1)
    target = catalogue.targets.register(secret, MACHINE, pairing_code(secret))
    catalogue.targets.pair(target.id, "r1")
    catalogue.targets.pair(target.id, "r1")
    refused("target-in-use", lambda: catalogue.targets.pair(target.id, "r2"))
    catalogue.targets.release(target.id)
    catalogue.targets.pair(target.id, "r2")


def test_a_flood_of_targets_is_bounded_and_spares_paired_ones(catalogue: Catalogue) -> None:
    paired = catalogue.targets.register(secret_of(0), MACHINE, pairing_code(secret_of(0)))
    catalogue.targets.pair(paired.id, "r1")
    for number in range(1, MOST + 10):
        secret = secret_of(number)
        catalogue.targets.register(secret, MACHINE, pairing_code(secret))
    kept = catalogue.targets.all()
    assert len(kept) == MOST + 1
    assert paired.id in {one.id for one in kept}
    assert catalogue.targets.by_secret(secret_of(MOST + 9))


def test_what_is_said_often_need_not_be_synced_and_all_else_is(catalogue: Catalogue) -> None:
    database = catalogue.jobs._database
    for lasting, expected in ((False, 1), (True, 2), (False, 1)):
        with database.writing(lasting) as connection:
            assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == expected


def test_events_come_after_the_change_and_a_failing_listener_hurts_nobody(
    catalogue: Catalogue,
) -> None:
    uuid = adopt(catalogue)
    seen: list[tuple[Event, int]] = []

    def failing(event: Event) -> None:
        raise RuntimeError

    def hear(event: Event) -> None:
        seen.append((event, catalogue.primaries.find(uuid).schedule_minutes))

    with catalogue.events.listening(failing), catalogue.events.listening(hear):
        catalogue.primaries.set_schedule(uuid, 7, None, "anna")
    catalogue.primaries.set_schedule(uuid, 8, None, "anna")
    assert seen == [(PrimaryChanged(uuid), 7)]
