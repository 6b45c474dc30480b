"""A machine that is replicated to two receivers, and what can go wrong with one of them."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from agent_receiver import Receiver

from notfallserver.agent.changes.keeping import remove_traces
from notfallserver.agent.outcome import Outcome
from notfallserver.agent.place import Place
from notfallserver.agent.servers import known_servers
from notfallserver.agent.service import Service
from notfallserver.agent.stop import Stop

PATIENCE = 120
"""Seconds after which a test gives up; nothing depends on it."""


WAITING = "waiting for other work"
"""The phase of a run that is ready to freeze and waits for the other."""


class Door:
    """Stands before a receiver; what a test makes of it may hold a message up, or cut it."""

    def __init__(self, receiver: Receiver) -> None:
        self._answer = receiver.answer
        self._before: Callable[[str], None] = _nothing
        receiver.answer = self._pass  # type: ignore[method-assign]

    def _pass(self, path: str, body: bytes) -> bytes:
        what = path.rsplit("/", maxsplit=1)[-1]
        self._before(f"{what} {json.loads(body)['phase']}" if what == "progress" else what)
        return self._answer(path, body)

    def before(self, act: Callable[[str], None]) -> None:
        """From now on called with each message's last word, and the phase if it tells one."""
        self._before = act

    def open(self) -> None:
        self._before = _nothing


def _nothing(_what: str) -> None:
    """All messages pass."""


class Hanging:
    """A server that takes messages and never answers, from the message ``what`` on.

    ``after``: not before this has happened. At the end all that hang are cut.
    """

    def __init__(self, door: Door, what: str, after: threading.Event | None = None) -> None:
        self._what, self._after = what, after
        self.hangs = threading.Event()
        self._over = threading.Event()
        door.before(self._before)

    def _before(self, what: str) -> None:
        if what == self._what and (self._after is None or self._after.is_set()):
            self.hangs.set()
        if self.hangs.is_set():
            assert self._over.wait(PATIENCE)
            raise ConnectionError

    def end(self) -> None:
        self._over.set()


class Two:
    """One agent, two receivers; the first one has the agent's settings."""

    def __init__(self, first: Receiver, second: Receiver) -> None:
        self.receivers = (first, second)
        self.doors = (Door(first), Door(second))
        own = first.config / "servers" / "second"
        own.mkdir(parents=True)
        for name in ("ca.pem", "cert.pem", "key.pem"):
            shutil.copy(second.config / name, own / name)
        told = {"url": second.url, "primary": second.uuid}
        (own / "agent.json").write_text(json.dumps(told))
        self.config = first.config
        self.service = Service(self.config, Stop())

    def begin(self) -> tuple[Running, Running]:
        """A run for each; neither goes on before both have begun."""
        begun = threading.Barrier(2)

        def await_other(what: str) -> None:
            if what == "runs":
                begun.wait(PATIENCE)

        for door in self.doors:
            door.before(await_other)
        return self.start(0), self.start(1)

    def together(self) -> tuple[Outcome, Outcome]:
        """A run for each, begun at the same time."""
        one, other = self.begin()
        outcomes = one.outcome(), other.outcome()
        for door in self.doors:
            door.open()
        return outcomes

    def start(self, number: int) -> Running:
        return Running([self.service.first, *self.service.others][number].replicate)

    def restart(self) -> None:
        """Another process, as far as what is known goes."""
        self.service.close()
        self.service = Service(self.config, Stop())

    def close(self) -> None:
        self.service.close()
        for one in known_servers(self.config):
            remove_traces(Place(one.directory, one.machine))


class Running:
    """A run in a thread."""

    def __init__(self, replicate: Callable[[], Outcome]) -> None:
        self._replicate = replicate
        self._result: list[Any] = []
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            self._result.append(self._replicate())
        except Exception as error:
            self._result.append(error)

    def result(self) -> Any:
        """The outcome or the error."""
        self.thread.join(PATIENCE)
        assert not self.thread.is_alive(), "it took too long"
        return self._result[0]

    def outcome(self) -> Outcome:
        result = self.result()
        if isinstance(result, Exception):
            raise result
        assert isinstance(result, Outcome)
        return result

    def error(self) -> Exception:
        result = self.result()
        assert isinstance(result, Exception), result
        return result


def another_receiver(root: Path, cleanup: ExitStack) -> Receiver:
    root.mkdir()
    receiver = Receiver(root)
    cleanup.callback(receiver.close)
    return receiver
