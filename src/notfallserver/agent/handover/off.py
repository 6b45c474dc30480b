"""Switching this machine off after its farewell: its disks are final, and mostly still frozen.

The invariant: nothing may be promised any more. So the ways go from the one that writes nothing to
those that do, and before the first of the latter the machine leaves the network, as a returning
original does (``fence/apart.py``): whatever still comes to life on it then can be reached by
nobody, and the guard finds it silent, so that the stand-in starts although the power stays on.

    kernel  reboot(2): no unit, no inhibitor lock, no program of the disks is asked
    network the cards go apart
    sysrq   the same by another door, which no missing right closes
    forced  systemd ends all processes, and unmounts: it has rights that the agent may not have
    usual   systemd stops the units first; inhibitor locks count for nothing

``systemctl poweroff --force --force`` would be the first once more, after a ``sync``. Each way has
so long, in a thread that is left behind when it hangs: a program may not be readable any more, a
driver may not end. So may a line of the log, when its reader waits for a frozen disk.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Callable, List, Sequence

from notfallserver.agent import commands, kernel
from notfallserver.agent.fence import signs
from notfallserver.agent.fence.apart import LEFT, Apart, put_apart, read_apart
from notfallserver.agent.fence.ask import all_cards
from notfallserver.wire.errors import NotfallError

log = logging.getLogger("notfall-agent")

_SYSRQ = Path("/proc/sysrq-trigger")
_SAY_S = 1.0
_POWER_OFF = ("--no-wall", "poweroff")


@dataclass(frozen=True)
class Way:
    """``seconds``: so long the call may take, and with ``ends`` also the end that it promised."""

    name: str
    act: Callable[[], object]
    seconds: float
    ends: bool = True


def leave_network() -> None:
    """Only a restart of the machine, which asks anew, ends it, or ``agent.pyz unfence``."""
    apart = put_apart(read_apart() or Apart(LEFT), all_cards())
    signs.show(apart)


WAYS = (
    # A RAID controller may write its cache out for a minute: whoever hurries it loses that.
    Way("the kernel", kernel.power_off, 60),
    Way("leaving the network", leave_network, 20, ends=False),
    Way("the kernel by sysrq", partial(_SYSRQ.write_text, "o"), 30),
    Way("systemd, forced", partial(commands.run, ["systemctl", "--force", *_POWER_OFF]), 60),
    Way(
        "systemd",
        partial(commands.run, ["systemctl", "--no-block", "--ignore-inhibitors", *_POWER_OFF]),
        180,
    ),
)


def switch_off(ways: Sequence[Way] = WAYS) -> None:
    """Returns only by raising: none of the ways did it. Called again it tries them all again."""
    for way in ways:
        _try(way)
    raise NotfallError(
        "not-switched-off",
        "This machine could not switch itself off.",
        "Switch it off by hand: its services stay shut down.",
    )


def _try(way: Way) -> None:
    failed: List[BaseException] = []

    def work() -> None:
        try:
            way.act()
        except BaseException as error:
            failed.append(error)

    until = time.monotonic() + way.seconds
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(way.seconds)
    if failed:
        _say(f"not switched off by {way.name}: {failed[0]}")
    elif thread.is_alive():
        _say(f"not switched off by {way.name}: it hangs")
    elif way.ends:
        time.sleep(max(0.0, until - time.monotonic()))
        _say(f"not switched off by {way.name} in {way.seconds:.0f} s")


def _say(text: str) -> None:
    thread = threading.Thread(target=log.error, args=("%s", text), daemon=True)
    thread.start()
    thread.join(_SAY_S)
