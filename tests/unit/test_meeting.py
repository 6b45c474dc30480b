"""Two runs at the frozen moment: which waits for which, and that neither is held by the other."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, cast

import pytest

from notfallserver.agent.disks.runs import merged
from notfallserver.agent.meeting import Companion, Meeting, Stage
from notfallserver.agent.moment import Still
from notfallserver.agent.passes import Passes
from notfallserver.agent.sight import Sight, worth_waiting
from notfallserver.agent.standstill import _all

STILL = cast(Still, object())


@pytest.mark.parametrize(
    ("own_s", "waited_s", "other", "waits"),
    [
        (20, 0, Sight(0, 20, 90, 100), True),  # 2 s to go
        (20, 0, Sight(0, 20, 50, 100), False),  # 20 s to go, and 5 s are the least bound
        (400, 0, Sight(0, 400, 95, 100), True),  # 21 s to go, a tenth of 400 s is the bound
        (400, 30, Sight(0, 430, 95, 100), False),  # of which 10 s are left
        (9000, 0, Sight(0, 9000, 995, 1000), True),  # 45 s
        (9000, 0, Sight(0, 9000, 99, 100), False),  # 91 s, and no bound is above a minute
        (20, 0, Sight(0, 14, 90, 100), False),  # nothing moves: it waits for its server
        (20, 0, Sight(19, 19, 0, 100), True),  # its pass has only begun
        (20, 4, Sight(0, 23, 100, 100), True),  # between two passes
        (20, 5, Sight(0, 25, 100, 100), False),
    ],
)
def test_a_run_waits_only_for_one_that_is_near_its_end(
    own_s: float, waited_s: float, other: Sight, waits: bool
) -> None:
    assert worth_waiting(0, own_s, other, own_s + waited_s) == waits


def test_a_pass_counts_as_moving_only_while_something_is_done() -> None:
    sight = Sight(0, 0).next(1, 5, 10, True)
    assert sight == Sight(1, 1, 5, 10)
    assert sight.next(2, 5, 10, False).moved == 1
    assert sight.next(2, 6, 10, False).moved == 2
    assert sight.next(2, 10, 10, False).next(3, 10, 10, False).moved == 3
    assert sight.next(2, 0, 20, True) == Sight(2, 2, 0, 20)


def test_what_two_must_read_is_read_once() -> None:
    one, other = [[(0, 4)], [(7, 1)]], [[(2, 4)], []]
    assert _all([one, other]) == [[(0, 6)], [(7, 1)]]
    assert _all([one]) == [merged(runs) for runs in one]


class Walk:
    """A run whose passes are made by the test; ``meet`` runs in a thread of its own."""

    def __init__(self, meeting: Meeting, stack: ExitStack, disks: str = "same") -> None:
        self.disks = disks
        self.read = threading.Semaphore(0)
        self.may_read = threading.Event()
        self.may_read.set()
        self.told = threading.Semaphore(0)
        self.in_tick: Callable[[], None] = lambda: None
        self.result: list[Still | None] = []
        self.error: list[BaseException] = []
        self.companion: Companion = stack.enter_context(meeting.join(cast(Passes, self)))
        self.thread = threading.Thread(target=self._meet, daemon=True)

    # -- as Passes ----

    shown: Any = None

    def like(self, other: Walk) -> bool:
        return self.disks == other.disks

    def catch_up(self) -> int:
        self.read.release()
        assert self.may_read.wait(20)
        return 0

    def enter(self, _phase: str) -> None:
        self.tick()

    def tick(self) -> None:
        self.in_tick()
        self.shown(1, 100, 100)
        self.told.release()

    # -- the test's -----

    def _meet(self) -> None:
        try:
            self.result.append(self.companion.meet())
        except BaseException as error:
            self.error.append(error)
            self.companion.leave()

    def meet(self) -> None:
        self.thread.start()

    def waits(self) -> None:
        """Return when it has told its server that it waits."""
        assert self.told.acquire(timeout=20)

    def met(self) -> Still | None:
        self.thread.join(20)
        assert not self.thread.is_alive()
        assert not self.error
        return self.result[0]


def freezes_for(walk: Walk) -> list[Any]:
    with walk.companion.together() as everybody:
        return list(everybody)


class Clock:
    """Stands still unless the test moves it."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def stack() -> Any:
    with ExitStack() as stack:
        yield stack


def pair(stack: ExitStack) -> tuple[Walk, Walk, Clock]:
    """The second leads, the first is led."""
    clock = Clock()
    meeting = Meeting(clock)
    led, leader = Walk(meeting, stack), Walk(meeting, stack)
    led.meet()
    led.waits()
    assert leader.companion.meet() is None
    assert led.companion.stage is Stage.LED
    return led, leader, clock


def test_one_alone_waits_for_nobody(stack: ExitStack) -> None:
    walk = Walk(Meeting(Clock()), stack)
    assert walk.companion.meet() is None
    assert freezes_for(walk) == [walk]


def test_runs_on_other_disks_do_not_meet(stack: ExitStack) -> None:
    meeting = Meeting(Clock())
    Walk(meeting, stack, "others")
    assert Walk(meeting, stack).companion.meet() is None


def test_the_second_freezes_for_both(stack: ExitStack) -> None:
    led, leader, _ = pair(stack)
    assert leader.companion.waited
    leader.companion.catch_up()
    assert led.read.acquire(timeout=20)
    assert leader.read.acquire(timeout=20)
    assert freezes_for(leader) == [leader, led]
    leader.companion.share(STILL)
    assert led.met() is STILL


def test_one_that_waits_goes_alone_when_it_is_not_worth_it_any_more(stack: ExitStack) -> None:
    clock = Clock()
    meeting = Meeting(clock)
    first, second = Walk(meeting, stack), Walk(meeting, stack)
    first.meet()
    first.waits()
    assert first.thread.is_alive()
    clock.now += 5
    second.tick()  # wakes it
    assert first.met() is None
    assert second.companion.meet() is None  # it is past that
    assert freezes_for(second) == [second]


def test_one_that_waits_goes_alone_when_the_other_ends(stack: ExitStack) -> None:
    clock = Clock()
    meeting = Meeting(clock)
    first, second = Walk(meeting, stack), Walk(meeting, stack)
    first.meet()
    first.waits()
    second.companion.leave()
    assert first.met() is None


def test_one_that_is_led_goes_alone_when_the_leader_fails(stack: ExitStack) -> None:
    led, leader, _ = pair(stack)
    leader.companion.part()
    assert led.met() is None


def test_one_that_is_led_goes_alone_when_the_leader_falls_silent(stack: ExitStack) -> None:
    """The leader's server hangs; but not while the leader works with what is the other's."""
    led, leader, clock = pair(stack)
    with leader.companion.together():
        clock.now += 100
        while led.told.acquire(blocking=False):
            pass
        led.waits()
        led.waits()
        assert led.thread.is_alive()
    clock.now += 10
    assert led.met() is None
    leader.companion.catch_up()  # nobody is waited for
    assert freezes_for(leader) == [leader]


def test_one_that_is_led_goes_alone_when_the_leader_is_slow(stack: ExitStack) -> None:
    """Its line is thin: it gives signs, but does not come to the freeze."""
    led, leader, clock = pair(stack)
    for _ in range(7):
        assert led.thread.is_alive()
        clock.now += 9
        leader.tick()
    assert led.met() is None


@pytest.mark.parametrize("how", ["silent", "slow"])
def test_one_that_is_not_done_in_time_is_left_behind(stack: ExitStack, how: str) -> None:
    led, leader, clock = pair(stack)
    led.may_read.clear()
    reading = threading.Thread(target=leader.companion.catch_up, daemon=True)
    reading.start()
    assert led.read.acquire(timeout=20)
    clock.now += 11 if how == "silent" else 31
    if how == "slow":
        led.shown(2, 1, 100)  # it goes on, only too slowly
    reading.join(20)
    assert not reading.is_alive()
    assert freezes_for(leader) == [leader]
    led.may_read.set()
    assert led.met() is None


def test_one_that_is_cancelled_leaves_only_after_what_is_read_for_it(stack: ExitStack) -> None:
    led, leader, _ = pair(stack)
    with leader.companion.together():

        def cancel() -> None:
            raise InterruptedError("cancelled")

        led.in_tick = cancel
        led.thread.join(1.5)
        assert led.thread.is_alive()
    led.thread.join(20)
    assert not led.thread.is_alive()
    assert [type(one) for one in led.error] == [InterruptedError]
    assert freezes_for(leader) == [leader]
