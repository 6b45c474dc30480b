"""Loading eBPF maps and programs through bpf(2), attaching them to tracepoints.

Descriptors are closed on exec; what they name ends with the last one, unless it is pinned
(``pins.py``).
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import mmap
import os
import re
import resource
import struct
import tempfile
from pathlib import Path
from typing import Dict, Iterator

from notfallserver.agent import kernel

_MAP_CREATE, _PROG_LOAD, _INFO_BY_FD, _LINK_CREATE = 0, 5, 15, 28
_ARRAY, _TRACEPOINT, _MMAPABLE = 2, 5, 1 << 10
_SET_BPF, _ENABLE = 0x40042408, 0x2400
_PERF_EVENT = 41  # how a link is attached
_RECURSION_MISSES = 208  # in struct bpf_prog_info
_TRACEFS = (Path("/sys/kernel/tracing"), Path("/sys/kernel/debug/tracing"))


def bpf(command: int, attributes: bytes) -> int:
    """The system call itself."""
    buffer = ctypes.create_string_buffer(attributes, max(len(attributes), 128))
    return kernel.syscall("bpf", command, ctypes.addressof(buffer), len(buffer))


def lift_memory_limit() -> None:
    """Before Linux 5.11 maps count as locked memory."""
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(
            resource.RLIMIT_MEMLOCK, (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
        )


def create_map(name: str, value: int, entries: int) -> int:
    """An array map that can be mapped into memory; returns its descriptor."""
    attributes = struct.pack("=7I16s", _ARRAY, 4, value, entries, _MMAPABLE, 0, 0, name.encode())
    return bpf(_MAP_CREATE, attributes)


def map_memory(handle: int, length: int) -> mmap.mmap:
    page = mmap.PAGESIZE
    return mmap.mmap(handle, (length + page - 1) // page * page, mmap.MAP_SHARED)


def load_program(code: bytes) -> int:
    """Load a tracepoint program; a refusal carries the end of the verifier's explanation."""
    text = ctypes.create_string_buffer(code, len(code))
    license_name = ctypes.create_string_buffer(b"GPL")  # of the helpers' users, as the kernel asks

    def attributes(log: int, size: int) -> bytes:
        return struct.pack(
            "=2I2Q2IQ2I16s",
            _TRACEPOINT,
            len(code) // 8,
            ctypes.addressof(text),
            ctypes.addressof(license_name),
            1 if size else 0,
            size,
            log,
            0,
            0,
            b"notfall",
        )

    try:
        return bpf(_PROG_LOAD, attributes(0, 0))
    except OSError as refused:
        if refused.errno not in (errno.EACCES, errno.EINVAL, errno.E2BIG):
            raise
        log = ctypes.create_string_buffer(1 << 20)
        with contextlib.suppress(OSError):
            os.close(bpf(_PROG_LOAD, attributes(ctypes.addressof(log), len(log))))
        told = log.value.decode(errors="replace").strip()[-400:]
        raise OSError(refused.errno, f"{refused.strerror} {told}") from None


def attach(program: int, tracepoint: int) -> int:
    """Run the program at each hit of the tracepoint on every CPU, while the result stays open.

    Since Linux 5.15 the result is a link, which can be pinned.
    """
    online = Path("/sys/devices/system/cpu/online").read_text()
    cpu = int(re.match(r"\d+", online)[0])  # type: ignore[index]
    attributes = ctypes.create_string_buffer(struct.pack("=2I6Q", 2, 64, tracepoint, 1, 0, 0, 0, 0))
    handle = kernel.syscall(
        "perf_event_open", ctypes.addressof(attributes), -1, cpu, -1, 8
    )  # 8: close on exec
    try:
        link = _link(program, handle)
        if link < 0:
            kernel.ioctl(handle, _SET_BPF, program)
        kernel.ioctl(handle, _ENABLE, 0)
    except OSError:
        os.close(handle)
        raise
    if link < 0:
        return handle
    os.close(handle)  # the link holds the event
    return link


def _link(program: int, event: int) -> int:
    """A link between them, or -1 where the kernel knows none of this kind."""
    try:
        return bpf(_LINK_CREATE, struct.pack("=4I", program, event, _PERF_EVENT, 0))
    except OSError:
        return -1


def recursion_misses(program: int) -> int:
    """How often the kernel left the program out; 0 where it doesn't count that."""
    info = ctypes.create_string_buffer(216)
    bpf(_INFO_BY_FD, struct.pack("=2IQ", program, len(info), ctypes.addressof(info)))
    return int(struct.unpack_from("=Q", info, _RECURSION_MISSES)[0])


@contextlib.contextmanager
def tracefs() -> Iterator[Path]:
    """Where tracefs is mounted; mounts it for the moment if it is nowhere."""
    for place in _TRACEFS:
        if (place / "events").is_dir():
            yield place
            return
    with tempfile.TemporaryDirectory(prefix="notfall-trace-", dir="/run") as directory:
        kernel.mount("tracefs", directory, "tracefs")
        try:
            yield Path(directory)
        finally:
            kernel.unmount(directory)


def read_format(directory: Path) -> Dict[str, int]:
    """Offsets of a tracepoint's fields, and its number as ``id``."""
    found = {
        match[1]: int(match[2])
        for match in re.finditer(
            r"field:[^;]*?(\w+)(?:\[\d*\])?;\s*offset:(\d+);", (directory / "format").read_text()
        )
    }
    found["id"] = int((directory / "id").read_text())
    return found
