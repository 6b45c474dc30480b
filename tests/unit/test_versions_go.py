"""Versions are removed, given up, deleted by hand: by the real conductor, on versions of paper."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from notfall_lab.dryrun.house import DryHouse, dry_house
from notfallserver.server.cycle.retention.deletions import DELETIONS
from notfallserver.server.cycle.retention.in_use import Use, stamps_in
from notfallserver.server.cycle.retention.keeper import HAND, Retention
from notfallserver.server.cycle.retention.removal import Removals
from notfallserver.server.host import files as host_files
from notfallserver.server.host.files import replace_json
from notfallserver.server.pool import layout
from notfallserver.server.pool.pins import Pin
from notfallserver.server.pool.proof import Evidence
from notfallserver.server.pool.store import PrimaryStore
from notfallserver.server.records.jobs import Job
from notfallserver.server.records.journal import Entry
from notfallserver.server.records.people import Role
from notfallserver.server.records.primaries import Primary
from notfallserver.wire.errors import NotfallError

DAY = 4 * 24
"""Ages are in quarters of an hour."""
AGES = [number * DAY + 2 for number in range(40, -1, -1)]
FEW = {"all_hours": 0, "hourly": 0, "daily": 3, "weekly": 0, "monthly": 0, "yearly": 0}
ONE_DAY = {**FEW, "daily": 1, "floor_days": 1, "proven": 1}


class Scene:
    """A house with one server that has a version of each of the last forty days."""

    def __init__(self, dry: DryHouse) -> None:
        self.dry = dry
        self.catalogue = dry.house.catalogue
        self.keeper: Retention = dry.conductor.retention
        self.uuid = dry.add("shop", "shop", AGES)

    @property
    def row(self) -> Primary:
        return self.catalogue.primaries.find(self.uuid)

    @property
    def store(self) -> PrimaryStore:
        return self.dry.means.pool.primary(self.uuid)

    @property
    def stamps(self) -> list[str]:
        """Newest first."""
        return [one.stamp for one in self.store.versions()]

    def rules(self, **wish: int) -> None:
        self.keeper.set_rules(self.row, wish, (), True, "anna")

    def run(self) -> Job:
        return self.wait(self.keeper.run("anna"))

    def wait(self, job: Job) -> Job:
        done = self.dry.house.runner.wait(job.id, 30)
        assert done.state == "done", done
        return done

    def look(self) -> None:
        """As the duties do, a while later; until what it began is over."""
        self.keeper._looked = datetime.now(UTC) - timedelta(minutes=5)
        self.keeper.look(self.catalogue.primaries.all())
        for job in self.catalogue.jobs.unfinished(kind="retain"):
            self.wait(job)

    def journal(self, event: str) -> list[Entry]:
        return [one for one in self.catalogue.journal.entries(self.uuid, 500) if one.event == event]

    def make_due(self, *stamps: str) -> None:
        known = self.row.notes[DELETIONS]
        past = (datetime.now(UTC) - timedelta(minutes=1)).isoformat()
        told = {
            stamp: {**one, "due": past} if stamp in stamps else one for stamp, one in known.items()
        }
        self.catalogue.primaries.note(self.uuid, **{DELETIONS: told})

    def refused(self, stamp: str) -> str:
        with pytest.raises(NotfallError) as refused:
            self.keeper.delete(self.row, stamp, "anna")
        return refused.value.code


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    with dry_house(tmp_path / "house", 20) as dry:
        try:
            yield Scene(dry)
        finally:
            dry.world.ended.set()
            dry.house.runner.stop()


# -- rules ---------------------------------------------------------------------------------------


def test_what_is_previewed_goes_and_is_journalled(scene: Scene) -> None:
    before = scene.stamps
    seen = scene.keeper.preview(scene.row, {**FEW, "daily": 10}, each=True)
    assert len(seen.view.plan.going) == 31 and seen.frees > 0
    assert set(seen.alone) == set(before) and scene.stamps == before
    assert sum(seen.alone[stamp] for stamp in seen.view.plan.going) == seen.frees
    scene.rules(**FEW, floor_days=1)
    assert scene.journal("retention-changed")[0].details["rules"]["daily"] == 3
    expected = list(scene.keeper.view(scene.row).plan.kept)
    result = scene.run().result
    assert scene.stamps == expected[::-1] and len(expected) < 7
    gone = scene.journal("version-removed")
    assert {one.details["version"] for one in gone} == set(before) - set(expected)
    assert result["removed"] == len(gone)
    assert result["bytes_freed"] == sum(one.details["freed"] for one in gone) > 0
    assert not list(scene.store.paths.versions.glob("*.discarded"))
    assert scene.run().result["removed"] == 0


def test_the_server_does_it_by_itself_and_only_when_there_is_something(scene: Scene) -> None:
    scene.look()  # by the usual rules 48 hours with a version are 48 days here
    assert scene.catalogue.jobs.newest(kind="retain") == []
    scene.catalogue.preferences.set({"keep_hourly": 5}, "anna")
    scene.look()
    assert scene.catalogue.jobs.newest(kind="retain") == []  # it is looked at once an hour
    scene.keeper._applied.clear()
    scene.look()
    assert scene.journal("version-removed") and len(scene.catalogue.jobs.newest(kind="retain")) == 1
    scene.look()
    assert len(scene.catalogue.jobs.newest(kind="retain")) == 1
    scene.rules(**FEW)  # its own act at once
    scene.look()
    assert len(scene.catalogue.jobs.newest(kind="retain")) == 2


@pytest.mark.parametrize("state", ["outage", "emergency", "recovering", "rehearsing"])
def test_while_it_is_not_normal_nothing_goes_by_rules(scene: Scene, state: str) -> None:
    scene.rules(**FEW)
    scene.catalogue.primaries.move(scene.uuid, "normal", state, "test", "test")
    before = scene.stamps
    scene.run()
    scene.look()
    assert scene.stamps == before


def test_one_whose_record_can_not_be_read_keeps_all_and_holds_up_nobody(scene: Scene) -> None:
    other = scene.dry.add("erp", "shop", AGES)
    scene.store.paths.pins.write_text("{")
    before = scene.stamps
    scene.catalogue.preferences.set({"keep_hourly": 5}, "anna")
    scene.run()
    assert scene.stamps == before
    assert len(scene.dry.means.pool.primary(other).versions()) < len(AGES)


# -- what is in use ------------------------------------------------------------------------------


def uses(scene: Scene) -> dict[str, set[Use]]:
    return dict(scene.keeper.view(scene.row).uses)


def test_stamps_are_found_wherever_they_stand() -> None:
    one, two, three = (f"2026112{day}T101500.000Z" for day in (1, 2, 3))
    told: Any = {"a": [{"b": f"/pool/versions/{one}/disk0.raw"}], two: None, "c": (three, 7)}
    assert set(stamps_in(told)) == {one, two, three}


def test_everything_that_uses_a_version_holds_it(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    stamps, paths, jobs = scene.stamps, scene.store.paths, scene.catalogue.jobs
    (paths.root / "standin").mkdir()
    told = {"version": stamps[5], "newest": stamps[4]}
    replace_json(paths.standin / layout.STANDIN, told)
    paths.incoming.mkdir()
    replace_json(paths.incoming / layout.RUN, {"base": stamps[6]})
    (paths.reshaped / stamps[7]).mkdir(parents=True)
    note = scene.catalogue.primaries.note
    note(scene.uuid, start_of=stamps[8], recovery={"closeness": {"version": stamps[9]}})
    note(scene.uuid, trial={"since": "", "until": "", "version": stamps[10]})
    desk = scene.dry.means.desk
    desk.give("t1", {"order": "pull", "version": stamps[11]}, scene.uuid)
    desk.poll("t1", {"state": "pulling", "version": stamps[12]}, wait=0)
    jobs.add("seed_export", scene.uuid, {"version": stamps[13]}, "anna")
    whole, _ = jobs.add("of_the_future", None, {}, "anna")
    jobs.note(whole.id, {"sets": {"shop": [stamps[14]]}})
    over, _ = jobs.add("scrub", scene.uuid, {"version": stamps[15]}, "anna")
    jobs.finish(over.id, "done")
    files = scene.dry.conductor._files
    with files._showing(Path("/mnt/look"), scene.uuid, stamps[16]):
        found = uses(scene)
    assert found == {
        stamps[0]: {Use.STANDIN},  # its captures follow on it
        stamps[4]: {Use.STANDIN},
        stamps[5]: {Use.STANDIN},
        stamps[6]: {Use.RUN},
        stamps[7]: {Use.TARGET},
        **{stamps[at]: {Use.WISH} for at in (8, 9, 10)},
        **{stamps[at]: {Use.TARGET} for at in (11, 12)},
        **{stamps[at]: {Use.JOB} for at in (13, 14)},
        stamps[16]: {Use.FILES},
    }
    scene.rules(**ONE_DAY)
    scene.run()
    assert {stamp for stamp in found if found[stamp] != {Use.FILES}} <= set(scene.stamps)
    assert stamps[16] not in scene.stamps and stamps[15] not in scene.stamps


def test_a_job_that_takes_a_prepared_image_holds_all_that_have_one(scene: Scene) -> None:
    old = scene.stamps[20]
    (scene.store.paths.prepared / old).mkdir(parents=True)
    assert old not in uses(scene)
    job, _ = scene.catalogue.jobs.add("rehearse", scene.uuid, {}, "anna")
    assert uses(scene)[old] == {Use.JOB}
    scene.catalogue.jobs.finish(job.id, "done")
    scene.rules(**ONE_DAY)
    scene.run()
    assert old not in scene.stamps
    assert not (scene.store.paths.prepared / old).exists()  # it goes with its version


def test_a_version_that_is_begun_to_be_used_meanwhile_stays(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While it is measured what the first one frees, a person has the second one's files shown."""
    scene.rules(**ONE_DAY)
    first, second = scene.keeper.view(scene.row).plan.going[:2]
    measure = scene.keeper._accounts.alone

    def use(sets: Any, check: Any = lambda: None) -> dict[str, int]:
        if first in sets:
            scene.catalogue.jobs.add("seed_export", scene.uuid, {"version": second}, "anna")
        return measure(sets, check)

    monkeypatch.setattr(scene.keeper._accounts, "alone", use)
    scene.run()
    assert second in scene.stamps and first not in scene.stamps


# -- crashes -------------------------------------------------------------------------------------


def test_a_kill_between_removal_and_journal_is_told_after_it(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.rules(**ONE_DAY)
    stamp = scene.keeper.view(scene.row).plan.going[0]
    job, _ = scene.catalogue.jobs.add("retain", None, {}, "anna")
    left = {"primary": scene.uuid, "stamp": stamp, "because": "version-removed", "who": "server"}
    removing = {**left, "why": "", "confirmed_by": "", "freed": 4711}
    scene.catalogue.jobs.note(job.id, {"removing": removing})
    host_files.doom_tree(scene.store.paths.versions / stamp)
    scene.dry.house.runner.resume_unfinished()
    done = scene.wait(job)
    (told,) = [one for one in scene.journal("version-removed") if one.details["version"] == stamp]
    assert told.details["freed"] == 4711 and done.result["bytes_freed"] >= 4711
    scene.store.sweep()
    assert not list(scene.store.paths.versions.glob("*.discarded"))


def test_a_kill_before_the_removal_removes_it_once(scene: Scene) -> None:
    scene.rules(**ONE_DAY)
    stamp = scene.keeper.view(scene.row).plan.going[0]
    job, _ = scene.catalogue.jobs.add("retain", None, {}, "anna")
    left = {"primary": scene.uuid, "stamp": stamp, "because": "version-removed", "who": "server"}
    removing = {**left, "why": "", "confirmed_by": "", "freed": 4711}
    scene.catalogue.jobs.note(job.id, {"removing": removing})
    scene.dry.house.runner.resume_unfinished()
    scene.wait(job)
    told = [one.details for one in scene.journal("version-removed")]
    assert [one["freed"] for one in told if one["version"] == stamp] != [4711]
    assert len(told) == len({one["version"] for one in told})


# -- room ----------------------------------------------------------------------------------------


def fill(scene: Scene, monkeypatch: pytest.MonkeyPatch, sizes: dict[str, int], free: int) -> None:
    """Each version of a primary alone occupies as much as ``sizes`` says; of 1000 bytes ``free``
    are."""
    before = {uuid: len(scene.dry.means.pool.primary(uuid).versions()) for uuid in sizes}

    def measure(sets: Any, check: Any = lambda: None) -> dict[str, int]:
        found = {}
        for name, files in sets.items():
            whose = {uuid for uuid in sizes for path in files if uuid in path.parts}
            count = len({path.parent.name for path in files})
            found[name] = sum(sizes[uuid] * count for uuid in whose)
        return found

    def room() -> tuple[int, int]:
        gone = {
            uuid: before[uuid] - len(scene.dry.means.pool.primary(uuid).versions())
            for uuid in sizes
        }
        return free + sum(sizes[uuid] * gone[uuid] for uuid in sizes), 1000

    monkeypatch.setattr(scene.keeper._accounts, "alone", measure)
    monkeypatch.setattr(scene.dry.means.pool, "free", room)


def test_when_the_pool_is_nearly_full_who_fills_it_pays(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = scene.dry.add("erp", "shop", AGES)
    for uuid in (scene.uuid, small):  # no rule removes anything
        row = scene.catalogue.primaries.find(uuid)
        scene.keeper.set_rules(row, {"daily": 1000}, (), True, "anna")
    fill(scene, monkeypatch, {scene.uuid: 5, small: 1}, free=40)
    before = scene.stamps
    scene.look()
    assert scene.stamps == before[:-4]  # 5 % and a margin of 1 % are 60
    assert len(scene.dry.means.pool.primary(small).versions()) == len(AGES)
    told = scene.journal("version-given-up")
    assert [one.details["version"] for one in told] == before[:-5:-1][::-1] or len(told) == 4
    assert all(one.details["freed"] == 5 for one in told)
    scene.look()
    assert len(scene.journal("version-given-up")) == 4


def test_a_pool_that_stays_full_keeps_what_must_stay(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where somebody fills it on purpose; and also in an outage."""
    scene.rules(daily=1000)
    pinned, proven, used = scene.stamps[30], scene.stamps[20], scene.stamps[25]
    scene.store.pins.pin(pinned, "alarm", Pin("the last clean one", "server", "2026-11-01T00:00Z"))
    scene.store.proofs.keep(proven, Evidence(rehearsal="r", started=True, ports=(22,)))
    scene.catalogue.primaries.note(scene.uuid, start_of=used)
    scene.catalogue.primaries.move(scene.uuid, "normal", "outage", "test", "test")
    fill(scene, monkeypatch, {scene.uuid: 0}, free=1)
    expected = [*scene.stamps[:7], proven, used, pinned]
    assert scene.run().result["stuck"] and scene.stamps[:7] == expected[:7]
    assert len(scene.stamps) == len(AGES)  # nothing is free by what frees nothing
    fill(scene, monkeypatch, {scene.uuid: 1}, free=1)
    result = scene.run().result
    assert result["stuck"] and result["given_up"] == len(AGES) - len(expected)
    assert scene.stamps == expected
    count = len(scene.catalogue.jobs.newest(kind="retain"))
    scene.look()
    assert len(scene.catalogue.jobs.newest(kind="retain")) == count  # not again at once


def broken_run(scene: Scene) -> Path:
    """What a run has brought that the full pool ended."""
    incoming = scene.store.paths.incoming
    incoming.mkdir()
    replace_json(incoming / layout.RUN, {"base": scene.stamps[0], "run": "r"})
    (incoming / "disk0.raw").write_bytes(b"half of it")
    return incoming


def test_what_a_broken_run_has_brought_goes_last_and_only_if_nobody_works_with_it(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.rules(daily=1000)
    incoming = broken_run(scene)
    fill(scene, monkeypatch, {scene.uuid: 5}, free=1)
    assert "stuck" not in scene.run().result and incoming.exists()  # versions gave the room
    monkeypatch.undo()
    fill(scene, monkeypatch, {scene.uuid: 0}, free=1)  # they give none any more
    assert scene.run().result["stuck"] and incoming.exists()  # nor does the run
    monkeypatch.undo()
    fill(scene, monkeypatch, {scene.uuid: 60}, free=1)
    monkeypatch.setattr(Removals, "_next_spare", lambda *_: None)
    begun = scene.catalogue.jobs.add("replicate", scene.uuid, {}, "anna")[0]
    assert scene.run().result["stuck"] and incoming.exists()  # it goes on
    scene.catalogue.jobs.finish(begun.id, "failed")
    count = len(scene.stamps)
    assert "stuck" not in scene.run().result and not incoming.exists()
    assert len(scene.stamps) == count
    (told,) = scene.journal("run-given-up")
    assert told.details == {"freed": 60}


def test_what_is_only_set_aside_lets_no_version_go(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.rules(daily=1000)
    fill(scene, monkeypatch, {scene.uuid: 5}, free=1)
    monkeypatch.setattr(scene.dry.means.pool, "true_free", lambda: (500, 1000))
    before = len(scene.catalogue.jobs.newest(kind="retain"))
    scene.look()
    assert len(scene.catalogue.jobs.newest(kind="retain")) == before
    assert scene.run().result["given_up"] == 0 and len(scene.stamps) == len(AGES)


def test_room_is_not_made_where_that_is_not_wanted(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.rules(daily=1000)
    scene.catalogue.preferences.set({"make_room_percent": 0}, "anna")
    fill(scene, monkeypatch, {scene.uuid: 5}, free=1)
    scene.look()
    assert "stuck" not in scene.run().result and len(scene.stamps) == len(AGES)


# -- by hand -------------------------------------------------------------------------------------


def test_a_deletion_waits_and_can_be_taken_back(scene: Scene) -> None:
    scene.rules(daily=1000)
    one, two = scene.stamps[10], scene.stamps[11]
    made = scene.keeper.delete(scene.row, one, "anna", "private data")
    assert made.due_at - datetime.fromisoformat(made.at) == timedelta(hours=72)
    assert scene.keeper.delete(scene.row, one, "bert") == made
    scene.keeper.delete(scene.row, two, "anna")
    scene.run()
    assert {one, two} <= set(scene.stamps)
    scene.keeper.take_back(scene.row, two, "bert")
    scene.make_due(one)
    scene.look()
    assert one not in scene.stamps and two in scene.stamps
    (told,) = scene.journal("version-deleted")
    assert (told.who, told.why, told.details["version"]) == ("anna", "private data", one)
    assert len(scene.journal("deletion-ordered")) == 2
    assert scene.journal("deletion-taken-back")[0].who == "bert"
    assert scene.row.notes.get(DELETIONS) is None
    with pytest.raises(NotfallError, match="ordered"):
        scene.keeper.take_back(scene.row, one, "bert")


def test_what_nobody_can_delete(scene: Scene) -> None:
    newest, proven, pinned = scene.stamps[0], scene.stamps[20], scene.stamps[30]
    scene.store.paths.proofs.unlink(missing_ok=True)
    scene.store.proofs.keep(proven, Evidence(rehearsal="r", started=True, ports=(22,)))
    scene.keeper.pin(scene.row, pinned, "before the upgrade", "anna")
    assert {scene.refused(one) for one in (newest, proven, pinned)} == {"version-must-stay"}
    assert scene.refused("20200101T000000.000Z") == "unknown-version"
    scene.keeper.unpin(scene.row, pinned, HAND, "anna")
    scene.keeper.delete(scene.row, pinned, "anna")
    with pytest.raises(NotfallError):
        scene.keeper.pin(scene.row, scene.stamps[3], " ", "anna")


def test_an_order_that_is_due_waits_for_what_holds_it(scene: Scene) -> None:
    scene.rules(daily=1000)
    stamp = scene.stamps[10]
    scene.keeper.delete(scene.row, stamp, "anna")
    scene.make_due(stamp)
    scene.store.pins.pin(stamp, "alarm", Pin("clean", "server", "2026-11-01T00:00Z"))
    scene.look()
    assert stamp in scene.stamps and stamp in scene.row.notes[DELETIONS]
    assert scene.catalogue.jobs.newest(kind="retain") == []  # there is nothing to do yet
    scene.store.pins.unpin(stamp, "alarm")
    scene.look()
    assert stamp not in scene.stamps


def test_where_there_are_two_administrators_another_one_confirms(scene: Scene) -> None:
    scene.rules(daily=1000)
    people = scene.catalogue.people
    people.add("bert", "four words in a row", Role.ADMINISTRATOR, "root")
    one, two, three = scene.stamps[10:13]
    for stamp in (one, two, three):
        assert scene.keeper.delete(scene.row, stamp, "admin").awaits(2)
    for who in ("admin", "Admin"):
        with pytest.raises(NotfallError) as refused:
            scene.keeper.confirm(scene.row, one, who)
        assert refused.value.code == "same-person"
    assert not scene.keeper.confirm(scene.row, one, "bert").awaits(2)
    scene.make_due(one, two)
    people.remove("bert", "admin")  # the other one is put out of the way: that does not help
    scene.look()
    assert one not in scene.stamps and {two, three} <= set(scene.stamps)
    assert set(scene.row.notes[DELETIONS]) == {three}
    assert scene.journal("deletion-lapsed")[0].details["version"] == two
    assert scene.journal("version-deleted")[0].details["confirmed_by"] == "bert"


def test_one_that_came_later_is_asked_as_well(scene: Scene) -> None:
    scene.rules(daily=1000)
    stamp = scene.stamps[10]
    assert not scene.keeper.delete(scene.row, stamp, "admin").awaits(1)
    scene.catalogue.people.add("bert", "four words in a row", Role.ADMINISTRATOR, "root")
    scene.make_due(stamp)
    scene.look()
    assert stamp in scene.stamps and scene.journal("deletion-lapsed")


def test_orders_survive_a_restart_and_a_lost_catalogue_deletes_nothing(scene: Scene) -> None:
    scene.keeper.delete(scene.row, scene.stamps[10], "admin")
    conductor = scene.dry.conductor
    again = Retention(
        scene.dry.means, scene.dry.house.runner, conductor._hands, conductor.shelf, conductor._files
    )
    assert set(again.view(scene.row).deletions) == {scene.stamps[10]}
    assert not any("deletion" in path.name for path in scene.store.paths.root.iterdir())
