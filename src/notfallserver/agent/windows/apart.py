"""What was done to keep this machine off the network, so that all of it can be taken back.

``apart.json`` beside the agent's settings. It is written before the first card is switched off, and
removed when the last one is on again; whatever is killed in between is done again. Unlike on Linux
it outlives a restart of Windows, because a card that is switched off does; ``boot`` tells whether
there was one.
"""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Mapping, Optional, Tuple

from notfallserver.agent.files import write_whole
from notfallserver.agent.windows.system import Value

log = logging.getLogger("notfall-agent")

FILE = "apart.json"
ORDER = "order"
"""Why: the server said so. The same word as on Linux (``fence/apart.py``)."""

UNKNOWN = "it is not known what was done to the network cards"

Saved = Tuple[Tuple[str, Optional[Value]], ...]
"""Values of a key by name, as they were."""


@dataclass(frozen=True)
class Held:
    """A card that is switched off; ``name`` is what Windows called it then."""

    guid: str
    name: str


@dataclass(frozen=True)
class Quiet:
    """The one card by which the server is asked (``quiet.py``). ``mac`` and ``parked`` are what it
    has meanwhile; ``key`` is the registry's key of its driver, where the MAC is set."""

    guid: str
    mac: str
    parked: str
    key: str
    own_mac: Optional[Value]
    addresses: Saved


@dataclass(frozen=True)
class Apart:
    """``boot`` is Windows' mark of the start in which it was done. ``asks``: the card that may
    become the quiet one; ``refused``: why the server can't be asked from here. ``returning``: it
    was decided that the machine comes back."""

    because: str
    boot: str
    cards: Tuple[Held, ...] = ()
    asks: str = ""
    quiet: Optional[Quiet] = None
    refused: str = ""
    returning: bool = False


def read_apart(directory: Path) -> Optional[Apart]:
    """None: this machine is not kept off the network."""
    path = directory / FILE
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        return Apart(
            str(told["because"]),
            str(told["boot"]),
            tuple(Held(str(one["guid"]), str(one["name"])) for one in told["cards"]),
            str(told["asks"]),
            _quiet(told["quiet"]) if told["quiet"] else None,
            str(told["refused"]),
            told["returning"] is True,
        )
    except FileNotFoundError:
        return None
    except (OSError, ValueError, LookupError, TypeError) as error:
        log.error("%s cannot be used (%s): what was done to the cards is not known", path, error)
        return Apart(ORDER, "", refused=UNKNOWN)


def _quiet(told: Mapping[str, Any]) -> Quiet:
    return Quiet(
        str(told["guid"]),
        str(told["mac"]),
        str(told["parked"]),
        str(told["key"]),
        _value(told["own_mac"]),
        tuple((str(name), _value(value)) for name, value in told["addresses"]),
    )


def _value(told: Any) -> Optional[Value]:
    if told is None:
        return None
    kind, content = told
    if isinstance(content, list):
        return int(kind), [str(one) for one in content]
    if not isinstance(content, (str, int)):
        raise ValueError("a value of the registry is none")
    return int(kind), content


class Notebook:
    """The file of one machine. What can't be written is kept in memory: cards go off all the same,
    but then nothing may be done to their settings (:attr:`kept`)."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._unwritten: Optional[Apart] = None

    @property
    def kept(self) -> bool:
        """Whether the last writing got to the disk."""
        return self._unwritten is None

    def read(self) -> Optional[Apart]:
        """None: this machine is not kept off the network."""
        return self._unwritten or read_apart(self._directory)

    def write(self, apart: Apart) -> Apart:
        text = json.dumps(asdict(apart), indent=1) + "\n"
        try:
            write_whole(self._directory / FILE, text.encode())
            self._unwritten = None
        except OSError as error:
            if self._unwritten is None:
                log.error("what is done to the cards cannot be written down (%s)", error)
            self._unwritten = apart
        return apart

    def forget(self) -> None:
        """Nothing is left to be taken back."""
        self._unwritten = None
        try:
            (self._directory / FILE).unlink()
        except FileNotFoundError:
            pass
        except OSError as error:  # it says that all is to be given back: once more does no harm
            log.error("%s", error)
