"""A machine as the hardware that an image shall be adapted to. Pure."""

from __future__ import annotations

from typing import List, Sequence

from notfallserver.guest.facts import Hardware, HardwareDisk, HardwareNic
from notfallserver.wire.cards import real_cards
from notfallserver.wire.facts import Machine


def own_hardware(original: Machine, here: Machine, disks: Sequence[str], recovery: str) -> Hardware:
    """``disks``: names of those of ``here`` that the image comes to.

    Cards are paired in order, same addresses first; ``here`` lists plugged-in cards first.
    """
    old = real_cards(original)
    new = real_cards(here)
    same = {one.mac.lower(): one for one in new}
    nics: List[HardwareNic] = []
    left = [one for one in new if one.mac.lower() not in [nic.mac.lower() for nic in old]]
    for nic in old:
        mac = nic.mac.lower()
        card = same.get(mac) or (left.pop(0) if left else None)
        if card is not None:
            nics.append(HardwareNic(nic.name, card.mac.lower(), mac, card.driver))
    drivers = {disk.name: disk.driver for disk in here.disks}
    return Hardware(
        firmware=here.firmware,
        role="primary",
        disks=[HardwareDisk(drivers.get(one, "")) for one in disks],
        nics=nics,
        recovery=recovery,
    )
