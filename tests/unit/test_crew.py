"""The agent's threads: who takes part, and how a round ends."""

from __future__ import annotations

import threading
import time

import pytest

from notfallserver.agent.crew import Crew


def test_all_tasks_are_done_by_the_threads_there_are() -> None:
    crew = Crew(2)
    seen: list[tuple[int, int]] = []
    crew.each(range(100), lambda number, task: seen.append((number, task)))
    assert sorted(task for _, task in seen) == list(range(100))
    assert {number for number, _ in seen} <= {0, 1}
    crew.close()


def test_all_threads_work_at_the_same_time() -> None:
    crew = Crew(3)
    together = threading.Barrier(3)

    def work(_number: int, _task: int) -> None:
        together.wait(20)  # only three threads at a time get past this

    crew.each(range(6), work)
    crew.close()


def test_the_first_error_ends_the_round_and_the_next_one_begins_anew() -> None:
    crew = Crew(2)
    done: list[int] = []

    def work(_number: int, task: int) -> None:
        if task == 3:
            raise ValueError(task)
        done.append(task)

    with pytest.raises(ValueError, match="3"):
        crew.each(range(10**9), work)
    assert len(done) < 10**6
    done.clear()
    crew.each(range(3), work)
    assert sorted(done) == [0, 1, 2]
    crew.close()


def test_an_error_of_the_tick_leaves_no_thread_waiting() -> None:
    crew = Crew(1)
    begun = threading.Event()

    def work(_number: int, _task: int) -> None:
        begun.set()
        time.sleep(0.01)

    def tick() -> None:
        raise RuntimeError("leave")

    with pytest.raises(RuntimeError, match="leave"):
        crew.each(range(10**9), work, tick)
    assert begun.is_set()
    crew.rest(10)
    crew.close()
