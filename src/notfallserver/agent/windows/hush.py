"""The one card by which a machine that is off the network asks its server (``quiet.py`` says how
it is made so).

Whatever Windows refuses, or shows of it that it should not have, ends it: then all cards are off,
and nobody is asked.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Callable, Tuple

from notfallserver.agent.stop import Stop
from notfallserver.agent.windows import quiet as rules
from notfallserver.agent.windows.apart import Apart, Notebook, Quiet
from notfallserver.agent.windows.asking import all_near
from notfallserver.agent.windows.cards import STEP_S, Cards
from notfallserver.agent.windows.system import Refused, System
from notfallserver.wire.errors import NotfallError

log = logging.getLogger("notfall-agent")

_ON_STEPS = 40
_NOT_FOUND = "the emergency server is not found without an address of one's own"
_NOT_FIT = "no network card here is fit for it"
_NO_FIREWALL = "Windows' firewall is off, or obeys others only"


class Hush:
    """Of one machine; one thread works with it. Each step writes down first what it changes."""

    def __init__(
        self,
        directory: Path,
        system: System,
        stop: Stop,
        notebook: Notebook,
        cards: Cards,
        random: Callable[[int], bytes],
    ) -> None:
        self._directory = directory
        self._system = system
        self._stop = stop
        self._notebook = notebook
        self._cards = cards
        self._random = random
        self._entered = False  # this process made the card so
        self._silenced = False  # and routers give it no address

    def choose(self) -> Tuple[str, str]:
        """While all cards are on: the GUID of the one to ask by, or why there is none."""
        if not all_near(self._directory):
            return "", _NOT_FOUND
        hardware, adapters = self._cards.see()
        keys = self._cards.keys()
        chosen = rules.choose(hardware, adapters, lambda one: keys.get(one.guid.lower(), ""))
        if chosen is None:
            return "", _NOT_FIT
        if not rules.firewall_acts(self._system.setting):
            return "", _NO_FIREWALL
        return chosen.guid, ""

    def keep(self, apart: Apart) -> Apart:
        """Called again and again while the other cards are off."""
        if apart.refused:
            if apart.quiet is not None:  # it could not be ended yet
                return self._refuse(apart, apart.refused)
            return apart
        if apart.quiet is None:
            return self._begin(apart)
        if not self._entered:
            return self._enter(apart, apart.quiet)
        return self._checked(apart, apart.quiet)

    def segment(self, apart: Apart) -> int:
        """The index of the segment on which a server can be asked now; 0: on none."""
        if apart.quiet is None or apart.refused:
            return 0
        seen = self._cards.seen(apart.quiet.guid)
        if seen is None or not seen.up or rules.fault(apart.quiet, seen):
            return 0
        return seen.index

    # -- making it quiet -------------------------------------------------------------------------

    def _begin(self, apart: Apart) -> Apart:
        key = self._cards.keys().get(apart.asks.lower(), "")
        if not key or self._cards.reaching_out():
            return apart  # it is not there (any more), or not all are off yet
        disguise = rules.disguise_of(self._random(7))
        place = rules.TCPIP.format(apart.asks)
        names = [name for name, _ in rules.parked_values(disguise.parked)]
        try:
            saved = tuple((name, self._system.value(place, name)) for name in names)
            own = self._system.value(key, rules.MAC_VALUE)
        except Refused as error:
            return self._notebook.write(replace(apart, refused=str(error)))
        quiet = Quiet(apart.asks, disguise.mac, disguise.parked, key, own, saved)
        written = self._notebook.write(replace(apart, quiet=quiet))
        if not self._notebook.kept:  # nothing was done yet, and nothing may be
            return self._notebook.write(replace(apart, refused="it can't be written down"))
        return self._enter(written, quiet)

    def _enter(self, apart: Apart, quiet: Quiet) -> Apart:
        """Also where an agent was killed at it: everything is done once more, on a card that is
        off."""
        place = rules.TCPIP.format(quiet.guid)
        try:
            self._cards.switch_off(quiet.guid)
            if not self._cards.await_off({quiet.guid}):
                raise Refused(0, f"{self._cards.name(quiet.guid)} can't be switched off")
            self._cards.try_to(rules.DROP_RULES)
            for command in rules.rules(all_near(self._directory)):
                self._system.netsh(*command)
            for name, value in rules.parked_values(quiet.parked):
                self._system.set_value(place, name, value)
            self._system.set_value(quiet.key, rules.MAC_VALUE, rules.mac_value(quiet.mac))
            self._entered, self._silenced = True, False
            self._system.netsh(*rules.switch(self._cards.name(quiet.guid), True))
        except Refused as error:
            return self._refuse(apart, str(error))
        for _ in range(_ON_STEPS):
            apart = self._checked(apart, quiet)
            seen = self._cards.seen(quiet.guid)
            if apart.refused or (seen is not None and seen.up and rules.has_link_local(seen)):
                return apart
            self._stop.wait(STEP_S)
        if seen is not None and seen.up:
            return self._refuse(apart, "it has no IPv6")
        return apart  # its cable may be out

    def _checked(self, apart: Apart, quiet: Quiet) -> Apart:
        """Refused where the card is not as quiet as it must be."""
        seen = self._cards.seen(quiet.guid)
        if seen is None:
            return apart
        if not self._silenced and seen.index:
            self._silenced = self._cards.try_to(rules.no_routers(seen.index))
        wrong = rules.fault(quiet, seen)
        if not wrong and not rules.firewall_acts(self._system.setting):
            wrong = _NO_FIREWALL
        return self._refuse(apart, wrong) if wrong else apart

    # -- ending it -------------------------------------------------------------------------------

    def _refuse(self, apart: Apart, why: str) -> Apart:
        """The card is off as well from now on, with its own settings."""
        if not apart.refused:
            log.warning("the emergency server can't be asked while this machine is off (%s)", why)
        apart = self._notebook.write(replace(apart, refused=why))
        try:
            return self.end(apart)
        except NotfallError as error:
            log.info("%s", error)
            return apart

    def end(self, apart: Apart) -> Apart:
        """The card is off, and has its own settings again; those that a person set meanwhile stay.
        ``not-given-back`` where that can't be: then it must be tried again."""
        quiet = apart.quiet
        if quiet is None:
            return apart
        place = rules.TCPIP.format(quiet.guid)
        self._cards.switch_off(quiet.guid)
        self._cards.await_off({quiet.guid})
        try:
            if rules.is_ours(quiet, self._system.value(place, rules.ADDRESS_VALUE)):
                for name, value in rules.back_again(quiet.addresses):
                    self._system.set_value(place, name, value)
            if rules.is_our_mac(quiet, self._system.value(quiet.key, rules.MAC_VALUE)):
                self._system.set_value(quiet.key, rules.MAC_VALUE, quiet.own_mac)
            self._drop_rules()
        except Refused as error:
            raise NotfallError(
                "not-given-back",
                f"Not all of a network card's settings could be given back ({error}).",
                "Try again: notfall-agent.exe unfence. The agent does so by itself as well.",
            ) from None
        self._entered = False
        return self._notebook.write(replace(apart, quiet=None))

    def _drop_rules(self) -> None:
        self._cards.try_to(rules.DROP_RULES)
        try:
            self._system.netsh(*rules.SHOW_RULES)
        except Refused:
            return  # there is none any more
        raise Refused(0, "the firewall's rules are still there")
