"""What the transaction logs of a hive hold is put into a copy of it, or it is refused."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from notfall_lab.hives import (
    base_block,
    count,
    entry,
    entry_log,
    in_pages,
    made_hive,
    one_bin,
    page_log,
    unpack,
    unpack_dirty,
)
from notfallserver.guest.windows.base_block import BIN, SIZE, read_base_block
from notfallserver.guest.windows.hive import Hive
from notfallserver.guest.windows.hive_logs import Replay, plan_replay, replay_logs
from notfallserver.wire.errors import NotfallError

TWO = 2 * BIN


def change(sequence: int, fill: int, place: int = BIN, size: int = TWO) -> bytes:
    """An entry that fills a bin anew."""
    return entry(sequence, size, [(place, one_bin(place, fill))])


def replayed(folder: Path, hive: bytes, *logs: bytes) -> bytes:
    source, target = folder / "SYSTEM", folder / "whole"
    source.write_bytes(hive)
    paths = [folder / f"SYSTEM.LOG{number + 1}" for number in range(len(logs))]
    for path, log in zip(paths, logs, strict=True):
        path.write_bytes(log)
    try:
        replay_logs(source, paths, target)
    finally:
        assert source.read_bytes() == hive
    return target.read_bytes()


def refused(folder: Path, hive: bytes, *logs: bytes) -> str:
    with pytest.raises(NotfallError) as told:
        replayed(folder, hive, *logs)
    assert told.value.remedy
    assert not (folder / "whole").exists()
    return told.value.code


def fills(hive: bytes) -> list[int]:
    return [hive[at + BIN - 1] for at in range(SIZE, len(hive), BIN)]


def number(hive: bytes) -> int:
    """Of the last write, of a hive that is whole."""
    block = read_base_block(hive)
    assert block is not None
    assert block.complete
    assert block.kind == 0
    return block.first


def test_the_logs_of_a_real_hive_hold_what_it_lacks(tmp_path: Path) -> None:
    source = unpack_dirty(tmp_path)
    before = source.read_bytes()
    logs = [tmp_path / "SYSTEM_B.LOG1", tmp_path / "SYSTEM_B.LOG2"]
    assert replay_logs(source, logs, tmp_path / "whole") == 24
    assert source.read_bytes() == before
    assert number((tmp_path / "whole").read_bytes()[:SIZE]) == 2130
    assert count(tmp_path / "whole") - count(source) == 6416
    assert Hive(tmp_path / "whole").has("ControlSet001\\Services\\storahci\\StartOverride")
    # the order in which the logs are named does not matter
    assert replay_logs(source, logs[::-1], tmp_path / "again") == 24
    assert (tmp_path / "again").read_bytes() == (tmp_path / "whole").read_bytes()
    # whole once, it stays so
    (tmp_path / "whole").rename(source)
    assert replay_logs(source, logs, tmp_path / "whole") == 0


def test_a_clean_hive_is_copied_whatever_its_log_holds(tmp_path: Path) -> None:
    clean = unpack("BCD", tmp_path).read_bytes()
    assert replayed(tmp_path, clean) == clean
    hive = made_hive([1, 2], 7, 7)
    assert replayed(tmp_path, hive, entry_log(7, TWO, [change(7, 9)])) == hive


def test_entries_are_taken_in_order_from_both_logs(tmp_path: Path) -> None:
    hive = made_hive([1, 2], 8, 7)
    older = entry_log(7, TWO, [change(7, 3), change(8, 4, place=0)])
    newer = entry_log(9, TWO, [change(9, 5)])
    for logs in ((older, newer), (newer, older)):
        done = replayed(tmp_path, hive, *logs)
        assert fills(done) == [4, 5]
        assert number(done) == 9


def test_a_log_of_what_the_hive_has_already_is_left_out(tmp_path: Path) -> None:
    hive = made_hive([1, 2], 10, 9)
    old = entry_log(7, TWO, [change(7, 3), change(8, 4)])
    new = entry_log(9, TWO, [change(9, 5, place=0)], behind=change(5, 8) + change(6, 8))
    assert fills(replayed(tmp_path, hive, old, new)) == [5, 2]


def test_damage_in_what_the_hive_has_already_does_not_matter(tmp_path: Path) -> None:
    """A log whose first entry was being overwritten anew when the machine stopped."""
    hive = made_hive([1, 2], 10, 9)
    old = entry_log(6, TWO, [b"\xff" * len(change(6, 8)), change(7, 3), change(8, 4)])
    new = entry_log(9, TWO, [change(9, 5)])
    for logs in ((old, new), (new, old)):
        assert fills(replayed(tmp_path, hive, *logs)) == [1, 5]
    # but what it lacks may be in it
    assert refused(tmp_path, made_hive([1, 2], 9, 8), old, new) == "hive-log-damaged"
    hidden = entry_log(6, TWO, [b"\xff" * len(change(6, 8)), change(7, 3), change(10, 4)])
    assert refused(tmp_path, hive, new, hidden) == "hive-log-damaged"


def test_a_hive_written_in_part_goes_on_where_its_logs_begin(tmp_path: Path) -> None:
    """Windows writes a hive without a new number when both logs are full: entries are lacking."""
    hive = made_hive([1, 2], 8, 7)
    assert fills(replayed(tmp_path, hive, entry_log(90, TWO, [change(90, 6)]))) == [1, 6]


@pytest.mark.parametrize("kept", [1, 39, 40, 512, 1024, 4096])
def test_a_torn_last_entry_is_left_out(tmp_path: Path, kept: int) -> None:
    hive = made_hive([1, 2], 8, 7)
    torn = change(8, 4)[:kept]
    for rest in (b"", bytes(BIN), change(3, 9)):
        done = replayed(tmp_path, hive, entry_log(7, TWO, [change(7, 3), torn], behind=rest))
        assert fills(done) == [1, 3]
        assert number(done) >= 8


@pytest.mark.parametrize("at", [0, 4, 12, 16, 20, 24, 32, 40, 44, 48, 300, 4143])
def test_a_damaged_entry_before_others_is_refused(tmp_path: Path, at: int) -> None:
    hive = made_hive([1, 2], 8, 7)
    bad = bytearray(change(8, 4))
    bad[at] ^= 0x10
    log = entry_log(7, TWO, [change(7, 3), bytes(bad), change(9, 5)])
    assert refused(tmp_path, hive, log) == "hive-log-damaged"
    # the others may be in the other log
    log = entry_log(7, TWO, [change(7, 3), bytes(bad)])
    assert refused(tmp_path, hive, log, entry_log(9, TWO, [change(9, 5)])) == "hive-log-damaged"


def test_no_later_entry_of_windows_can_meet_an_old_one(tmp_path: Path) -> None:
    hive = made_hive([1, 2], 8, 7)
    logs = [entry_log(7, TWO, [change(7, 3)]), entry_log(8, TWO, [change(8, 4)[:600]])]
    assert number(replayed(tmp_path, hive, *logs)) >= 8


def test_a_lost_base_block_comes_from_the_newest_log(tmp_path: Path) -> None:
    hive = bytearray(made_hive([1, 2], 8, 7))
    hive[100] ^= 1
    older = entry_log(7, TWO, [change(7, 3)])
    newer = entry_log(8, TWO, [change(8, 4, place=0)])
    done = replayed(tmp_path, bytes(hive), older, newer)
    assert fills(done) == [4, 2]
    assert number(done) == 8
    assert refused(tmp_path, bytes(hive)) == "hive-damaged"
    assert refused(tmp_path, bytes(hive), b"") == "hive-damaged"


def test_a_broken_off_write_without_its_log_is_refused(tmp_path: Path) -> None:
    hive = made_hive([1, 2], 8, 7)
    assert refused(tmp_path, hive) == "hive-log-missing"
    assert refused(tmp_path, hive, b"", bytes(1 << 16)) == "hive-log-missing"
    stale = entry_log(5, TWO, [change(5, 3), change(6, 4)])
    assert refused(tmp_path, hive, stale) == "hive-log-missing"


def test_a_hive_grows_and_what_lies_behind_it_stays(tmp_path: Path) -> None:
    hive = made_hive([1, 2], 8, 7)
    grown = entry(7, 3 * BIN, [(TWO, one_bin(TWO, 3))])
    done = replayed(tmp_path, hive, entry_log(7, TWO, [grown]))
    assert fills(done) == [1, 2, 3]
    done = replayed(tmp_path, hive + bytes(3 * BIN), entry_log(7, TWO, [grown]))
    assert fills(done) == [1, 2, 3, 0, 0]
    for size in (4, 1 << 19):
        hole = entry(7, size * BIN, [(3 * BIN, one_bin(3 * BIN, 3))])
        assert refused(tmp_path, hive, entry_log(7, TWO, [hole])) == "hive-damaged"


def test_a_hive_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    whole = made_hive([1, 2], 8, 8)
    assert refused(tmp_path, whole[:-1]) == "hive-damaged"
    assert refused(tmp_path, whole[:100]) == "hive-damaged"
    assert refused(tmp_path, b"") == "hive-damaged"
    displaced = base_block(8, 8, TWO) + one_bin(0, 1) + one_bin(0, 2)
    assert refused(tmp_path, displaced) == "hive-damaged"


def test_a_flag_of_the_entries_reaches_the_hive(tmp_path: Path) -> None:
    hive = made_hive([1, 2], 8, 7)
    locked = entry(7, TWO, [(0, one_bin(0, 3))], flags=1)
    done = replayed(tmp_path, hive, entry_log(7, TWO, [locked]))
    assert struct.unpack_from("<I", done, 144) == (1,)
    opened = entry_log(7, TWO, [locked, change(8, 3)])
    assert struct.unpack_from("<I", replayed(tmp_path, hive, opened), 144) == (0,)


@pytest.mark.parametrize("cluster", [1, 8])
def test_the_old_log_of_pages(tmp_path: Path, cluster: int) -> None:
    hive = made_hive([1, 2, 3], 8, 7, written=55)
    pages = in_pages(BIN, one_bin(BIN, 6)) + in_pages(TWO, one_bin(TWO, 7))
    log = page_log(7, 7, 3 * BIN, pages, written=55, cluster=cluster)
    done = replayed(tmp_path, hive, log + bytes(512))
    assert fills(done) == [1, 6, 7]
    assert number(done) == 8
    # a log that was being written itself, one of another write, one that is cut off
    for bad in (
        page_log(8, 7, 3 * BIN, pages, written=55, cluster=cluster),
        page_log(7, 7, 3 * BIN, pages, written=54, cluster=cluster),
        log[:-1],
    ):
        assert refused(tmp_path, hive, bad) == "hive-log-missing"
        assert fills(replayed(tmp_path, hive, bad, log)) == [1, 6, 7]


def test_the_old_log_with_a_lost_base_block(tmp_path: Path) -> None:
    hive = bytearray(made_hive([1, 2], 8, 7, written=55))
    hive[5] ^= 1
    pages = in_pages(BIN, one_bin(BIN, 6))
    done = replayed(tmp_path, bytes(hive), page_log(7, 7, TWO, pages, written=55))
    assert fills(done) == [1, 6]
    assert refused(tmp_path, bytes(hive), page_log(7, 7, TWO, pages, 56)) == "hive-log-missing"


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_a_broken_log_never_gives_a_mixture(data: st.DataObject) -> None:
    """Whatever happens to the log: what comes out is the hive after some entry, or an error."""
    hive = made_hive([1, 2], 8, 7)
    log = bytearray(
        entry_log(7, TWO, [change(7 + at, 10 + at, place=at % 2 * BIN) for at in range(4)])
    )
    states = [[10, 2], [10, 11], [12, 11], [12, 13]]
    for _ in range(data.draw(st.integers(1, 4))):
        log[data.draw(st.integers(0, len(log) - 1))] = data.draw(st.integers(0, 255))
    del log[data.draw(st.integers(0, len(log))) :]
    try:
        replay = plan_replay("SYSTEM", hive[: SIZE + BIN], len(hive), [bytes(log)])
    except NotfallError as error:
        assert error.code in ("hive-log-damaged", "hive-log-missing")
        return
    assert fills(carried_out(hive, replay)) in states


def carried_out(hive: bytes, replay: Replay) -> bytes:
    new = bytearray(hive)
    for place, page in replay.pages:
        new[SIZE + place : SIZE + place + len(page)] = page
    return bytes(new)
