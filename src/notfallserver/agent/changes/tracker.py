"""The write tracker: an eBPF program on the block layer that marks each written 64 KiB block.

It hears every write of every kind (files, swap, `dd` to the device), because it listens where I/O
is queued (``block_bio_queue``) and, for drivers with request queues, where it is issued
(``block_rq_issue``); one of both would do for most disks, together they also cover drivers that
know only one of them and volumes that pass I/O on in place. It needs no module and no compiler.
It works as long as the object lives.

Two halves: the program marks one of them while the other one is read and cleared, so that no
mark is lost.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import struct
import time
from typing import Dict, List, Sequence

from notfallserver.agent import kernel
from notfallserver.agent.changes import bpf
from notfallserver.agent.changes.assembler import (
    COARSE,
    MAPS,
    VALUE,
    Fields,
    assemble,
    entries_of,
)
from notfallserver.agent.changes.base import Changes, Marks, Watched, merge

TRACEPOINTS = ("block_bio_queue", "block_rq_issue")
_GRACE = 0.05


class Tracker(Changes):
    """Raises :class:`OSError` when the kernel offers no tracking."""

    knows = True

    def __init__(self, watched: Sequence[Watched]) -> None:
        if not kernel.has_syscalls():
            raise OSError("the processor is not known")
        self._watched = list(watched)
        self._entries = entries_of(watched)
        total = sum(self._entries)
        self._half = {"marks": total, "coarse": total // COARSE + 1}
        self._handles: List[int] = []
        self._programs: List[int] = []
        self._memory: Dict[str, mmap.mmap] = {}
        self._active = 0
        self._settled: Marks = []
        try:
            self._start()
        except BaseException:
            self.close()
            raise

    def _start(self) -> None:
        bpf.lift_memory_limit()
        maps: Dict[str, int] = {}
        for name in MAPS:
            entries = 2 * self._half[name] if name in self._half else 1
            value = VALUE if name in self._half else 16
            maps[name] = bpf.create_map(f"notfall_{name}", value, entries)
            self._handles.append(maps[name])
            self._memory[name] = bpf.map_memory(maps[name], value * entries)
        with bpf.tracefs() as root:
            formats = [bpf.read_format(root / "events" / "block" / one) for one in TRACEPOINTS]
        for found in formats:
            fields = Fields(found["dev"], found["sector"], found["nr_sector"], found["rwbs"])
            program = bpf.load_program(assemble(fields, self._watched, maps))
            self._handles.append(program)
            self._programs.append(program)
            self._handles.append(bpf.attach(program, found["id"]))

    def settle(self) -> None:
        """Read once more the half that rests (late marks) and clear it for the next turn."""
        if self._settled:
            return
        _wait_for_programs()
        resting = 1 - self._active
        self._settled = self._read(resting)
        for name, half in self._half.items():
            kernel.fill_zero(self._memory[name], resting * half * VALUE, half * VALUE)

    def take(self) -> Marks:
        self.settle()
        earlier, self._settled = self._settled, []
        finished = self._active
        self._active = 1 - finished
        struct.pack_into(
            "=2I",
            self._memory["control"],
            0,
            *(self._active * self._half[name] for name in ("marks", "coarse")),
        )
        return [merge(one, other) for one, other in zip(earlier, self._read(finished))]

    def _read(self, half: int) -> Marks:
        fine, coarse = self._memory["marks"], self._memory["coarse"]
        start = half * self._half["marks"] * VALUE
        rough_start = half * self._half["coarse"] * VALUE
        marks: Marks = []
        base = 0
        for one, entries in zip(self._watched, self._entries):
            mine = fine[start + base : start + base + one.blocks]
            first = rough_start + base // COARSE
            rough = coarse[first : first + (one.blocks + COARSE - 1) // COARSE]
            if rough.find(1) >= 0:
                wide = b"".join(bytes((mark,)) * COARSE for mark in rough)
                mine = merge(mine, wide[: one.blocks])
            marks.append(mine)
            base += entries * VALUE
        return marks

    def broken(self) -> str:
        if struct.unpack_from("=I", self._memory["control"], 8)[0]:
            return "a write lay outside of what the tracker covers"
        queued, issued = (bpf.recursion_misses(one) for one in self._programs)
        if queued and (issued or not all(one.queued for one in self._watched)):
            return f"the kernel left the tracker out {queued} times"
        return ""

    def close(self) -> None:
        for memory in self._memory.values():
            with contextlib.suppress(BufferError):
                memory.close()
        self._memory.clear()
        for handle in reversed(self._handles):
            os.close(handle)
        self._handles.clear()
        self._programs.clear()


def _wait_for_programs() -> None:
    """Return when no program that began before is still running."""
    try:
        kernel.syscall("membarrier", kernel.MEMBARRIER_GLOBAL, 0, 0)
    except OSError:
        time.sleep(_GRACE)
