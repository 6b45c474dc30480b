"""A month gathered from a catalogue and a pool: whoever came, went, or was never copied."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from zoneinfo import ZoneInfo

import pytest

from notfallserver.server.authority import create_authority
from notfallserver.server.cycle.means import Means
from notfallserver.server.pool.layout import make_stamp
from notfallserver.server.pool.proof import Evidence
from notfallserver.server.pool.store import Pool
from notfallserver.server.records import Catalogue, open_catalogue
from notfallserver.server.records.catalogue import FILE
from notfallserver.server.records.space import Sample
from notfallserver.server.report.gather import Gathered, Gatherer
from notfallserver.server.report.judge import alone
from notfallserver.server.report.months import Month, local_zone
from notfallserver.server.report.tree import Key, Light, PrimaryReport
from notfallserver.server.settings import Settings
from notfallserver.server.web.report_paper import PaperWords
from notfallserver.wire.errors import NotfallError

ZONE = ZoneInfo("Europe/Berlin")
MONTH = Month(2026, 10)
BEGIN, END = MONTH.begin(ZONE), MONTH.next.begin(ZONE)
LATER = END + timedelta(days=4)
DAY = timedelta(days=1)


@dataclass(frozen=True)
class Scene:
    catalogue: Catalogue
    pool: Pool
    directory: Path

    def add(self, number: int, name: str, at: datetime, state: str = "normal") -> str:
        """A primary since ``at``."""
        uuid = f"00000000-0000-0000-0000-{number:012d}"
        self.catalogue.primaries.adopt_primary(uuid, name, None, "", state, 1440, 60)
        self.pool.add_primary(uuid, name)
        with closing(sqlite3.connect(self.directory / FILE)) as database, database:
            database.execute('DELETE FROM journal WHERE "primary" = ?', (uuid,))
            database.execute("UPDATE primaries SET enrolled_at = ? WHERE uuid = ?", (iso(at), uuid))
        self.tell(uuid, at, "enrolled", to_state="new")
        return uuid

    def tell(self, uuid: str | None, at: datetime, event: str, **more: Any) -> None:
        details = json.dumps(more.pop("details", {}))
        values = {"who": "server", "why": "", "from_state": "", "to_state": "", **more}
        with closing(sqlite3.connect(self.directory / FILE)) as database, database:
            database.execute(
                'INSERT INTO journal (at, "primary", event, details, who, why, from_state,'
                " to_state) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (iso(at), uuid, event, details, *values.values()),
            )

    def copies(self, uuid: str, begin: datetime, end: datetime, every: timedelta = DAY) -> None:
        while begin < end:
            self.tell(uuid, begin, "version", details={"version": make_stamp(begin)})
            begin += every

    def gather(self, now: datetime = LATER) -> Gathered:
        words = PaperWords()
        settings = Settings(data_dir=self.directory, company="Firma")
        means = SimpleNamespace(
            catalogue=self.catalogue, pool=self.pool, settings=settings, present=lambda: settings
        )
        authority = create_authority(self.directory / "ca")
        gatherer = Gatherer(cast("Means", means), authority, words.grave, words.events)
        return gatherer.gather(MONTH, "Europe/Berlin", ZONE, now)

    def told(self, now: datetime = LATER) -> dict[str, PrimaryReport]:
        return {one.name: one for one in self.gather(now).report.primaries}


def iso(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="microseconds")


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    catalogue = open_catalogue(tmp_path)
    (tmp_path / "pool").mkdir()
    yield Scene(catalogue, Pool(tmp_path / "pool"), tmp_path)
    catalogue.close()


def test_a_month_with_a_changed_clock_is_covered_without_a_seam(scene: Scene) -> None:
    uuid = scene.add(1, "shop", BEGIN - 100 * DAY)
    scene.copies(uuid, BEGIN - 3 * DAY, END)
    one = scene.told()["shop"]
    assert one.span.seconds == (31 * 24 + 1) * 3600
    assert one.ages.worst_s == 86400 and one.ages.within == 1
    assert [finding.key for finding in one.findings] == [Key.NEVER_REHEARSED]
    assert one.light is Light.WARN and not one.replaceable


def test_who_joined_within_the_month_is_judged_from_then_on(scene: Scene) -> None:
    uuid = scene.add(1, "new", BEGIN + 10 * DAY)
    scene.copies(uuid, BEGIN + 11 * DAY, END)
    one = scene.told()["new"]
    assert one.span.begin == BEGIN + 10 * DAY and one.protected_since == BEGIN + 11 * DAY
    assert one.ages.without_s == 86400 and one.made == 21


def test_who_joined_later_is_not_in_the_report(scene: Scene) -> None:
    scene.add(1, "later", END + DAY)
    report = scene.gather().report
    assert report.primaries == () and report.summary.primaries == 0


def test_without_any_version_it_is_not_protected(scene: Scene) -> None:
    scene.add(1, "empty", BEGIN - DAY, "new")
    one = scene.told()["empty"]
    assert (one.light, one.protected_since) == (Light.BAD, None)
    assert one.ages.within == 0 and [f.key for f in one.findings] == [Key.NO_VERSION]


def test_one_that_was_removed_is_told_by_the_journal(scene: Scene) -> None:
    uuid = scene.add(1, "old", BEGIN - 50 * DAY)
    scene.copies(uuid, BEGIN - DAY, BEGIN + 12 * DAY)
    told = {"outcome": "passed", "answered_s": 80.0, "version": "v"}
    scene.tell(uuid, BEGIN + 5 * DAY, "rehearsal_ended", details=told)
    scene.catalogue.primaries.remove(uuid, "anna")
    with closing(sqlite3.connect(scene.directory / FILE)) as database, database:
        database.execute(
            "UPDATE journal SET at = ? WHERE event = 'removed'", (iso(BEGIN + 12 * DAY),)
        )
    report = scene.gather().report
    [one] = report.primaries
    assert (one.name, one.light, one.made) == ("old", Light.GONE, 12)
    assert one.span.end == one.removed_at == BEGIN + 12 * DAY
    assert one.rehearsals_passed == 1 and one.proof is not None and one.proof.answered_s == 80
    assert report.summary.primaries == 0


def test_a_server_that_was_off_for_a_week_says_so(scene: Scene) -> None:
    uuid = scene.add(1, "shop", BEGIN - 9 * DAY)
    off, on = BEGIN + 8 * DAY, BEGIN + 15 * DAY
    scene.copies(uuid, BEGIN - DAY, off)
    scene.copies(uuid, on, END)
    for at in (off - DAY / 4, off, on, on + DAY / 4):
        scene.catalogue.space.note(Sample(at, 100, 50))
    report = scene.gather().report
    [one] = report.primaries
    assert [(span.begin, span.end) for span in report.silent] == [(off, on)]
    assert [gap.end for gap in one.ages.gaps] == [on]
    assert one.ages.worst_s == 8 * 86400 and Key.GAPS in [f.key for f in one.findings]


def test_of_a_month_that_is_not_over_as_much_is_told_as_there_is(scene: Scene) -> None:
    uuid = scene.add(1, "shop", BEGIN - DAY)
    scene.copies(uuid, BEGIN - DAY, BEGIN + 3 * DAY)
    report = scene.gather(BEGIN + 3 * DAY).report
    assert not report.complete and report.until == BEGIN + 3 * DAY
    assert report.primaries[0].ages.worst_s == 86400
    with pytest.raises(NotfallError, match="not begun"):
        scene.gather(BEGIN - DAY)


def test_grave_events_are_incidents_of_whom_they_concern(scene: Scene) -> None:
    uuid = scene.add(1, "shop", BEGIN - DAY)
    scene.copies(uuid, BEGIN - DAY, END)
    scene.tell(uuid, BEGIN + DAY, "outage_seen", from_state="normal", to_state="outage")
    scene.tell(uuid, BEGIN + DAY, "refused", who="anna")
    scene.tell(uuid, BEGIN + 2 * DAY, "primary_back", from_state="outage", to_state="normal")
    scene.tell(uuid, BEGIN + 3 * DAY, "rehearsal_ended", details={"outcome": "failed"})
    scene.tell(uuid, BEGIN + 4 * DAY, "rehearsal_ended", details={"outcome": "passed"})
    scene.tell(uuid, END + DAY, "version-lost")
    scene.tell(None, BEGIN + DAY, "logins-braked")
    report = scene.gather().report
    [one] = report.primaries
    assert [(i.event, i.who) for i in one.incidents] == [
        ("refused", "anna"),
        ("rehearsal_failed", "server"),
    ]
    assert [i.event for i in report.incidents] == ["logins-braked"]
    assert [o.end for o in one.outages] == [BEGIN + 2 * DAY]


@pytest.mark.parametrize("language", ["de", "en"])
def test_what_people_typed_can_not_become_markup(scene: Scene, language: str) -> None:
    uuid = scene.add(1, "shop", BEGIN - DAY)
    scene.tell(uuid, BEGIN + DAY, "refused", who="<script>x</script>")
    html = PaperWords().paper(scene.gather().report, language, "").html
    assert "<script>" not in html and "&lt;script&gt;" in html


@pytest.mark.parametrize("language", ["de", "en"])
def test_of_one_server_alone_nothing_is_told_of_others(scene: Scene, language: str) -> None:
    for number, name in ((1, "shop"), (2, "ledger")):
        uuid = scene.add(number, name, BEGIN - DAY)
        scene.copies(uuid, BEGIN - DAY, END)
        scene.tell(uuid, BEGIN + DAY, "refused", who=f"who-of-{name}")
    scene.tell(None, BEGIN + DAY, "logins-braked", who="who-of-all")
    report = scene.gather().report
    told = {one.name: alone(report, one) for one in report.primaries}
    assert {name: one.summary.primaries for name, one in told.items()} == {"shop": 1, "ledger": 1}
    html = PaperWords().paper(told["shop"], language, "shop").html
    assert "who-of-shop" in html
    for other in ("ledger", "who-of-all"):
        assert other not in html


def test_where_the_catalogue_was_lost_the_pool_knows_what_was_proved(scene: Scene) -> None:
    uuid = scene.add(1, "shop", BEGIN - DAY)
    scene.copies(uuid, BEGIN - DAY, END)
    stamp, store = make_stamp(END - 2 * DAY), scene.pool.primary(uuid)
    (store.paths.versions / stamp).mkdir()
    (store.paths.versions / stamp / "manifest.json").write_text("{}")
    scene.catalogue.primaries.new_version(uuid, stamp)
    at = (END - DAY).isoformat()
    store.proofs.keep(stamp, Evidence("r", at, started=True, start_s=50.0, ports=(22,)))
    one = scene.told()["shop"]
    assert one.proof is not None and one.proof.passed and one.proof.version == stamp
    assert (one.light, one.recovery_s, one.replaceable) == (Light.GOOD, 50, True)
    store.proofs.keep(stamp, Evidence("r", at, started=False))
    one = scene.told()["shop"]
    assert (one.light, one.replaceable) == (Light.BAD, False)
    assert [finding.key for finding in one.findings] == [Key.STARTS_NOT]
    store.proofs.keep(stamp, Evidence("r", (END + DAY).isoformat(), started=True))
    assert scene.told()["shop"].proof is None


@pytest.mark.parametrize("told", ["TST-00:00:46", "Nowhere/Nothing"])
def test_a_clock_without_a_named_zone_counts_by_its_distance(
    told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", told)
    name, zone = local_zone()
    assert name.startswith("UTC")
    assert zone.utcoffset(None) == datetime.now().astimezone().utcoffset()
