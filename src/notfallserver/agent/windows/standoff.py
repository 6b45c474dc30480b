"""An original keeps off the network on Windows while its stand-in works.

The agent asks as soon as its service starts (:meth:`Standoff.begin`), and hears it as an order
later. Windows' network is up by then: what holds off earlier on Linux is not to be had here, see
``docs/guard.md``. Going off is switching the cards off (``cards.py``), which takes nothing from
their settings; ``hush.py`` asks the server nevertheless. ``apart.json`` comes first, always.

It ends when all servers say that there is no stand-in any more, by a restart of Windows, which asks
anew, or by a person's word (``unfence``).
"""

from __future__ import annotations

import logging
import os
import threading
from dataclasses import replace
from pathlib import Path
from typing import Callable, List, Optional, Protocol, Sequence

from notfallserver.agent.role import role
from notfallserver.agent.stop import Stop
from notfallserver.agent.windows import signs
from notfallserver.agent.windows.adapters import Adapter
from notfallserver.agent.windows.apart import ORDER, UNKNOWN, Apart, Held, Notebook
from notfallserver.agent.windows.boot import boot_id
from notfallserver.agent.windows.cards import Cards
from notfallserver.agent.windows.hush import Hush
from notfallserver.agent.windows.system import Refused, System
from notfallserver.wire.errors import NotfallError

log = logging.getLogger("notfall-agent")

EVERY_S = 10.0
PATIENCE = 30
"""So many times the server is asked after a restart of Windows, before the network comes back."""
_BACK = 3
"""So many times cards are switched on again."""
_LOOKS = 30
"""So many times, a second apart, a server is looked for when the network has just come back."""
_BYE_S = 1.0


class Asks(Protocol):
    """What :class:`~notfallserver.agent.windows.asking.Asking` does."""

    def by_own_addresses(self, indexes: Sequence[int]) -> Optional[bool]: ...

    def without(self, index: int, because: str) -> Optional[bool]: ...

    def say_goodbye(self, because: str) -> None: ...


class Standoff:
    """One per machine; one thread keeps it off the network, others go on meanwhile."""

    def __init__(
        self,
        directory: Path,
        system: System,
        stop: Stop,
        asking: Asks,
        random: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._directory = directory
        self._system = system
        self._stop = stop
        self._asking = asking
        self._notebook = Notebook(directory)
        self._cards = Cards(system, stop)
        self._hush = Hush(directory, system, stop, self._notebook, self._cards, random)
        self._at_it = threading.Lock()
        self._swept = False  # cards without a link were switched off as well
        self._told = ""

    # -- what the agent calls --------------------------------------------------------------------

    @property
    def off(self) -> bool:
        return self._notebook.read() is not None

    def begin(self) -> None:
        """Before the agent does anything else. Returns when this machine is on the network."""
        apart = self._notebook.read()
        primary = role(self._directory) == "primary"
        if apart is None:
            if primary and self._ask_by_own():
                self.stay_off()
            return
        with self._at_it:
            if apart.returning or not primary:
                self._come_back(apart)
            elif apart.boot == self._mark():
                self._keep(apart)
            else:
                self._start_anew(apart)
        if primary and self._look():
            self.stay_off()

    def stay_off(self) -> bool:
        """The server's order. Returns when the network is back; False if it can't be left: then
        the server must hear that."""
        if not self._at_it.acquire(blocking=False):
            return True  # another server's thread is at it
        try:
            apart = self._notebook.read()
            apart = self._begun() if apart is None else replace(apart, returning=False)
            apart = self._hold(apart)
            if on := self._on(apart):
                self._tell_once(signs.STAYS.format(cards=", ".join(one.name for one in on)))
                return False
            self._keep(apart)
            return True
        finally:
            self._at_it.release()

    def settle(self) -> None:
        """Between two polls: go on with what could not be done."""
        apart = self._notebook.read()
        if apart is not None and not apart.returning:
            self.stay_off()

    def unfence(self, force: bool) -> str:
        """On a person's word, while the service does not run; what to tell the person."""
        apart = self._notebook.read()
        if apart is None:
            return "This machine is not kept off the network."
        if not force and not apart.returning and self._ask(apart) is True:
            raise NotfallError(
                "stand-in-answers",
                "The stand-in of this machine works, as its emergency server says. Two of them "
                "would damage data.",
                "End the stand-in on the emergency server first ('notfall undo NAME'). In spite "
                "of it: notfall-agent.exe unfence --force",
            )
        apart = self._notebook.write(replace(apart, returning=True))
        self._give_back(self._hush.end(apart))
        return "The network comes up."

    def let_go(self) -> str:
        """The agent is removed from this machine: settings are as they were, cards stay off. What
        to tell the person; empty where nothing was."""
        apart = self._notebook.read()
        if apart is None:
            return ""
        apart = self._hush.end(apart)
        self._notebook.forget()
        return self._by_hand(apart)

    # -- going off, and staying so ---------------------------------------------------------------

    def _begun(self) -> Apart:
        """Written down, before anything is done."""
        asks, refused = self._hush.choose()
        if refused:
            self._say_goodbye()  # there will be no other way to tell
        return self._notebook.write(Apart(ORDER, self._mark(), asks=asks, refused=refused))

    def _say_goodbye(self) -> None:
        """Not for long: until it is over, there are two."""
        thread = threading.Thread(target=self._asking.say_goodbye, args=(ORDER,), daemon=True)
        thread.start()
        thread.join(_BYE_S)

    def _keep(self, apart: Apart) -> None:
        """Returns when the network is back."""
        while True:
            apart = self._hold(apart)
            self._tell_once(signs.off([one.name for one in apart.cards], apart.refused))
            if self._ask(apart) is False:
                log.warning(signs.OVER)
                self._come_back(apart)
                return
            self._stop.wait(EVERY_S)

    def _start_anew(self, apart: Apart) -> None:
        """Windows was restarted: as on Linux that asks anew, and silence lets it come back. But it
        was off for a reason, so the server gets a while to start as well."""
        refused = apart.refused if apart.refused == UNKNOWN or not apart.asks else ""
        apart = replace(apart, boot=self._mark(), refused=refused)
        apart = self._notebook.write(apart)
        stay: Optional[bool] = None
        for _ in range(PATIENCE):
            apart = self._hold(apart)
            stay = self._ask(apart)
            if stay is True:
                self._keep(apart)
                return
            if stay is False or apart.refused:
                break
            self._stop.wait(EVERY_S)
        log.warning(signs.ALONE if stay is None else signs.OVER)
        self._come_back(apart)

    def _hold(self, apart: Apart) -> Apart:
        """Every card off, also one that came or was switched on meanwhile, but the quiet one."""
        late = self._on(apart)
        if not self._swept:  # those that are about to get a link must not wait for the next look
            late += [one for one in self._cards.see()[0] if one not in late and not one.up]
            self._swept = True
        if late:
            apart = self._switch_off(apart, late)
        return self._hush.keep(apart)

    def _on(self, apart: Apart) -> List[Adapter]:
        """What must be switched off."""
        spared = apart.quiet.guid if apart.quiet is not None and not apart.refused else ""
        return [one for one in self._cards.reaching_out() if one.guid != spared]

    def _switch_off(self, apart: Apart, late: Sequence[Adapter]) -> Apart:
        known = {one.guid for one in apart.cards}
        new = [Held(one.guid, one.name) for one in late if one.guid not in known]
        apart = self._notebook.write(replace(apart, cards=(*apart.cards, *new)))
        for one in late:
            log.warning("%s is switched off", one.name)
            self._cards.switch_off(one.guid, one.name)
        self._cards.await_off({one.guid for one in late})
        return apart

    # -- coming back -----------------------------------------------------------------------------

    def _come_back(self, apart: Apart) -> None:
        self._swept = False
        apart = self._notebook.write(replace(apart, returning=True))
        tries = 0
        while tries < _BACK:
            try:
                apart = self._hush.end(apart)
                tries += 1
                self._give_back(apart)
                return
            except NotfallError as error:
                self._tell_once(str(error))
            self._stop.wait(EVERY_S)
        # A card that is not there any more is no reason to wait for ever.
        log.error("%s", self._by_hand(apart))
        self._notebook.forget()

    def _give_back(self, apart: Apart) -> None:
        cards = self._held(apart)
        for one in cards:
            self._cards.switch_on(one.guid, one.name)
        off = self._cards.await_on({one.guid for one in cards})
        if off:
            names = ", ".join(one.name for one in cards if one.guid in off)
            raise NotfallError(
                "not-given-back",
                f"Not all network cards could be given back: {names}.",
                "Switch them on in Network Connections (ncpa.cpl), or restart Windows.",
            )
        self._notebook.forget()

    def _held(self, apart: Apart) -> List[Held]:
        """Those to switch on: all that Windows knows, where it is not known which were on."""
        if apart.refused != UNKNOWN:
            return list(apart.cards)
        return [Held(one.upper(), self._cards.name(one)) for one in self._cards.known()]

    def _by_hand(self, apart: Apart) -> str:
        names = ", ".join(self._cards.name(one.guid, one.name) for one in self._held(apart))
        return signs.BY_HAND.format(cards=names)

    # -- asking ----------------------------------------------------------------------------------

    def _ask(self, apart: Apart) -> Optional[bool]:
        """Whether to stay off; None where nobody can be asked."""
        index = self._hush.segment(apart)
        return self._asking.without(index, apart.because) if index else None

    def _ask_by_own(self) -> Optional[bool]:
        indexes = [one.index for one in self._cards.reaching_out() if one.index]
        return self._asking.by_own_addresses(indexes)

    def _look(self) -> bool:
        """Just back on the network, which takes a while to come up."""
        for _ in range(_LOOKS):
            told = self._ask_by_own()
            if told is not None:
                return told
            self._stop.wait(1.0)
        return False

    def _mark(self) -> str:
        """Of this start of Windows."""
        try:
            return self._system.boot_mark()
        except Refused as error:
            log.warning("%s", error)
            return boot_id(self._system)

    def _tell_once(self, text: str) -> None:
        if text != self._told:
            log.error("%s", text)
        self._told = text
