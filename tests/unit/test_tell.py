"""What is told, when and to whom; addresses and what of them is shown: pure. The outbox."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest

from notfallserver.server.records import Catalogue, open_catalogue
from notfallserver.server.records.journal import Entry
from notfallserver.server.records.outbox import Letter, Trouble
from notfallserver.server.records.receivers import Kind, Summary, Wanted
from notfallserver.server.tell import decide as rules
from notfallserver.server.tell.address import Mail, Ntfy, Other, Telegram, Webhook
from notfallserver.server.tell.decide import decide, summary_due, told_of, wanted
from notfallserver.server.tell.notice import How, Notice, Seen
from notfallserver.server.tell.send import mask
from notfallserver.server.tell.teller import (
    LONGEST_WAIT,
    MOST_PAPER,
    bundle,
    takes_papers,
    waiting_time,
    whats_there,
)
from notfallserver.wire.errors import NotfallError

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
DOWN = Seen("outage:u", "Does not answer", "u", "shop", Kind.URGENT)
LATE = Seen("overdue:u", "The last copy is too old", "u", "shop", Kind.WARNING)
FAILS = Seen("failing:u", "Copies do not succeed", "u", "shop", Kind.WARNING, 20 * MINUTE)


class Course:
    """Looks one after the other, as the thread takes them."""

    def __init__(self) -> None:
        self.known: Sequence[Trouble] = ()
        self.now = NOW
        self.told: list[tuple[timedelta, How, str]] = []

    def look(self, *seen: Seen, after: timedelta = MINUTE, hushed: Sequence[str] = ()) -> None:
        self.now += after
        decision = decide(seen, self.known, hushed, self.now)
        self.known = decision.standing
        self.told += [(self.now - NOW, one.how, one.what) for one in decision.notices]

    def hows(self) -> list[How]:
        return [how for _, how, _ in self.told]


def test_a_trouble_is_told_when_it_begins_daily_and_when_it_is_over() -> None:
    course = Course()
    for _ in range(50 * 60):
        course.look(DOWN)
    assert [(at, how) for at, how, _ in course.told] == [
        (MINUTE, How.BEGUN),
        (DAY + MINUTE, How.STILL),
        (2 * DAY + MINUTE, How.STILL),
    ]
    for _ in range(60):
        course.look()
    assert course.hows()[3:] == [How.OVER]
    assert course.known == ()


def test_what_comes_and_goes_is_one_trouble() -> None:
    course = Course()
    for turn in range(600):
        course.look(*([DOWN] if turn % 4 < 2 else []))
    assert course.hows() == [How.BEGUN]


def test_what_is_tried_again_is_told_only_when_it_lasts() -> None:
    course = Course()
    for _ in range(15):
        course.look(FAILS)
    course.look()
    for _ in range(15):
        course.look(FAILS)
    assert course.told == []
    for _ in range(10):
        course.look(FAILS)
    assert course.hows() == [How.BEGUN]


def test_what_gets_worse_is_told_again_and_what_gets_better_is_not() -> None:
    low = Seen("health:space", "Space", "", "", Kind.WARNING)
    out = Seen("health:space", "Space", "", "", Kind.URGENT)
    course = Course()
    for seen in (low, low, out, out, low, out):
        course.look(seen)
    assert course.hows() == [How.BEGUN, How.BEGUN]


def test_there_is_one_reminder_a_day_for_all_and_not_one_for_each() -> None:
    course = Course()
    course.look(DOWN)
    course.look(DOWN, LATE, after=12 * HOUR)
    course.look(DOWN, LATE, after=12 * HOUR)
    assert course.told[2:] == [
        (DAY + MINUTE, How.STILL, DOWN.what),
        (DAY + MINUTE, How.STILL, LATE.what),
    ]
    course.look(DOWN, LATE, after=12 * HOUR)
    assert len(course.told) == 4


def test_an_outage_that_a_stand_in_ended_is_no_news() -> None:
    course = Course()
    course.look(DOWN)
    course.look(hushed=[DOWN.key])
    course.look(after=HOUR)
    assert course.hows() == [How.BEGUN]


def test_what_happened_long_ago_is_not_told_after_a_rest() -> None:
    entry = Entry(1, NOW, "u", "standin_up", "server", "", "", "", {})
    fresh = told_of(entry, "The stand-in is working", "shop", NOW + HOUR)
    assert fresh is not None and fresh.kinds == {Kind.URGENT, Kind.GOOD}
    assert told_of(entry, "x", "shop", NOW + 2 * DAY) is None
    assert told_of(Entry(1, NOW, "u", "version", "s", "", "", "", {}), "x", "shop", NOW) is None


def test_everybody_hears_what_he_wants_and_the_urgent_first() -> None:
    def notice(*kinds: Kind) -> Notice:
        return Notice(How.HAPPENED, "x", "u", "shop", frozenset(kinds))

    good, warning, relief = notice(Kind.GOOD), notice(Kind.WARNING), notice(Kind.URGENT, Kind.GOOD)
    told = [good, warning, relief]
    assert wanted(told, {Kind.URGENT}) == [relief]
    assert wanted(told, {Kind.WARNING}) == [warning]
    assert wanted(told, set(Kind)) == [relief, warning, good]


@pytest.mark.parametrize(
    ("summary", "last", "now", "due"),
    [
        (Summary.NEVER, NOW - 99 * DAY, NOW, False),
        (Summary.DAILY, NOW.replace(hour=7), NOW.replace(hour=7, minute=59), False),
        (Summary.DAILY, NOW.replace(hour=7), NOW.replace(hour=8), True),
        (Summary.DAILY, NOW.replace(hour=8), NOW, False),
        (Summary.DAILY, NOW, NOW + DAY, True),
        (Summary.WEEKLY, NOW, NOW + 3 * DAY, False),  # the 26th is a Thursday
        (Summary.WEEKLY, NOW, NOW + 4 * DAY, True),
        (Summary.WEEKLY, NOW + 4 * DAY, NOW + 10 * DAY, False),
    ],
)
def test_summaries_are_written_in_the_morning(
    summary: Summary, last: datetime, now: datetime, due: bool
) -> None:
    assert summary_due(summary, last, now) is due


def test_every_told_event_is_known_to_the_history() -> None:
    from notfallserver.server.web.words.history import EVENTS

    assert set(rules.EVENTS) <= set(EVENTS)


# -- addresses -----------------------------------------------------------------------------------


def test_no_secret_of_an_address_is_shown() -> None:
    made: list[Mail | Webhook | Ntfy | Telegram | Other] = [
        Mail("mail.example.com", "a@example.com", "b@example.com", user="u", password="geheim#/1"),
        Webhook("https://anna:geheim@hooks.example.com/services/geheim?key=geheim"),
        Ntfy("geheim#/1", token="geheim#/1"),
        Telegram("123456:geheim#/1", "987654321"),
        Other("slack://geheim#/1/geheim#/1"),
    ]
    for one in made:
        address = one.address()
        assert "geheim" in address.url
        assert "geheim" not in address.shown and "geheim" not in repr(address)
    assert made[0].address().shown == "b@example.com (mail.example.com)"


@pytest.mark.parametrize(
    "wrong",
    [
        Mail("mail.example.com", "", "b@example.com"),
        Mail("mail.example.com", "a@example.com", " "),
        Mail("a/b", "a@example.com", "b@example.com"),
        Mail("a.example.com", "a@example.com", "b@example.com", user="a", password="straße"),
        Webhook("ftp://example.com"),
        Webhook("https://:99999/"),
        Ntfy(""),
        Telegram("", "1"),
        Other("nonsense"),
    ],
)
def test_what_can_not_be_an_address_is_refused(
    wrong: Mail | Webhook | Ntfy | Telegram | Other,
) -> None:
    with pytest.raises(NotfallError) as caught:
        wrong.address()
    assert caught.value.code == "bad-address"


def test_the_other_sides_answer_has_no_secret() -> None:
    url = "mailtos://anna%40example.com:ge%23heim@mail.example.com:587/?smtp=mail.example.com"
    told = mask("(535, b'anna@example.com ge#heim ge%23heim') mail.example.com", url)
    assert told == "(535, b'*** *** ***') mail.example.com"
    assert "sekret" not in mask("POST /botsekret1:abc/send", "tgram://sekret1:abc/12345/")
    told = mask(
        "https://x.example.com/a/hidden1?k=hidden2", "jsons://x.example.com/a/hidden1?-k=hidden2"
    )
    assert "hidden" not in told and "x.example.com" in told


# -- sending -------------------------------------------------------------------------------------


def test_waiting_grows_and_ends_growing() -> None:
    waits = [waiting_time(tries) for tries in range(30)]
    assert waits == sorted(waits) and waits[0] == 30 * timedelta(seconds=1)
    assert waits[-1] == LONGEST_WAIT


def test_letters_that_gathered_are_one_message_with_the_most_important_title() -> None:
    letters = [Letter("r", "good", "a", Kind.GOOD), Letter("r", "bad", "b", Kind.URGENT)]
    message, kind = bundle(letters)
    assert (message.title, kind) == ("bad (+1)", Kind.URGENT)
    assert message.body == "good\na\n\nbad\nb"
    assert bundle(letters[:1])[0].title == "good"


def test_reports_go_along_by_mail_however_many_letters_gathered(tmp_path: Path) -> None:
    told = {"2026-09/report-de.pdf": "sep.pdf"}, {"2026-10/report-de.pdf": "oct.pdf"}
    letters = [Letter("r", "t", "b", Kind.GOOD, one) for one in ({}, *told)]
    assert bundle(letters)[0].papers == {**told[0], **told[1]}
    assert bundle(letters[1:2])[0].papers == told[0]
    for url, tries, with_them in (
        *(("mailtos://u:p@h", 0, True), ("mailto://h", 5, True)),
        *(("mailto://h", 6, False), ("tgram://mailto/1", 0, False)),
    ):
        assert takes_papers(url, tries) is with_them
    for name, size in (("small", 9), ("large", MOST_PAPER), ("other", 8)):
        (tmp_path / name).write_bytes(bytes(size))
    names = {one: f"{one}.pdf" for one in ("gone", "small", "large", "other")}
    assert whats_there(tmp_path, names) == {
        tmp_path / "small": "small.pdf",
        tmp_path / "other": "other.pdf",
    }


def test_only_a_monthly_report_brings_one_along() -> None:
    told = {"month": "2026-10"}
    entry = Entry(1, NOW, None, "month-reported", "schedule", "", "", "", told)
    assert (found := told_of(entry, "what", "", NOW)) and found.report == "2026-10"
    entry = replace(entry, event="server-rebuilt")
    assert (found := told_of(entry, "what", "", NOW)) and found.report == ""


@pytest.fixture
def catalogue(tmp_path: Path) -> Iterator[Catalogue]:
    opened = open_catalogue(tmp_path)
    yield opened
    opened.close()


def want(name: str = "anna", address: str = "json://u:geheim@h") -> Wanted:
    return Wanted(name, frozenset({Kind.URGENT}), "de", Summary.NEVER, address, "h")


def test_the_journal_never_holds_an_address(catalogue: Catalogue) -> None:
    receivers = catalogue.receivers
    made = receivers.add(want(), "root")
    receivers.change(made.id, want("bob", "json://v:geheim@h"), "root")
    assert receivers.address(made.id) == "json://v:geheim@h"
    receivers.change(made.id, want("bob", ""), "root")
    assert receivers.address(made.id) == "json://v:geheim@h"
    receivers.remove("bob", "root")
    told = catalogue.journal.entries()
    assert [one.event for one in told] == [
        "receiver-removed",
        *["receiver-changed"] * 2,
        "receiver-added",
    ]
    assert "geheim" not in str(told) and "geheim" not in str(made)


def test_two_receivers_have_two_names(catalogue: Catalogue) -> None:
    catalogue.receivers.add(want(), "root")
    other = catalogue.receivers.add(want("bob"), "root")
    for refused in (
        partial(catalogue.receivers.add, want(), "root"),
        partial(catalogue.receivers.change, other.id, want(), "root"),
    ):
        with pytest.raises(NotfallError) as caught:
            refused()
        assert caught.value.code == "receiver-exists"


def test_what_was_told_and_what_waits_outlive_the_server(tmp_path: Path) -> None:
    first = open_catalogue(tmp_path)
    first.journal.write(None, "before", "x")
    assert first.outbox.mark() == first.journal.entries()[0].id  # what was before is not told
    receiver = first.receivers.add(want(), "root").id
    letter = Letter(receiver, "t", "b", Kind.URGENT, {"2026-10/report-de.pdf": "o.pdf"})
    trouble = Trouble("k", "w", "u", "shop", Kind.URGENT, NOW, NOW)
    first.outbox.tell([trouble], 7, [letter], [receiver])
    first.close()
    again = open_catalogue(tmp_path)
    assert again.outbox.troubles() == [trouble] and again.outbox.mark() == 7
    [waiting] = again.outbox.due(datetime.now(UTC))[receiver]
    assert waiting.letter == letter
    later = datetime.now(UTC) + HOUR
    again.outbox.put_off([waiting], later)
    assert again.outbox.due(datetime.now(UTC)) == {}
    [waiting] = again.outbox.due(later)[receiver]
    assert waiting.tries == 1
    again.receivers.remove(receiver, "root")
    assert again.outbox.due(later) == {}
    again.close()


def test_since_when_nothing_gets_through_is_kept(catalogue: Catalogue) -> None:
    receiver = catalogue.receivers.add(want(), "root").id
    catalogue.receivers.failed(receiver, "no")
    first = catalogue.receivers.find(receiver)
    catalogue.receivers.failed(receiver, "still no")
    now = catalogue.receivers.find(receiver)
    assert now.failing_since == first.failing_since is not None and now.problem == "still no"
    catalogue.receivers.arrived(receiver)
    assert catalogue.receivers.find(receiver).failing_since is None
