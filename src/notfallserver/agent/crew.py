"""A few threads that stand ready and work through tasks together.

They are started once, before any freeze, and reused; tasks are taken one by one from an iterator,
so nothing is queued up and memory is bounded by what each thread holds.
"""

from __future__ import annotations

import threading
from typing import Any, Callable, Iterable, Iterator, Optional, Tuple

STACK = 512 * 1024


class Crew:
    """``work`` gets the thread's number (0 to ``size`` - 1) and the task."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._state = threading.Condition()
        self._tasks: Iterator[Any] = iter(())
        self._work: Callable[[int, Any], None] = _nothing
        self._round = 0
        self._busy = 0
        self._over = True  # no task of this round is left
        self._closed = False
        self._error: Optional[BaseException] = None
        before = threading.stack_size(STACK)
        try:
            for number in range(self.size):
                threading.Thread(target=self._live, args=(number,), daemon=True).start()
        finally:
            threading.stack_size(before)

    def each(
        self,
        tasks: Iterable[Any],
        work: Callable[[int, Any], None],
        tick: Optional[Callable[[], None]] = None,
    ) -> None:
        """Do all tasks; ``tick`` is called about once a second. The first error ends it."""
        with self._state:
            self._tasks, self._work, self._error = iter(tasks), work, None
            self._busy, self._over = self.size, False
            self._round += 1
            self._state.notify_all()
        try:
            while not self._idle(1.0):
                if tick is not None:
                    tick()
        except BaseException:
            self._give_up(None)
            raise
        if self._error is not None:
            raise self._error

    def _idle(self, seconds: float) -> bool:
        with self._state:
            return self._state.wait_for(lambda: not self._busy, seconds)

    def _give_up(self, error: Optional[BaseException]) -> None:
        with self._state:
            self._tasks = iter(())
            self._error = self._error or error
            self._end_round()

    def _end_round(self) -> None:
        self._over = True
        self._state.notify_all()

    def _live(self, number: int) -> None:
        seen = 0
        while True:
            with self._state:
                self._state.wait_for(lambda at=seen: self._closed or self._round > at)  # type: ignore[misc]
                if self._closed:
                    return
                seen = self._round
            self._drain(number)
            with self._state:
                self._busy -= 1
                self._state.notify_all()

    def _drain(self, number: int) -> None:
        while True:
            try:
                task = self._take()
                if task is None:
                    return
                self._work(number, task[0])
            except BaseException as error:
                self._give_up(error)
                return

    def _take(self) -> Optional[Tuple[Any]]:
        """The next task; None when there is none left in this round."""
        with self._state:
            if not self._over:
                for task in self._tasks:
                    return (task,)
                self._end_round()
            return None

    def rest(self, seconds: float) -> None:
        """After an error: wait until everybody has ended the task under way."""
        self._give_up(None)
        self._idle(seconds)

    def close(self) -> None:
        with self._state:
            self._closed = True
            self._tasks = iter(())
            self._end_round()


def _nothing(_number: int, _task: Any) -> None:
    """No work yet."""
