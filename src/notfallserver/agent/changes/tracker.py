"""The write tracker: an eBPF program on the block layer that marks what is written.

It hears every write of every kind (files, swap, `dd` to the device), because it listens where I/O
is queued (``block_bio_queue``), where a volume above passes it on in place so that it is not queued
again (``block_bio_remap``; md's RAID 0 on Linux 5.10 does so), and, for drivers with request
queues, where it is issued (``block_rq_issue``). The first two together see everything, the third
again what they see, as long as the driver has queues. It needs no module and no compiler.

Two halves: the program marks one of them while the other one rests, is read and cleared, so that
no mark is lost. The map ``pending`` gathers what was told until a version holds it. All three lie
in kernel memory, so where they are pinned an agent that is killed loses nothing. Invariant, at
every instruction: a block written since the last :meth:`Tracker.forget` (and before it, since the
last :meth:`Tracker.take`) is marked in ``pending`` or in one of the halves. For that a half is
cleared only after ``pending`` has its marks and no program can still add to it.
"""

from __future__ import annotations

import contextlib
import hashlib
import mmap
import os
import struct
import time
from typing import Dict, List, Optional, Sequence, Tuple

from notfallserver.agent import kernel
from notfallserver.agent.changes import bpf
from notfallserver.agent.changes.assembler import (
    COARSE,
    MAPS,
    OVERFLOW,
    VALUE,
    Fields,
    assemble,
    entries_of,
    halves_of,
)
from notfallserver.agent.changes.base import Changes, Marks, Watched, bounded, marked_runs, merge
from notfallserver.agent.changes.pins import numbers_of
from notfallserver.agent.disks.runs import merged
from notfallserver.wire.blocks import Run

TRACEPOINTS = ("block_bio_queue", "block_bio_remap", "block_rq_issue")
PARTS = (
    *MAPS,
    "pending",
    *(f"{what}_{one}" for one in TRACEPOINTS for what in ("program", "link")),
)
"""Names of all that makes a tracker."""
_CONTROL = 16
_GRACE = 0.05
_PIECE = 1 << 17  # marks that are looked at a time


class Tracker(Changes):
    """A new one, or the one that ``parts`` (descriptors by name, taken over) make up.

    Raises :class:`OSError` when the kernel offers no tracking.
    """

    knows = True

    def __init__(self, watched: Sequence[Watched], parts: Optional[Dict[str, int]] = None) -> None:
        self.parts: Dict[str, int] = dict(parts or {})
        self._watched = list(watched)
        self._entries = entries_of(watched)
        self._half = halves_of(watched)
        self._memory: Dict[str, mmap.mmap] = {}
        self._settled: Marks = []
        try:
            if not kernel.has_syscalls():
                raise OSError("the processor is not known")
            self._fields: Dict[str, Dict[str, int]] = {}
            with bpf.tracefs() as root:
                for one in TRACEPOINTS:
                    self._fields[one] = bpf.read_format(root / "events" / "block" / one)
            if parts is None:
                self._start()
            for name, length in self._lengths().items():
                self._memory[name] = bpf.map_memory(self.parts[name], length)
        except BaseException:
            self.close()
            raise

    def _lengths(self) -> Dict[str, int]:
        """Of each map, in bytes."""
        halves = {name: 2 * entries * VALUE for name, entries in self._half.items()}
        return {**halves, "pending": sum(self._entries) * VALUE, "control": _CONTROL}

    def _code(self, tracepoint: str, maps: Dict[str, int]) -> bytes:
        found = self._fields[tracepoint]
        fields = Fields(
            found["dev"],
            found["sector"],
            found["nr_sector"],
            found["rwbs"],
            found.get("old_dev"),
        )
        return assemble(fields, self._watched, maps)

    def _start(self) -> None:
        bpf.lift_memory_limit()
        for name, length in self._lengths().items():
            value = min(length, VALUE)
            self.parts[name] = bpf.create_map(f"notfall_{name}", value, length // value)
        for one in TRACEPOINTS:
            program = bpf.load_program(self._code(one, self.parts))
            self.parts[f"program_{one}"] = program
            self.parts[f"link_{one}"] = bpf.attach(program, self._fields[one]["id"])

    def identity(self) -> str:
        """Equal only for the same objects in the kernel and programs of the same text.

        Raises :class:`OSError` where the kernel has no links, so that nothing can be pinned.
        """
        text = b"".join(self._code(one, dict.fromkeys(MAPS, 0)) for one in TRACEPOINTS)
        digest = hashlib.blake2b(text, digest_size=16).hexdigest()
        return ":".join([digest, *(str(number) for number in numbers_of(self.parts))])

    def is_called(self, identity: str) -> bool:
        """Whether this is its :meth:`identity`."""
        try:
            return self.identity() == identity
        except OSError:
            return False

    @property
    def _active(self) -> int:
        return self._memory["control"][0]

    def settle(self) -> None:
        """Read once more the half that rests (late marks) and clear it for the next turn."""
        if self._settled:
            return
        _wait_for_programs()
        resting = 1 - self._active
        self._settled = self._read(resting)
        self._gather(self._settled)
        for name, half in self._half.items():
            kernel.fill_zero(self._memory[name], resting * half * VALUE, half * VALUE)

    def take(self) -> Marks:
        self.settle()
        earlier, self._settled = self._settled, []
        finished = self._active
        self._memory["control"][0] = 1 - finished
        return [merge(one, other) for one, other in zip(earlier, self._read(finished))]

    def pending(self) -> Marks:
        """What was gathered, and the half that rests: it was told, but is not gathered yet."""
        resting = self._read(1 - self._active)
        gathered = self._memory["pending"]
        return [
            merge(runs, _in_blocks(_scan(gathered, base, one.marks), one))
            for one, runs, base in zip(self._watched, resting, self._bases())
        ]

    def assume(self, marks: Marks) -> None:
        self._gather(marks)

    def forget(self) -> None:
        kernel.fill_zero(self._memory["pending"], 0, len(self._memory["pending"]))

    def _gather(self, told: Marks) -> None:
        gathered = self._memory["pending"]
        for one, runs, base in zip(self._watched, told, self._bases()):
            for first, count in runs:
                begin, end = first // one.granule, -(-(first + count) // one.granule)
                for start in range(begin, end, _PIECE):
                    step = min(_PIECE, end - start)
                    gathered[base + start : base + start + step] = b"\1" * step

    def _bases(self) -> List[int]:
        """Where each disk begins in a half of marks, and in pending; bytes."""
        return [sum(self._entries[:place]) * VALUE for place in range(len(self._entries))]

    def _read(self, half: int) -> Marks:
        fine, coarse = self._memory["marks"], self._memory["coarse"]
        start = half * self._half["marks"] * VALUE
        rough_start = half * self._half["coarse"] * VALUE
        marks: Marks = []
        for one, base in zip(self._watched, self._bases()):
            told = _scan(fine, start + base, one.marks)
            first, length = rough_start + base // COARSE, -(-one.marks // COARSE)
            rough = _scan(coarse, first, length)
            if rough:
                wide = [(at * COARSE, count * COARSE) for at, count in rough]
                told = bounded(merged([*told, *wide]))
            marks.append(_in_blocks(told, one))
        return marks

    def broken(self) -> str:
        if struct.unpack_from("=I", self._memory["control"], OVERFLOW)[0]:
            return "a write lay outside of what the tracker covers"
        queued, remapped, issued = (
            bpf.recursion_misses(self.parts[f"program_{one}"]) for one in TRACEPOINTS
        )
        if queued + remapped and (issued or not all(one.queued for one in self._watched)):
            return f"the kernel left the tracker out {queued + remapped} times"
        return ""

    def close(self) -> None:
        for memory in self._memory.values():
            with contextlib.suppress(BufferError):
                memory.close()
        self._memory.clear()
        for handle in reversed(list(self.parts.values())):
            os.close(handle)
        self.parts.clear()


def _scan(memory: mmap.mmap, start: int, length: int) -> List[Run]:
    """The bytes that are set among ``length`` from ``start``, as runs counted from there."""
    found: List[Run] = []
    for at in range(0, length, _PIECE):
        piece = memory[start + at : start + min(at + _PIECE, length)]
        if piece.find(1) >= 0:
            found += [(at + first, count) for first, count in marked_runs(piece)]
            found = bounded(found)
    return merged(found)


def _in_blocks(marks: Sequence[Tuple[int, int]], one: Watched) -> List[Run]:
    """Runs of marks as runs of the disk's blocks."""
    return [
        (first * one.granule, min(count * one.granule, one.blocks - first * one.granule))
        for first, count in marks
        if first < one.marks
    ]


def _wait_for_programs() -> None:
    """Return when no program that began before is still running."""
    try:
        kernel.syscall("membarrier", kernel.MEMBARRIER_GLOBAL, 0, 0)
    except OSError:
        time.sleep(_GRACE)
