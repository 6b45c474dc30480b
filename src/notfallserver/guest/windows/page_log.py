"""A hive's transaction log as Windows wrote it until 8 and Server 2012. Pure.

Behind the base block's sector follows a map with a bit for each 512 bytes of the hive's data, then
the pages whose bits are set, without gaps. There is no checksum over them: that the log came to its
end is told only by the numbers in its base block.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import List, Optional, Tuple

from notfallserver.guest.windows.base_block import BaseBlock
from notfallserver.guest.windows.entry_log import Page

PAGE = 512
_SIGNATURE = b"DIRT"


@dataclass(frozen=True)
class PageLog:
    block: BaseBlock
    pages: Tuple[Page, ...]


def read_page_log(data: bytes, block: BaseBlock) -> Optional[PageLog]:
    """None where the log is not whole."""
    sector = block.sector
    if not block.complete or data[sector : sector + 4] != _SIGNATURE:
        return None
    count = block.size // PAGE
    length = -(-count // 8)
    bits = data[sector + 4 : sector + 4 + length]
    at = sector + -(-(4 + length) // sector) * sector
    pages: List[Page] = []
    for number in range(count):
        if number // 8 >= len(bits):
            return None
        if bits[number // 8] >> number % 8 & 1:
            page = data[at : at + PAGE]
            if len(page) < PAGE:
                return None
            pages.append((number * PAGE, page))
            at += PAGE
    return PageLog(block, tuple(pages))
