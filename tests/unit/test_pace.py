"""The agent's restraint: rates that threads keep together, the line's gauge, pauses, priorities."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from notfallserver.agent import gentle
from notfallserver.agent.bucket import Bucket
from notfallserver.agent.calm import LISTEN_EVERY_S, Calm, Look, look
from notfallserver.agent.gauge import LineGauge
from notfallserver.agent.pace import PIECE, Pace
from notfallserver.wire.allowance import Allowance
from notfallserver.wire.errors import NotfallError


def test_threads_keep_a_rate_together_and_a_change_acts_at_once() -> None:
    bucket = Bucket(1_000_000)
    taken = [0, 0, 0]
    over = threading.Event()

    def work(number: int) -> None:
        while not over.is_set():
            bucket.take(20_000)
            taken[number] += 20_000

    threads = [threading.Thread(target=work, args=(one,)) for one in range(3)]
    for thread in threads:
        thread.start()
    rates = []
    for rate in (1_000_000, 4_000_000):
        bucket.set_rate(rate)
        began, before = time.monotonic(), sum(taken)
        time.sleep(1)
        rates.append((sum(taken) - before) / (time.monotonic() - began))
    over.set()
    bucket.set_rate(0)
    for thread in threads:
        thread.join()
    assert 0.8e6 < rates[0] < 1.2e6
    assert 3.2e6 < rates[1] < 4.8e6


def test_a_large_piece_is_paid_back_and_closing_ends_the_wait() -> None:
    bucket = Bucket(100_000)
    time.sleep(0.01)
    bucket.take(1 << 30)  # into debt, at once
    failed: list[str] = []

    def wait() -> None:
        try:
            bucket.take(1)
        except NotfallError as error:
            failed.append(error.code)

    thread = threading.Thread(target=wait)
    thread.start()
    thread.join(0.1)
    assert thread.is_alive()
    bucket.close()
    thread.join(2)
    assert failed == ["cancelled"]


def test_pieces_are_the_body_and_small_on_a_limited_line() -> None:
    body = [b"head", os.urandom(3 * PIECE + 5)]
    pace = Pace()
    free = list(pace.pieces(body))
    assert b"".join(free) == b"".join(body) and len(free) == 2
    pace.allow(Allowance(rate=1e9))
    limited = list(pace.pieces(body))
    assert b"".join(limited) == b"".join(body)
    assert max(len(one) for one in limited) == PIECE


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_the_gauge_counts_overlapping_sendings_once() -> None:
    clock = Clock()
    gauge = LineGauge(clock)
    assert gauge.rate() == 0
    with gauge.sending():
        clock.now = 1
        with gauge.sending():
            gauge.passed(3 << 20)
            clock.now = 2
        clock.now = 3
    clock.now = 100  # nothing was sent
    gauge.passed(1 << 30)  # small requests alone don't count
    assert gauge.rate() == pytest.approx(1 << 20)


def test_the_gauge_forgets_what_is_long_ago() -> None:
    clock = Clock()
    gauge = LineGauge(clock)
    for rate in (10e6, 1e6):
        for _ in range(120):
            with gauge.sending():
                clock.now += 1
                gauge.passed(int(rate))
    assert gauge.rate() == pytest.approx(1e6, rel=0.1)
    gauge.restart()
    assert gauge.rate() == 0


def test_until_the_line_is_measured_the_last_run_and_the_limit_tell() -> None:
    pace = Pace()
    pace.expect("much")
    assert pace.line_rate() == 0
    pace.expect(5e6)
    assert pace.line_rate() == 5e6
    pace.allow(Allowance(rate=1e6))
    assert pace.line_rate() == 1e6


def looks(*shares: float, load: float = 0) -> list[Look]:
    """One a second; ``shares`` in percent of the time in which somebody waits."""
    found, waited = [Look(0.0, load, 0)], 0
    for share in shares:
        waited += int(share * 10_000)
        found.append(Look(found[-1].at + 1, load, waited))
    return found


def test_a_high_load_pauses_until_it_is_over_or_the_pauses_are_used_up() -> None:
    calm, limit = Calm(), Allowance(pause_load=4, pause_s=5)
    assert calm.judge(Look(0, 3.9, None), limit) == ""
    assert calm.judge(Look(1, 4.1, None), limit) == "load"
    assert calm.judge(Look(2, 9, None), limit) == "load"
    assert calm.judge(Look(3, 1, None), limit) == ""
    held = [calm.judge(Look(4 + one, 9, None), limit) for one in range(10)]
    assert held == ["load"] * 3 + [""] * 7
    assert Calm().judge(Look(0, 99, None), Allowance()) == ""


def test_pressure_is_measured_while_we_hold_still() -> None:
    calm, limit = Calm(), Allowance(pause_pressure=30, pause_s=600)
    told = [calm.judge(one, limit) for one in looks(50, 40, 10, 90, 90)]
    # First it listens; others wait 50 and 40 %, then 10: it goes on, and its own reading counts
    # for nothing.
    assert told == ["listen", "pressure", "pressure", "", "", ""]
    assert calm.judge(Look(3 + LISTEN_EVERY_S - 1, 0, 10**7), limit) == ""
    assert calm.judge(Look(3 + LISTEN_EVERY_S, 0, 10**7), limit) == "listen"
    assert calm.judge(Look(4 + LISTEN_EVERY_S, 0, 10**7), limit) == ""


def test_listening_is_no_pause_and_an_end_is_guaranteed_under_pressure() -> None:
    calm, limit = Calm(), Allowance(pause_pressure=30, pause_s=4)
    told = [calm.judge(one, limit) for one in looks(*[100] * 9)]
    assert told == ["listen"] + ["pressure"] * 4 + [""] * 5


def test_a_kernel_that_counts_no_pressure_is_never_under_it() -> None:
    limit = Allowance(pause_pressure=30, pause_s=600)
    assert Calm().judge(Look(0, 0, None), limit) == ""
    assert look(1.0).at == 1.0


def test_a_pause_holds_readers_and_ends_with_the_hot_pass() -> None:
    pace = Pace(lambda now: Look(now, 99, None))
    pace.allow(Allowance(pause_load=1, pause_s=600))
    assert pace.watch(hot=True) == "load"
    reader = threading.Thread(target=pace.before_reading, args=(1,))
    reader.start()
    reader.join(0.2)
    assert reader.is_alive()
    assert pace.watch(hot=False) == ""
    reader.join(2)
    assert not reader.is_alive()


def priorities() -> dict[int, int]:
    tasks = [int(one.name) for one in Path("/proc/self/task").iterdir()]
    return {one: os.getpriority(os.PRIO_PROCESS, one) for one in tasks}


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_hurrying_lifts_all_threads_and_puts_them_back() -> None:
    over = threading.Event()
    thread = threading.Thread(target=over.wait)
    thread.start()
    before = priorities()
    with gentle.hurry():
        assert set(priorities().values()) == {-10}
    assert priorities() == before
    over.set()
    thread.join()
