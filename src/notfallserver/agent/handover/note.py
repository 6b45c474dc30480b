"""What was shut down for a handover, for an agent that is started after one was killed.

In memory (``agent/place.py``), so that it is gone after a boot. Once ``leaving`` stands in it, the
server may have been told that this machine ends: then nothing is started again, whoever was killed.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import List, Optional, Sequence


@dataclass(frozen=True)
class Stopped:
    """Units that were shut down; ``leaving``: there is no way back."""

    units: List[str]
    leaving: bool = False


class Note:
    def __init__(self, path: Path) -> None:
        self._path = path

    def write(self, units: Sequence[str], leaving: bool = False) -> None:
        """Replace it as a whole."""
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        new = self._path.with_suffix(".new")
        new.write_text(json.dumps({"units": list(units), "leaving": leaving}))
        new.replace(self._path)

    def read(self) -> Optional[Stopped]:
        """None where nothing was shut down."""
        try:
            told = json.loads(self._path.read_text())
        except (OSError, ValueError):
            return None
        return Stopped([str(one) for one in told["units"]], bool(told["leaving"]))

    def remove(self) -> None:
        try:
            self._path.unlink()
        except FileNotFoundError:
            pass
