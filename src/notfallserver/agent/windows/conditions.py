"""States of a Windows that its owner should know of in peace time, because they matter on the
worst day. What can't be asked is left out."""

from __future__ import annotations

from typing import List

from notfallserver.agent.windows.system import System
from notfallserver.wire.facts import DOMAIN_CONTROLLER, FAST_START, OEM_LICENCE, REBOOT_PENDING

_CURRENT = r"SOFTWARE\Microsoft\Windows NT\CurrentVersion"
_SERVICING = r"SOFTWARE\Microsoft\Windows\CurrentVersion\Component Based Servicing"
_UPDATE = r"SOFTWARE\Microsoft\Windows\CurrentVersion\WindowsUpdate\Auto Update"
_POWER = r"SYSTEM\CurrentControlSet\Control\Session Manager\Power"
_HIBERNATION = r"SYSTEM\CurrentControlSet\Control\Power"
_OPTIONS = r"SYSTEM\CurrentControlSet\Control\ProductOptions"


def find_conditions(system: System) -> List[str]:
    """In the words of ``wire.facts``."""
    found = []
    waits = ((_SERVICING, "rebootpending"), (_UPDATE, "rebootrequired"))
    if any(name in _names_below(system, key) for key, name in waits):
        found.append(REBOOT_PENDING)
    # a machine that can't hibernate has no fast start, whatever is set
    hibernates = system.setting(_HIBERNATION, "HibernateEnabled")
    if hibernates == 1 and system.setting(_POWER, "HiberbootEnabled") == 1:
        found.append(FAST_START)
    if "OEM" in str(system.setting(_CURRENT, "ProductId") or ""):
        found.append(OEM_LICENCE)
    if str(system.setting(_OPTIONS, "ProductType") or "").lower() == "lanmannt":
        found.append(DOMAIN_CONTROLLER)
    return found


def _names_below(system: System, key: str) -> List[str]:
    return [one.lower() for one in system.settings_below(key)]
