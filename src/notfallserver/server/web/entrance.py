"""The way in: a name and a password, and a code where the person has a second factor.

Nobody is told that a password was right before everything was: whoever has a second factor is asked
for the code whatever was typed before it, and there is one answer to a wrong password and a wrong
code. Where a second factor is a rule for everybody, every failure takes two steps, so that names
can't be told apart either.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from notfallserver.server.records import Catalogue
from notfallserver.server.web.brake import Brake, Visitor, is_marked, make_mark
from notfallserver.wire.errors import NotfallError

PATIENCE_S = 300.0
"""The code must follow the password within this time."""
CODES = 3
"""Codes that may be tried after one password."""
MOST = 1000


@dataclass(frozen=True)
class Entered:
    """Somebody is in: the session's token, and the browser's new mark ("" where it has one)."""

    token: str
    mark: str


@dataclass(frozen=True)
class CodeAsked:
    """The code is missing; ``ticket`` goes with it."""

    ticket: str


@dataclass
class _Waiting:
    """``proof``: the hash of the password that was typed if it was right, else nothing."""

    name: str
    proof: str
    until: float
    tried: int = 0


class Entrance:
    """Logins of one server; ``clock`` is monotonic, ``wall`` is the time of codes, both seconds."""

    def __init__(
        self,
        catalogue: Catalogue,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.brake = Brake(clock)
        self.wall = wall
        self._catalogue = catalogue
        self._key = catalogue.rules.device_key()
        self._clock = clock
        self._waiting: OrderedDict[str, _Waiting] = OrderedDict()
        self._lock = threading.Lock()

    def begin(self, name: str, password: str, visitor: Visitor) -> Entered | CodeAsked:
        """The first step; raises ``login-refused`` only where no second one follows."""
        last = self.brake.charge(name, visitor, self._key)
        proof = self._catalogue.people.knows(name, password)
        asked = self._catalogue.second_factor.has(name) or (
            not proof and self._catalogue.rules.second_factor_required
        )
        if last and (asked or not proof):  # as long to do, whether the password was right or not
            self._tell_braked(name, visitor)
        if asked:
            return CodeAsked(self._wait(name, proof))
        if not proof:
            raise NotfallError(
                "login-refused", "Name or password is wrong.", "Try again.", status=401
            )
        return self._let_in(name, visitor, 1)

    def prove(self, ticket: str, code: str, visitor: Visitor) -> Entered:
        """The second step: six digits from the telephone, or a code on paper."""
        with self._lock:
            waiting = self._waiting.get(ticket)
            if waiting is None or waiting.until < self._clock() or waiting.tried >= CODES:
                self._waiting.pop(ticket, None)
                raise NotfallError(
                    "login-over",
                    "This took too long, or too many codes were tried.",
                    "Begin again with name and password.",
                    status=401,
                )
            waiting.tried += 1
            tried = waiting.tried
        name = waiting.name
        # The first code is paid for by the password.
        last = tried > 1 and self.brake.charge(name, visitor, self._key)
        stands = bool(waiting.proof) and waiting.proof == self._catalogue.people.kept(name)
        if not self._catalogue.second_factor.use(name, code, self.wall(), stands):
            if last:
                self._tell_braked(name, visitor)
            raise NotfallError(
                "code-refused",
                "Name, password or code is wrong.",
                "A code is good once, and for about a minute. Take the next one.",
                status=401,
            )
        with self._lock:
            self._waiting.pop(ticket, None)
        return self._let_in(name, visitor, tried)

    def require_own_password(self, name: str, password: str, visitor: Visitor) -> None:
        """Somebody who is logged in proves it once more; whoever found the browser open can't
        guess on."""
        self.brake.charge(name, visitor, self._key)
        if not self._catalogue.people.knows(name, password):
            raise NotfallError("wrong-password", "This is not your present password.", "Try again.")
        self.brake.forgive(name, visitor, self._key)

    def _wait(self, name: str, proof: str) -> str:
        ticket = secrets.token_urlsafe(32)
        with self._lock:
            self._waiting[ticket] = _Waiting(name, proof, self._clock() + PATIENCE_S)
            if len(self._waiting) > MOST:
                self._waiting.popitem(last=False)
        return ticket

    def _let_in(self, name: str, visitor: Visitor, tries: int) -> Entered:
        self.brake.forgive(name, visitor, self._key, tries)
        marked = is_marked(name, visitor.mark, self._key)
        token = self._catalogue.sessions.open(name, visitor.address)
        return Entered(token, "" if marked else make_mark(name, self._key))

    def _tell_braked(self, name: str, visitor: Visitor) -> None:
        # What is no name may be a password that was typed into the wrong field.
        known = name if self._catalogue.people.kept(name) else ""
        details = {"name": known, "address": visitor.address}
        self._catalogue.journal.write(None, "logins-braked", "server", details=details)
