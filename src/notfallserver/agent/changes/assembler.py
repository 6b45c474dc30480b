"""A small assembler for eBPF, and the program that marks written blocks.

Pure: layout in, bytes out. The program runs in the kernel at each block I/O that is queued,
remapped or issued. Per granule (a block of 64 KiB, or some of them on a large disk) one byte in
``marks``; a very large I/O goes to ``coarse``, one byte per 32 granules, because the verifier
bounds loops. Both maps have two halves; the first byte of ``control`` (0 or 1) names the one in
use, one byte so that the switch is never half done. At ``OVERFLOW`` it holds a flag (u32): an I/O
lay outside of what the maps cover.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Dict, List, Optional, Sequence, Tuple

from notfallserver.agent.changes.base import Watched

VALUE = 4096  # bytes, thus marks, per entry of a map
COARSE = 32  # marks per byte of the coarse map
FINE_LIMIT = 256  # marks that one I/O sets one by one
COARSE_LIMIT = 2050  # of 2 MiB or more each: more than the 4 GiB that one I/O can have

OVERFLOW = 8  # place in control

MAPS = ("marks", "coarse", "control")


@dataclass(frozen=True)
class Fields:
    """Offsets in the tracepoint's record."""

    dev: int
    sector: int
    count: int
    kind: int  # text such as "WS": what the I/O does
    old_dev: Optional[int] = None  # of a record of remapping: the device that the I/O was for


class Assembler:
    """Instructions with labels."""

    def __init__(self) -> None:
        self._code: List[Tuple[int, int, int, int, int, Optional[str]]] = []
        self._labels: Dict[str, int] = {}

    def op(self, code: int, to: int = 0, source: int = 0, off: int = 0, value: int = 0) -> None:
        self._code.append((code, to, source, off, value, None))

    def jump(self, code: int, label: str, to: int = 0, source: int = 0, value: int = 0) -> None:
        self._code.append((code, to, source, 0, value, label))

    def label(self, name: str) -> None:
        self._labels[name] = len(self._code)

    def load_map(self, to: int, handle: int, value: bool = False) -> None:
        """The map itself, or (``value``) the address of its first entry."""
        self.op(0x18, to, 2 if value else 1, 0, handle)
        self.op(0)

    def finish(self) -> bytes:
        parts = []
        for place, (code, to, source, off, value, label) in enumerate(self._code):
            where = off if label is None else self._labels[label] - place - 1
            parts.append(struct.pack("<BBhi", code, to | source << 4, where, value))
        return b"".join(parts)


MOV, MOV_R = 0xB7, 0xBF
ADD, ADD_R, SUB, SUB_R = 0x07, 0x0F, 0x17, 0x1F
MUL, RSH, AND = 0x27, 0x77, 0x57
LOAD8, LOAD32, LOAD64 = 0x71, 0x61, 0x79
STORE8_I, STORE32, STORE32_I = 0x72, 0x63, 0x62
JA, JEQ, JGT_R, JGE, JLT = 0x05, 0x15, 0x2D, 0x35, 0xA5
CALL, EXIT = 0x85, 0x95
LOOKUP = 1
FRAME = 10


def entries_of(watched: Sequence[Watched]) -> List[int]:
    """How many entries of ``marks`` each disk has; disks begin at an entry of their own."""
    return [(one.marks + VALUE - 1) // VALUE for one in watched]


def halves_of(watched: Sequence[Watched]) -> Dict[str, int]:
    """How many entries one half of each map has that has halves."""
    total = sum(entries_of(watched))
    return {"marks": total, "coarse": total // COARSE + 1}


def assemble(fields: Fields, watched: Sequence[Watched], maps: Dict[str, int]) -> bytes:
    """The program for one tracepoint; ``maps`` names the descriptors of :data:`MAPS`."""
    halves = halves_of(watched)
    code = Assembler()
    code.op(MOV_R, 6, 1)
    code.op(LOAD8, 1, 6, fields.kind)
    code.jump(JEQ, "out", 1, value=ord("R"))
    code.op(LOAD32, 2, 6, fields.count)
    code.jump(JEQ, "out", 2, value=0)
    code.op(LOAD32, 1, 6, fields.dev)
    code.op(LOAD64, 8, 6, fields.sector)
    code.op(MOV_R, 9, 8)
    code.op(ADD_R, 9, 2)
    code.op(SUB, 9, value=1)
    if fields.old_dev is not None:
        code.op(LOAD32, 3, 6, fields.old_dev)
    for disk, one in enumerate(watched):
        for register, device in _matches(one, fields):
            code.jump(JEQ, f"disk{disk}", register, value=device)
    code.jump(JA, "out")
    base = 0
    for disk, (entries, one) in enumerate(zip(entries_of(watched), watched)):
        code.label(f"disk{disk}")
        for register in (8, 9):  # 128 sectors are a block
            code.op(RSH, register, value=7 + one.granule.bit_length() - 1)
        code.op(MOV, 7, value=base * VALUE)
        code.jump(JA, "mark")
        base += entries
    code.label("mark")  # r8 first mark, r9 last mark, r7 the half in use, r6 counts
    for register in (8, 9):
        code.op(ADD_R, register, 7)
    code.load_map(1, maps["control"], value=True)
    code.op(MOV, 6, value=0)
    code.op(MOV_R, 2, 9)
    code.op(SUB_R, 2, 8)
    code.jump(JGE, "large", 2, value=FINE_LIMIT - 1)
    code.op(LOAD8, 7, 1, 0)
    code.op(MUL, 7, value=halves["marks"])
    _mark_loop(code, "fine", maps["marks"], FINE_LIMIT)
    code.label("large")
    code.op(LOAD8, 7, 1, 0)
    code.op(MUL, 7, value=halves["coarse"])
    code.op(RSH, 8, value=5)
    code.op(RSH, 9, value=5)
    _mark_loop(code, "rough", maps["coarse"], COARSE_LIMIT)
    code.label("overflow")
    code.load_map(1, maps["control"], value=True)
    code.op(STORE32_I, 1, 0, OVERFLOW, 1)
    code.label("out")
    code.op(MOV, 0, value=0)
    code.op(EXIT)
    return code.finish()


def _matches(one: Watched, fields: Fields) -> List[Tuple[int, int]]:
    """Register and device number by which an I/O is known to be this disk's.

    What is remapped onto a partition (by device-mapper or md) is told with the disk's number, but
    the partition's sectors. The partition's own remapping follows, and has the disk's sectors.
    """
    parts = one.devices[1:]
    if fields.old_dev is not None and parts:
        return [(3, device) for device in parts]
    return [(1, device) for device in one.devices]


def _mark_loop(code: Assembler, name: str, handle: int, limit: int) -> None:
    code.label(name)
    code.op(MOV_R, 1, 8)
    code.op(RSH, 1, value=12)
    code.op(ADD_R, 1, 7)
    code.op(STORE32, FRAME, 1, -4)
    code.load_map(1, handle)
    code.op(MOV_R, 2, FRAME)
    code.op(ADD, 2, value=-4)
    code.op(CALL, value=LOOKUP)
    code.jump(JEQ, "overflow", 0, value=0)
    code.op(MOV_R, 1, 8)
    code.op(AND, 1, value=VALUE - 1)
    code.op(ADD_R, 0, 1)
    code.op(STORE8_I, 0, 0, 0, 1)
    code.op(ADD, 8, value=1)
    code.op(ADD, 6, value=1)
    code.jump(JGT_R, "out", 8, 9)
    code.jump(JLT, name, 6, value=limit)
    code.jump(JA, "overflow")
