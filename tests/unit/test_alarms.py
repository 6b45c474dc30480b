"""An alarm in the pool: kept, held, marked, answered; what a crash leaves is made whole."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from test_pool import content, frame, manifest, replicate

from notfallserver.server.cycle.alarm import alarms as module
from notfallserver.server.cycle.alarm.alarms import NOTE, PIN, Alarms, marked
from notfallserver.server.cycle.choice import candidates_of, offers_of, taken_of
from notfallserver.server.cycle.means import Means
from notfallserver.server.cycle.runner import JobContext, JobRunner
from notfallserver.server.pool.changed import Change, changed_blocks
from notfallserver.server.pool.measures import Alarm, Answer, FileMeasures, Measures, suspects
from notfallserver.server.pool.store import Pool, PrimaryStore
from notfallserver.server.pool.version import Version, WatchedFile, read_watched
from notfallserver.server.records.primaries import Primary
from notfallserver.wire.errors import NotfallError

BAD = Measures("b", 1000, rewritten=900, rewritten_read=900, turned=900)
ROW = cast(Primary, SimpleNamespace(uuid="u", name="shop", newest_version="x"))


@pytest.fixture
def store(tmp_path: Path) -> PrimaryStore:
    return Pool(tmp_path).add_primary("6f1b4a0c-9d5e-4c1a-8f7e-0a1b2c3d4e5f", "shop")


class Scene:
    """The job with a pool of its own; ``shown`` is what a version shows, by its number."""

    def __init__(self, store: PrimaryStore, patch: pytest.MonkeyPatch) -> None:
        self.store = store
        self.shown: dict[str, Measures] = {}
        self.journal: list[tuple[Any, ...]] = []
        self.notes: dict[str, Any] = {}
        self.ordered: list[str] = []
        self.rows: list[Any] = []
        patch.setattr(
            module, "measure", lambda one, *_: self.shown.get(one.stamp, Measures("b", 9))
        )
        primaries = SimpleNamespace(
            all=lambda: self.rows,
            find=lambda _: SimpleNamespace(notes=self.notes),
            note=lambda _, **told: self.notes.update(told),
        )
        catalogue = SimpleNamespace(
            primaries=primaries,
            journal=SimpleNamespace(write=lambda *told: self.journal.append(told)),
            jobs=SimpleNamespace(unfinished=lambda *_: []),
        )
        means = SimpleNamespace(
            catalogue=catalogue,
            pool=SimpleNamespace(primary=lambda _: store),
            place=SimpleNamespace(reflink=True),
        )
        runner = SimpleNamespace(submit=lambda kind, *_, **__: self.ordered.append(kind))
        self.alarms = Alarms(cast(Means, means), cast(JobRunner, runner))
        self._number = 0

    def version(self, shows: Measures | None = None) -> Version:
        self._number += 1
        made = replicate(self.store, {self._number: content(self._number)})
        if shows is not None:
            self.shown[made.stamp] = shows
        return made

    def measure(self) -> None:
        context = SimpleNamespace(primary="u", progress=lambda *_: None)
        self.alarms.measure(cast(JobContext, context))

    @property
    def events(self) -> list[str]:
        return [one[1] for one in self.journal]


@pytest.fixture
def scene(store: PrimaryStore, monkeypatch: pytest.MonkeyPatch) -> Scene:
    return Scene(store, monkeypatch)


def test_an_alarm_holds_the_last_clean_version_and_marks_what_comes_after(scene: Scene) -> None:
    store = scene.store
    _, clean, bad = scene.version(), scene.version(), scene.version(BAD)
    scene.measure()
    alarm = store.measures.standing()
    assert alarm is not None
    assert (alarm.since, alarm.clean) == (bad.stamp, clean.stamp)
    assert [one.key for one in alarm.reasons] == ["turned"]
    assert set(store.pins.all()[clean.stamp]) == {PIN}
    with pytest.raises(NotfallError) as refused:
        store.remove_version(clean.stamp)
    assert refused.value.code == "version-pinned"
    assert scene.events == ["alarm-raised"] and scene.ordered == ["prepare"]
    assert scene.notes[NOTE]["since"] == bad.stamp

    later = scene.version(BAD)
    scene.measure()
    assert scene.events == ["alarm-raised"]  # once
    assert marked(store, store.versions()) == {bad.stamp, later.stamp}
    assert taken_of(store) == clean.stamp
    offered = [(one.role, one.stamp, one.suspect) for one in offers_of(candidates_of(store))]
    assert offered == [("clean", clean.stamp, False), ("newest", later.stamp, True)]


def test_all_is_well_lets_go_and_learns(scene: Scene) -> None:
    store = scene.store
    clean, bad = scene.version(), scene.version(BAD)
    scene.measure()
    with pytest.raises(NotfallError) as refused:
        scene.alarms.clear(ROW, "  ", "eva")
    assert refused.value.code == "no-reason" and store.measures.standing()
    scene.alarms.clear(ROW, "we encrypted it ourselves", "eva")
    assert store.pins.all() == {} and marked(store, store.versions()) == set()
    assert scene.notes[NOTE] is None and taken_of(store) == bad.stamp != clean.stamp
    scene.version(BAD)
    scene.measure()
    assert scene.events == ["alarm-raised", "alarm-cleared"]  # just as much is usual now
    with pytest.raises(NotfallError) as nothing:
        scene.alarms.confirm(ROW, "", "eva")
    assert nothing.value.code == "no-alarm"


def test_an_attack_stays_marked_until_all_is_well_again(scene: Scene) -> None:
    store = scene.store
    clean, bad = scene.version(), scene.version(BAD)
    scene.measure()
    scene.alarms.confirm(ROW, "lockbit", "eva")
    assert store.measures.standing() is not None
    assert set(store.pins.all()) == {clean.stamp} and scene.notes[NOTE]["answer"] == "attack"
    scene.alarms.clear(ROW, "installed anew", "eva")
    assert store.pins.all() == {}
    assert marked(store, store.versions()) == {bad.stamp}  # that one is not to be started
    again = scene.version(BAD)
    scene.measure()
    standing = store.measures.standing()
    assert standing is not None and standing.since == again.stamp


def test_a_crash_between_the_steps_loses_nothing(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = scene.store
    clean, bad = scene.version(), scene.version(BAD)
    keep = store.measures.keep

    def crash(stamp: str, measures: Measures) -> None:
        if measures is BAD:
            raise OSError("the server is killed")
        keep(stamp, measures)

    monkeypatch.setattr(store.measures, "keep", crash)
    with pytest.raises(OSError, match="killed"):
        scene.measure()
    monkeypatch.undo()
    monkeypatch.setattr(module, "measure", lambda one, *_: scene.shown.get(one.stamp, Measures()))
    store.pins.unpin(clean.stamp, PIN)  # as if that had not been reached
    scene.measure()
    assert scene.events == ["alarm-raised"]
    assert set(store.pins.all()) == {clean.stamp}
    assert bad.stamp in store.measures.all()


def test_a_start_catches_up_and_a_new_catalogue_knows_the_alarm_again(scene: Scene) -> None:
    scene.version()
    bad = scene.version(BAD)
    scene.rows = [SimpleNamespace(uuid="u", newest_version=bad.stamp)]
    scene.alarms.catch_up()
    assert scene.ordered == ["measure"]
    scene.measure()
    scene.notes.clear()
    scene.ordered.clear()
    scene.alarms.catch_up()
    assert scene.notes[NOTE]["since"] == bad.stamp and scene.ordered == []


def test_a_broken_record_of_pins_loses_no_alarm(scene: Scene) -> None:
    scene.version(), scene.version(BAD)
    scene.store.paths.pins.write_text("{}")
    scene.measure()
    assert scene.store.measures.standing() is not None


def test_a_broken_record_is_learned_anew(scene: Scene) -> None:
    scene.version(), scene.version()
    scene.measure()
    known = scene.store.measures.all()
    assert len(known) == 2
    scene.store.paths.measures.write_text('{"format": 1, "versions": {"x": 3}}')
    assert scene.store.measures.all() == {} and scene.store.measures.alarms() == ()
    scene.measure()
    assert scene.store.measures.all() == known


def test_what_is_kept_is_read_again(store: PrimaryStore) -> None:
    files = FileMeasures("s", 5, 4, 3, 4, "locked", 4, 1, 9, 8, 9, ("/a -> /a.locked",))
    shown = replace(BAD, files=files, seconds=1.5)
    store.measures.keep("20261101T000000.000Z", shown)
    assert store.measures.all() == {"20261101T000000.000Z": shown}
    alarm = Alarm("20261101T000000.000Z", "", (), "now", levels={"turned": 0.5})
    store.measures.keep_alarm(alarm)
    store.measures.keep_alarm(replace(alarm, answer=Answer.ATTACK))
    (known,) = store.measures.alarms()
    assert known == replace(alarm, answer=Answer.ATTACK)


@dataclass(frozen=True)
class Line:
    stamp: str
    base: str


def test_what_was_made_of_an_older_version_is_not_suspect() -> None:
    """A stand-in of the clean one, its captures, and the server that comes back of them."""
    lines = [Line("1", ""), Line("2", "1"), Line("3", "2"), Line("4", "3"), Line("5", "2")]
    lines += [Line("6", "5"), Line("7", "gone")]
    alarm = Alarm("3", "2", (), "now")
    assert suspects(lines, [alarm]) == {"3", "4", "7"}
    assert suspects(lines, [replace(alarm, answer=Answer.ATTACK, until="3")]) == {"3"}
    assert suspects(lines, [replace(alarm, answer=Answer.WELL, until="7")]) == set()


def test_changed_blocks_are_counted_and_picked_by_a_seed(store: PrimaryStore) -> None:
    first = replicate(store, {number: content(number) for number in range(20)})
    incoming = store.open_incoming("run", list(first.manifest.machine.disks))
    with incoming:
        incoming.receive(frame({number: content(number, 1) for number in range(5, 20)}))
        incoming.receive(frame({30: content(30), 31: content(31)}))
        incoming.punch(0, [(0, 3)])
    second = incoming.seal(manifest(store, incoming.base))
    found = changed_blocks(first, second, 4, "seed", lambda: None)
    assert found.counts == {Change.REWRITTEN: 15, Change.FRESH: 2, Change.EMPTIED: 3}
    assert found.used == 20
    assert len(found.picked[Change.REWRITTEN]) == 4
    assert set(found.picked[Change.REWRITTEN]) <= {(0, number) for number in range(5, 20)}
    assert sorted(found.picked[Change.FRESH]) == [(0, 30), (0, 31)]
    again = changed_blocks(first, second, 4, "seed", lambda: None)
    assert again.picked == found.picked
    assert changed_blocks(second, second, 4, "seed", lambda: None).counts[Change.FRESH] == 0


def test_what_an_agent_tells_of_files_is_bounded() -> None:
    one = {"key": "k", "path": "/a", "size": 5, "kind": "zip", "dense": 3}
    assert read_watched([one]) == (WatchedFile("k", "/a", 5, "zip", 3),)
    wrong: list[Any] = [
        [one] * 97,
        [{**one, "path": "\ud800"}],
        [{"key": "k"}],
        5,
        [{**one, "size": "x"}],
        [{**one, "size": -1}],
    ]
    for body in wrong:
        with pytest.raises(NotfallError) as refused:
            read_watched(body)
        assert refused.value.code == "bad-seal"
