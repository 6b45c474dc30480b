"""TCP ports that the machine serves, from what GetExtendedTcpTable writes. Pure.

Asked for listeners with owners (TCP_TABLE_OWNER_PID_LISTENER), the one class that IPv6 has, too.
"""

from __future__ import annotations

from typing import List

from notfallserver.agent.windows.answers import unpack

IPV4, IPV6 = 2, 23
"""Address families."""
_ROW, _ROW6 = 24, 56
_OWN6 = bytes(15) + b"\1"


def read_listeners(table: bytes, table6: bytes) -> List[int]:
    """Ports served to the network, not only to the machine itself, ascending."""
    found = set()
    for number in range(_rows(table, _ROW)):
        at = 4 + number * _ROW
        if table[at + 4] != 127:
            found.add(_port(table, at + 8))
    for number in range(_rows(table6, _ROW6)):
        at = 4 + number * _ROW6
        if table6[at : at + 16] != _OWN6:
            found.add(_port(table6, at + 20))
    return sorted(found - {0})


def _rows(table: bytes, row: int) -> int:
    if not table:
        return 0
    (count,) = unpack("L", table)
    return min(count, (len(table) - 4) // row)


def _port(table: bytes, at: int) -> int:
    """In the order of the network, in the first two bytes."""
    return table[at] << 8 | table[at + 1]
