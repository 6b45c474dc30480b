"""Keeping maps, programs and links of the write tracker in the kernel beyond the agent's process.

They get names in a BPF filesystem of our own (``/run/notfall-agent/bpf``, so nothing depends on
what else is mounted); the kernel keeps what has a name until the name is removed or the machine
restarts. A name proves nothing: only an object's number does, which no other object gets.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import struct
from contextlib import suppress
from pathlib import Path
from typing import Dict, List, Sequence

from notfallserver.agent import kernel
from notfallserver.agent.changes.bpf import bpf
from notfallserver.agent.place import Place

_PIN, _GET, _INFO_BY_FD = 6, 7, 15
_NUMBER = 4  # where each kind of object tells its number


def _named(command: int, path: Path, handle: int) -> int:
    name = ctypes.create_string_buffer(os.fsencode(path))
    return bpf(command, struct.pack("=Q2I", ctypes.addressof(name), handle, 0))


def number_of(handle: int) -> int:
    """The number of a map, program or link; :class:`OSError` for anything else."""
    info = ctypes.create_string_buffer(64)
    bpf(_INFO_BY_FD, struct.pack("=2IQ", handle, len(info), ctypes.addressof(info)))
    return int(struct.unpack_from("=I", info, _NUMBER)[0])


class Pins:
    """The names of one agent. All functions raise :class:`OSError`."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._directory = place.pins

    def keep(self, handles: Dict[str, int]) -> None:
        """Give names; fails where the kernel can't keep one of them (links before 5.15)."""
        with self._place.alone():
            self._place.filesystem.mkdir(mode=0o700, exist_ok=True)
            if not self._place.filesystem.is_mount():
                kernel.mount("bpf", str(self._place.filesystem), "bpf")
                self._place.filesystem.chmod(0o700)  # a new one is open to everybody
            self._directory.mkdir(mode=0o700, exist_ok=True)  # from now on nobody unmounts it
        for name, handle in handles.items():
            _named(_PIN, self._directory / name, handle)

    def open(self, names: Sequence[str]) -> Dict[str, int]:
        """Descriptors of what has these names; all of them or none."""
        handles: Dict[str, int] = {}
        try:
            for name in names:
                handles[name] = _named(_GET, self._directory / name, 0)
        except OSError:
            for handle in handles.values():
                os.close(handle)
            raise
        return handles

    def drop(self) -> None:
        """Remove the names; what no process holds ends with them."""
        with suppress(FileNotFoundError):
            shutil.rmtree(self._directory)

    def leave(self) -> None:
        """After :meth:`drop`: remove the filesystem too, unless another agent has names there."""
        filesystem = self._place.filesystem
        with self._place.alone(), suppress(OSError):
            # The kernel may have put files of its own there.
            if filesystem.is_mount() and not any(one.is_dir() for one in filesystem.iterdir()):
                kernel.unmount(str(filesystem))
                filesystem.rmdir()


def numbers_of(handles: Dict[str, int]) -> List[int]:
    return [number_of(handles[name]) for name in sorted(handles)]
