"""The thread that tells people: looks, decides, puts letters into the outbox, has them sent.

Sending goes on in a thread for each receiver, so that one that does not answer holds up nobody
else. What could not be sent is tried again, less and less often, for :data:`KEPT`; letters that
gathered meanwhile are one message then. A letter may arrive twice when the server is killed
between sending and noting it, but never not at all.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Generic, TypeVar

from notfallserver.server.records import Catalogue
from notfallserver.server.records.outbox import Letter, Waiting
from notfallserver.server.records.receivers import Kind, Receiver
from notfallserver.server.tell.address import is_mail
from notfallserver.server.tell.carrier import Outcome, send
from notfallserver.server.tell.decide import decide, summary_due, told_of, wanted
from notfallserver.server.tell.notice import Look, Message, Notice, Reporter

log = logging.getLogger(__name__)
L = TypeVar("L", bound=Look)

EVERY_S = 5.0
KEPT = timedelta(days=3)
FIRST_WAIT, LONGEST_WAIT = timedelta(seconds=30), timedelta(hours=1)
MOST_PAPER = 8 << 20
"""Bytes of reports in one mail: what nearly every mailbox takes."""
TRIES_WITH_PAPERS = 6
"""About half an hour."""
ENDS_S = 5.0
"""At the server's end, sending gets so long to come to its own."""


class Teller(Generic[L]):
    """One per server; ``papers`` is where the reports that go along lie."""

    def __init__(self, catalogue: Catalogue, reporter: Reporter[L], papers: Path) -> None:
        self._catalogue = catalogue
        self._reporter = reporter
        self._papers = papers
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="teller", daemon=True)
        self._sending: dict[str, threading.Thread] = {}

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout=10)
        for thread in self._sending.values():
            thread.join(timeout=ENDS_S)

    def test(self, receiver: Receiver) -> Outcome:
        """Send a test message now; takes as long as the other side."""
        message = self._reporter.greet(receiver.language)
        outcome = send(self._catalogue.receivers.address(receiver.id), message, Kind.GOOD)
        self._note(receiver.id, outcome)
        return outcome

    def _loop(self) -> None:
        while not self._stopping.wait(EVERY_S):
            try:
                self.look()
                self.deliver()
            except Exception:
                log.exception("telling people failed")

    # -- deciding --------------------------------------------------------------------------------

    def look(self) -> None:
        """Look once, and put what is to be told into the outbox."""
        present = self._reporter.look()
        if present is None:
            return
        now = datetime.now(UTC)
        outbox = self._catalogue.outbox
        known, mark = outbox.troubles(), outbox.mark()
        decision = decide(present.seen, known, present.hushed, now)
        happened, until = self._happened(mark, now)
        notices = [*decision.notices, *happened]
        letters: list[Letter] = []
        summed_up: list[str] = []
        for receiver in self._catalogue.receivers.all():
            told = wanted(notices, receiver.kinds)
            if told:
                message = self._reporter.write(receiver.language, told, present)
                letters.append(_letter(receiver, message, told[0].kind))
            if summary_due(receiver.summary, receiver.summed_up_at, now.astimezone()):
                message = self._reporter.sum_up(receiver.language, present)
                letters.append(_letter(receiver, message, Kind.GOOD))
                summed_up.append(receiver.id)
        if letters or until != mark or decision.standing != tuple(known):
            outbox.tell(decision.standing, until, letters, summed_up)

    def _happened(self, mark: int, now: datetime) -> tuple[list[Notice], int]:
        names = {one.uuid: one.name for one in self._catalogue.primaries.all()}
        found = []
        for entry in self._catalogue.journal.since(mark):
            mark = entry.id
            name = names.get(entry.primary or "", str(entry.details.get("name", "")))
            notice = told_of(entry, self._reporter.event(entry.event), name, now)
            if notice is not None:
                found.append(notice)
        return found, mark

    # -- sending ---------------------------------------------------------------------------------

    def deliver(self) -> None:
        """Begin to send what is due."""
        self._sending = {key: one for key, one in self._sending.items() if one.is_alive()}
        for receiver, letters in self._catalogue.outbox.due(datetime.now(UTC)).items():
            if receiver not in self._sending:
                thread = threading.Thread(
                    target=self._send, args=(receiver, letters), name="sending", daemon=True
                )
                self._sending[receiver] = thread
                thread.start()

    def _send(self, receiver: str, letters: Sequence[Waiting]) -> None:
        try:
            url = self._catalogue.receivers.address(receiver)
            message, kind = bundle([one.letter for one in letters])
            tries = max(one.tries for one in letters)
            there = whats_there(self._papers, message.papers) if takes_papers(url, tries) else {}
            outcome = send(url, message, kind, there)
            self._note(receiver, outcome)
            if outcome.sent:
                self._catalogue.outbox.taken(letters)
                return
            now = datetime.now(UTC)
            old = [one for one in letters if now - one.written_at > KEPT]
            if old:
                self._catalogue.outbox.taken(old)
                name = self._catalogue.receivers.find(receiver).name
                self._catalogue.journal.write(
                    None, "notices-lost", "server", details={"name": name, "count": len(old)}
                )
            left = [one for one in letters if one not in old]
            if left:
                wait = waiting_time(max(one.tries for one in left))
                self._catalogue.outbox.put_off(left, now + wait)
        except Exception:  # the receiver may be gone meanwhile, or the server ends
            log.warning("a notice could not be sent now", exc_info=not self._stopping.is_set())

    def _note(self, receiver: str, outcome: Outcome) -> None:
        if outcome.sent:
            self._catalogue.receivers.arrived(receiver)
        else:
            self._catalogue.receivers.failed(receiver, outcome.answer)


def waiting_time(tries: int) -> timedelta:
    """How long to wait after so many tries before."""
    return min(FIRST_WAIT * (1 << min(tries, 12)), LONGEST_WAIT)


def takes_papers(url: str, tries: int) -> bool:
    """Mail does, unless that may be why it was refused so often."""
    return is_mail(url) and tries < TRIES_WITH_PAPERS


def whats_there(directory: Path, papers: Mapping[str, str]) -> dict[Path, str]:
    """Those of the papers that are there, as many as a mailbox would take."""
    found, left = {}, MOST_PAPER
    for path, name in ((directory / one, name) for one, name in papers.items()):
        size = path.stat().st_size if path.is_file() else MOST_PAPER
        if size < left:
            found[path] = name
            left -= size
    return found


def bundle(letters: Sequence[Letter]) -> tuple[Message, Kind]:
    """Several letters as one message: the most important gives the title."""
    order = list(Kind)
    first = min(letters, key=lambda one: order.index(one.kind))
    if len(letters) == 1:
        return Message(first.title, first.body, first.papers), first.kind
    papers = {path: name for one in letters for path, name in one.papers.items()}
    body = "\n\n".join(f"{one.title}\n{one.body}" for one in letters)
    return Message(f"{first.title} (+{len(letters) - 1})", body, papers), first.kind


def _letter(receiver: Receiver, message: Message, kind: Kind) -> Letter:
    return Letter(receiver.id, message.title, message.body, kind, message.papers)
