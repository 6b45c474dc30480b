"""What a version shows, and when that is an alarm: pure."""

from __future__ import annotations

import random
import zlib
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notfallserver.server.cycle.alarm.files import compare, is_strange
from notfallserver.server.cycle.alarm.judge import (
    Measured,
    Verdict,
    judge,
    leaves_trace,
    moved_blocks,
    turned_blocks,
    usual_rate,
)
from notfallserver.server.cycle.alarm.texture import PAGE, Alone, Rewritten
from notfallserver.server.pool.layout import make_stamp
from notfallserver.server.pool.measures import Alarm, Answer, FileMeasures, Measures, Reason
from notfallserver.server.pool.version import WatchedFile
from notfallserver.wire.blocks import BLOCK

DICE = random.Random(1)
START = datetime(2026, 11, 1, tzinfo=timezone.utc)


def words(count: int, seed: int = 0) -> bytes:
    dice = random.Random(seed)
    letters = "etaoin shrdlu cmfwyp"
    return "".join(dice.choices(letters, k=count)).encode()


def noise(count: int) -> bytes:
    return DICE.randbytes(count)


def packed(count: int, seed: int = 0) -> bytes:
    """A stretch of what zlib makes of text."""
    return zlib.compress(words(count * 3, seed))[2 : count + 2]


# -- blocks ----------------------------------------------------------------------------------------


def test_ciphertext_where_text_was_has_turned_and_other_text_has_not() -> None:
    found = Rewritten()
    for number in range(20):
        found.add(words(BLOCK, number), noise(BLOCK))
        found.add(words(BLOCK, number), words(BLOCK, number + 1000))
    assert (found.read, found.dark) == (40, 0)
    assert 18 <= found.turned <= 20  # two of hundred look uneven by chance


def test_compressed_content_that_comes_or_goes_is_no_ciphertext() -> None:
    came, grew = Rewritten(), Alone()
    for number in range(12):
        came.add(words(BLOCK, number), packed(BLOCK, number))
        grew.add(packed(BLOCK, number + 100))
    assert came.turned <= 3 and grew.random <= 3


def test_compressed_content_that_is_encrypted_is_seen_too() -> None:
    found = Rewritten()
    for number in range(12):
        found.add(packed(BLOCK, number), noise(BLOCK))
    assert found.turned >= 9


def test_what_was_random_before_says_nothing() -> None:
    found = Rewritten()
    for _ in range(20):
        found.add(noise(BLOCK), noise(BLOCK))
    assert found.dark >= 18 and found.turned <= 2


def test_a_few_pages_of_each_block_are_judged_together() -> None:
    """Every fourth page, and files that end within a page."""
    found, archives = Rewritten(), Rewritten()
    for number in range(40):
        text = words(BLOCK, number)
        pages = [text[at : at + PAGE] for at in range(0, BLOCK, PAGE)]
        hit = [one if place % 4 else noise(PAGE) for place, one in enumerate(pages)]
        hit[4] = noise(3000) + bytes(PAGE - 3000)
        found.add(text, b"".join(hit))
        put = [
            one if place % 4 else packed(PAGE, place + number) for place, one in enumerate(pages)
        ]
        archives.add(text, b"".join(put))
    assert found.turned == 40
    assert archives.turned == 0


@given(st.binary(min_size=1, max_size=200), st.binary(min_size=1, max_size=200))
def test_repeating_content_never_turns(old: bytes, new: bytes) -> None:
    found = Rewritten()
    found.add((old * BLOCK)[:BLOCK], (new * BLOCK)[:BLOCK])
    assert found.turned == 0 and found.read == 1


# -- files -----------------------------------------------------------------------------------------


def file(number: int, name: str = "", kind: str = "", dense: int = 0) -> WatchedFile:
    return WatchedFile(f"k{number}", name or f"/home/letter{number}.txt", 5000, kind, dense)


BEFORE = [file(number) for number in range(50)]


def test_files_that_got_another_ending_and_can_not_be_read_any_more() -> None:
    after = [file(n, f"/home/letter{n}.txt.locked", "", 3) for n in range(10)] + BEFORE[10:]
    told = compare("s", BEFORE, after)
    assert (told.compared, told.renamed, told.scrambled, told.hit) == (50, 10, 10, 10)
    assert (told.extension, told.alike, told.strange) == ("locked", 10, 10)
    assert told.examples[0] == "/home/letter0.txt -> /home/letter0.txt.locked"


def test_names_do_no_harm_to_a_terminal() -> None:
    told = compare("s", [file(1, "/a")], [file(1, "/a.\x1b[2J")])
    assert told.examples == ("/a -> /a.?[2J",)


def test_what_is_renamed_packed_or_written_every_day_is_not_counted() -> None:
    before = [
        file(1, "/log/app.log"),
        file(2, "/log/app.log.1"),
        file(3, "/a.docx", "zip", 3),
        file(4, "/b"),
        file(5, "/gone"),
    ]
    after = [
        file(1, "/log/app.log"),
        file(2, "/log/app.log.1.gz", "gzip", 1),
        replace(before[2], size=9),
        replace(before[3], kind="sqlite"),
    ]
    told = compare("s", before, after)
    assert (told.compared, told.renamed, told.scrambled, told.hit) == (4, 0, 0, 0)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (file(1, kind="jpeg", dense=2), file(1, dense=3)),
        (file(1, kind="zip", dense=3), file(1, dense=0)),  # written as letters
        (file(1), file(1, dense=1)),
        (file(1), file(1, dense=2)),  # its beginning was spared
    ],
)
def test_a_file_can_not_be_recognised_in_many_ways(old: WatchedFile, new: WatchedFile) -> None:
    assert compare("s", [old], [new]).scrambled == 1
    assert compare("s", [old], [old]).hit == 0
    assert compare("s", [new], [new]).hit == 0


def test_random_names_are_seen_by_what_all_files_look_like() -> None:
    after = [WatchedFile(f"x{n}", f"/home/{n:024x}", 5000, "", 3) for n in range(50)]
    told = compare("s", BEFORE, after)
    assert told.compared == 0 and told.strange == 50 and not any(map(is_strange, BEFORE))
    turned: dict[str, Any] = {"rewritten": 700, "rewritten_read": 700, "turned": 600}
    assert [one.key for one in verdict(calm(9), files=told, **turned).reasons] == ["strange"]
    # A backup repository that is new looks the same, but nothing became random for it
    assert not verdict(calm(9), files=told).suspicious


# -- the judge -------------------------------------------------------------------------------------


def at(days: float) -> str:
    return make_stamp(START + timedelta(days=days))


QUIET = Measures("b", used=100000, rewritten=500, fresh=300, emptied=200, rewritten_read=500)
FILES = FileMeasures("b", compared=90, seen=96, seen_before=96)


def calm(days: int) -> list[Measured]:
    return [Measured(at(day), replace(QUIET, files=FILES)) for day in range(days)]


def verdict(
    earlier: list[Measured], alarms: tuple[Alarm, ...] = (), day: float = 9, **shown: Any
) -> Verdict:
    this = Measured(at(day), replace(QUIET, **{"files": FILES, **shown}))
    return judge(this, earlier, alarms, [one.stamp for one in earlier])


def test_a_quiet_history_and_none_at_all_are_calm() -> None:
    assert not verdict(calm(9)).suspicious
    assert not verdict([]).suspicious
    assert not judge(Measured(at(0), Measures()), [], (), []).suspicious


def test_blocks_that_turned_within_a_day_hold_the_version_before() -> None:
    told = verdict(calm(9), rewritten=2000, rewritten_read=1000, turned=900)
    assert [(one.key, one.values["percent"]) for one in told.reasons] == [("turned", 1.8)]
    assert told.clean == at(8)
    assert not verdict(calm(9), rewritten=500, rewritten_read=500, turned=450).suspicious
    # Few of many that changed: something was unpacked where something else had been.
    assert not verdict(calm(9), rewritten=9000, rewritten_read=1000, turned=200).suspicious


def test_a_small_server_needs_some_blocks_too() -> None:
    assert not verdict([], used=500, rewritten=20, rewritten_read=20, turned=20).suspicious
    assert verdict([], used=500, rewritten=40, rewritten_read=40, turned=40).suspicious


def test_a_slow_attack_is_added_up_and_held_is_what_was_before_it() -> None:
    shown: dict[str, Any] = {"rewritten": 700, "rewritten_read": 700, "turned": 600}
    earlier = calm(9)
    for day in range(9, 13):
        assert not verdict(earlier, day=day, **shown).suspicious
        earlier.append(Measured(at(day), replace(QUIET, files=FILES, **shown)))
    told = verdict(earlier, day=13, **shown)
    assert [(one.key, one.values["days"]) for one in told.reasons] == [("turned", 7)]
    assert told.clean == at(8)


def test_random_content_for_as_much_that_went() -> None:
    moved: dict[str, Any] = {"fresh": 12000, "fresh_read": 500, "fresh_random": 450}
    went: dict[str, Any] = {"emptied": 11000, "emptied_read": 500, "content_gone": 480}
    assert [one.key for one in verdict(calm(9), **moved, **went).reasons] == ["moved"]
    assert not verdict(calm(9), **moved).suspicious  # a large backup that is encrypted
    # An archive in place of what was five times as large
    assert not verdict(calm(9), **moved, **{**went, "emptied": 60000}).suspicious
    # Its predecessor went, which was encrypted, too
    assert not verdict(calm(9), **moved, **{**went, "content_gone": 10}).suspicious


def test_files_alone_are_enough_and_a_few_are_not() -> None:
    hit = replace(FILES, scrambled=9, hit=9)
    assert [one.key for one in verdict(calm(9), files=hit).reasons] == ["scrambled"]
    assert not verdict(calm(9), files=replace(FILES, scrambled=5, hit=5)).suspicious
    few = FileMeasures("b", compared=10, seen=10, seen_before=10, scrambled=3, hit=3)
    assert not verdict(calm(9), files=few).suspicious
    named = replace(FILES, renamed=30, hit=30, alike=30, extension="pay")
    assert [one.key for one in verdict(calm(9), files=named).reasons] == ["renamed"]
    mixed = replace(FILES, renamed=30, hit=30, alike=5, extension="png")
    assert not verdict(calm(9), files=mixed).suspicious


def test_files_that_changed_since_days_ago_hold_what_was_before_the_first_trace() -> None:
    earlier = calm(9)
    for day in (6, 7, 8):
        earlier[day] = Measured(at(day), replace(QUIET, files=replace(FILES, scrambled=3, hit=3)))
    files = replace(FILES, since=at(2), scrambled=12, hit=12)
    assert verdict(earlier, files=files).clean == at(5)


def test_days_that_showed_little_belong_to_what_followed_them() -> None:
    """Below what is counted, but enough not to be called clean."""
    earlier = calm(9)
    for day in (4, 5, 8):
        earlier[day] = Measured(at(day), replace(QUIET, files=FILES, turned=20))
    told = verdict(earlier, rewritten=2000, rewritten_read=1000, turned=900)
    assert told.suspicious and told.clean == at(3)
    earlier[5] = earlier[4] = calm(9)[4]  # and what was longer ago does not
    earlier[2] = Measured(at(2), replace(QUIET, files=FILES, turned=20))
    assert verdict(earlier, rewritten=2000, rewritten_read=1000, turned=900).clean == at(7)


def test_where_all_is_random_only_the_rate_is_left() -> None:
    dark: dict[str, Any] = {"rewritten_read": 500, "dark": 480}
    earlier = [Measured(one.stamp, replace(one.measures, **dark)) for one in calm(9)]
    told = verdict(earlier, **dark, rewritten=60000)
    assert [(one.key, one.values["percent"]) for one in told.reasons] == [("rate", 60.5)]
    assert not verdict(earlier, **dark, rewritten=30000).suspicious
    assert not verdict(earlier[:5], **dark, rewritten=60000).suspicious  # too little is known
    assert not verdict(calm(9), rewritten=60000).suspicious  # not dark: a restored backup


def test_what_was_called_well_is_usual_from_then_on() -> None:
    shown: dict[str, Any] = {"rewritten": 4000, "rewritten_read": 1000, "turned": 1000}
    first = verdict(calm(9), **shown)
    assert first.suspicious and first.levels["turned"] == pytest.approx(0.04)
    answered = Alarm(at(9), at(8), (), at(9), Answer.WELL, until=at(9), levels=first.levels)
    assert not verdict(calm(9), (answered,), day=10, **shown).suspicious
    more: dict[str, Any] = {**shown, "rewritten": 6500}
    assert verdict(calm(9), (answered,), day=10, **more).suspicious
    attack = replace(answered, answer=Answer.ATTACK)
    assert verdict(calm(9), (attack,), day=10, **shown).suspicious


def test_the_usual_rate_is_robust() -> None:
    history = [replace(QUIET, rewritten=500 + day) for day in range(30)]
    history[7] = replace(QUIET, rewritten=50000)  # one restore does not make it blind
    assert usual_rate(history[:5]) is None
    assert usual_rate(history) == pytest.approx(0.7575, abs=0.01)


COUNTS = st.integers(0, 10**6)


@given(COUNTS, COUNTS, COUNTS, st.integers(1, 10**6), st.integers(0, 1000))
def test_without_random_bytes_nothing_is_suspicious(
    rewritten: int, fresh: int, emptied: int, used: int, read: int
) -> None:
    """However much changed."""
    shown = Measures("b", used, rewritten, fresh, emptied, read, 0, 0, read, 0, read, read, FILES)
    told = judge(Measured(at(9), shown), calm(9), (), [])
    assert not told.suspicious and not leaves_trace(shown)
    assert turned_blocks(shown) == moved_blocks(shown) == 0


def test_reasons_are_remembered_as_they_are() -> None:
    told = Alarm(at(1), "", (Reason("turned", {"mib": 3}),), at(1))
    assert told.stands and told.marks
