"""Values of the registry by the agent's own functions, in a Python for Windows."""

from __future__ import annotations

import json
import sys
from typing import Dict, List, Optional

from notfallserver.agent.windows.system import NUMBER, TEXT, TEXTS, Value

assert sys.platform == "win32"

import winreg  # noqa: E402

from notfallserver.agent.windows.native import Native  # noqa: E402

_KEY = r"SOFTWARE\Notfallserver\Test"
_VALUES: Dict[str, Value] = {
    "text": (TEXT, "02AABBCCDDEE"),
    "number": (NUMBER, 0),
    "texts": (TEXTS, ["169.254.1.2", "b"]),
}


def main(arguments: List[str]) -> None:
    """``write``, ``read`` or ``remove``: what was there before and is afterwards, as JSON."""
    access = winreg.KEY_WRITE | winreg.KEY_WOW64_64KEY
    winreg.CreateKeyEx(winreg.HKEY_LOCAL_MACHINE, _KEY, 0, access).Close()
    system = Native()

    def seen() -> Dict[str, Optional[Value]]:
        return {name: system.value(_KEY, name) for name in _VALUES}

    before = seen()
    if arguments[0] != "read":
        for name, value in _VALUES.items():
            system.set_value(_KEY, name, value if arguments[0] == "write" else None)
            if arguments[0] == "remove":
                system.set_value(_KEY, name, None)  # there is nothing: no error
    print(json.dumps({"before": before, "after": seen(), "mark": system.boot_mark()}))
