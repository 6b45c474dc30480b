"""Network cards are seen, and switched off and on, by what Windows tells and ``netsh``.

A card that is switched off is not among the adapters that Windows lists; the registry knows it.
"""

from __future__ import annotations

import logging
from typing import Dict, List, Optional, Set, Tuple

from notfallserver.agent.disks.windows import card_keys, hardware_known, known_cards
from notfallserver.agent.stop import Stop
from notfallserver.agent.windows.adapters import ETHERNET, WIRELESS, Adapter, read_adapters
from notfallserver.agent.windows.answers import BadAnswer
from notfallserver.agent.windows.quiet import Command, switch
from notfallserver.agent.windows.system import Refused, System

log = logging.getLogger("notfall-agent")

STEP_S = 0.5
_OFF_STEPS, _ON_STEPS = 10, 40
_CONNECTION = r"SYSTEM\CurrentControlSet\Control\Network\{4D36E972-E325-11CE-BFC1-08002BE10318}"


class Cards:
    """Of one machine."""

    def __init__(self, system: System, stop: Stop) -> None:
        self._system = system
        self._stop = stop

    # -- seeing ----------------------------------------------------------------------------------

    def see(self) -> Tuple[List[Adapter], List[Adapter]]:
        """The cards that are switched on, and all adapters that are."""
        try:
            found = read_adapters(*self._system.adapters())
        except (Refused, BadAnswer) as error:
            log.error("the network cards cannot be seen (%s)", error)
            return [], []
        is_hardware = hardware_known(self._system)
        like = [one for one in found if one.kind in (ETHERNET, WIRELESS)]
        cards = [one for one in like if is_hardware(one)]
        return (cards or ([] if known_cards(self._system) else like)), found

    def seen(self, guid: str) -> Optional[Adapter]:
        """None where it is switched off."""
        return next((one for one in self.see()[1] if one.guid == guid), None)

    def reaching_out(self) -> List[Adapter]:
        """All cards with a link, and whatever else has a way out (a modem)."""
        cards, found = self.see()
        return [one for one in found if one.up and (one in cards or one.gateways)]

    def keys(self) -> Dict[str, str]:
        """The registry's key of each card's driver, by the GUID in lower case."""
        return card_keys(self._system)

    def known(self) -> List[str]:
        """The GUIDs of all that Windows knows."""
        return known_cards(self._system)

    def name(self, guid: str, before: str = "") -> str:
        """What it is called now: a person may have given it another name than ``before``."""
        found = self._system.setting(rf"{_CONNECTION}\{guid.upper()}\Connection", "Name")
        return str(found or before or guid)

    # -- switching -------------------------------------------------------------------------------

    def switch_off(self, guid: str, before: str = "") -> None:
        self.try_to(switch(self.name(guid, before), False))

    def switch_on(self, guid: str, before: str = "") -> None:
        self.try_to(switch(self.name(guid, before), True))

    def await_off(self, guids: Set[str]) -> bool:
        """Whether they are off within some seconds."""
        for _ in range(_OFF_STEPS):
            if not any(one.up and one.guid in guids for one in self.see()[1]):
                return True
            self._stop.wait(STEP_S)
        return False

    def await_on(self, guids: Set[str]) -> Set[str]:
        """Those that are still off after some seconds."""
        for _ in range(_ON_STEPS):
            there = {one.guid.upper() for one in self.see()[1]}
            off = {one for one in guids if one.upper() not in there}
            if not off:
                break
            self._stop.wait(STEP_S)
        return off

    def try_to(self, command: Command) -> bool:
        """Whether Windows did it; whoever must know looks at what came of it."""
        try:
            self._system.netsh(*command)
        except Refused as error:
            log.info("%s", error)
            return False
        return True
