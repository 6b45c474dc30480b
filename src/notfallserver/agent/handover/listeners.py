"""Who accepts connections from outside: nobody may, while the last version is read.

Sockets of the loopback don't count, and neither do those of units that were left working on.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Callable, Dict, Iterator, List, Mapping, Tuple

from notfallserver.agent.handover.units import own_unit

_LISTEN = "0A"
_LOOPBACK6 = "00000000000000000000000001000000"
_MAPPED = "0000000000000000FFFF0000"
_PROC = Path("/proc")


def listening(table: str) -> Dict[int, int]:
    """Ports by the inode of their socket, from ``/proc/net/tcp`` or ``tcp6``; without loopback."""
    found = {}
    for line in table.splitlines()[1:]:
        words = line.split()
        address, _, port = words[1].partition(":")
        if words[3] == _LISTEN and not _is_loopback(address):
            found[int(words[9])] = int(port, 16)
    return found


def _is_loopback(address: str) -> bool:
    """As the kernel writes addresses: words in the order of its bytes, so 127 comes last."""
    four = len(address) == 8 or address.startswith(_MAPPED)
    return address == _LOOPBACK6 or (four and address.endswith("7F"))


def _owners(inodes: Mapping[int, int]) -> Iterator[Tuple[int, Path]]:
    """Inode and process of each socket that a process has open."""
    wanted = {f"socket:[{inode}]": inode for inode in inodes}
    for process in _PROC.iterdir():
        if not process.name.isdigit():
            continue
        with suppress(OSError):  # it may have ended
            for handle in (process / "fd").iterdir():
                with suppress(OSError):
                    target = str(handle.readlink())
                    if target in wanted:
                        yield wanted[target], process


def reachable(works_on: Callable[[str], bool]) -> List[str]:
    """Ports that can be reached, each with who serves it; ``works_on``: by unit, what was kept."""
    inodes: Dict[int, int] = {}
    for name in ("tcp", "tcp6"):
        with suppress(OSError):
            inodes.update(listening((_PROC / "net" / name).read_text()))
    served: Dict[int, str] = {}
    for inode, process in _owners(inodes):
        with suppress(OSError):
            unit = own_unit((process / "cgroup").read_text())
            name = (process / "comm").read_text().strip()
            if process.name == "1" or works_on(unit):
                served[inode] = ""
            else:
                served.setdefault(inode, unit or name)
    told = []
    for inode, port in sorted(inodes.items(), key=lambda one: one[1]):
        who = served.get(inode, "the kernel")
        if who:
            told.append(f"{port} ({who})")
    return told
