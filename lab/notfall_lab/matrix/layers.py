"""What lies between the root's partition and its filesystem, and how to write through it.

This machine's kernel may have neither device-mapper nor md: the layers are made in a guest, and the
filesystem is then written where it lies in them; what is encrypted is so by OpenSSL.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from notfall_lab.kernels import PROGRAMS, SuppliedDisk, ask, kernel_guest
from notfall_lab.matrix.case import PASSPHRASE, Case
from notfall_lab.matrix.layout import Layout

_UNIT = 4096
"""Bytes that LUKS encrypts as one; see ``--sector-size`` in ``matrix_layers.py``."""


@dataclass(frozen=True)
class Layers:
    """``offset``: of the root filesystem on each disk; ``payload``: of the encrypted part."""

    offset: int
    size: int
    payload: int = 0
    key: bytes = b""
    luks: str = ""  # UUID
    array: str = ""  # line for mdadm.conf

    @property
    def array_uuid(self) -> str:
        return self.array.partition("UUID=")[2].split()[0] if self.array else ""


def make_layers(case: Case, layout: Layout, disks: list[Path], directory: Path) -> Layers:
    root = layout.part("root")
    if case.stack == "plain":
        return Layers(root.start, root.size)
    key = os.urandom(64) if case.encrypted else b""
    wish = directory / "wish.json"
    told = {"stack": case.stack, "part": root.number}
    wish.write_text(json.dumps({**told, "key": key.hex(), "passphrase": PASSPHRASE}))
    payload = {"main.py": PROGRAMS / "matrix_layers.py", "wish.json": wish}
    supplied = [SuppliedDisk(one) for one in disks]
    found = ask(kernel_guest("bookworm"), directory / "layers", payload, supplied, 300)
    shutil.rmtree(directory / "layers")
    if "error" in found:
        raise RuntimeError(found["error"])
    return Layers(
        offset=root.start + found["offset"],
        size=found["size"],
        payload=root.start + found.get("payload", 0),
        key=key,
        luks=found.get("luks", ""),
        array=found.get("array", ""),
    )


def seal(plain: Path, disk: Path, layers: Layers) -> None:
    """Write a plain filesystem to where it lies in the encrypted part."""
    with plain.open("rb") as source, disk.open("r+b") as target:
        target.seek(layers.offset)
        number = (layers.offset - layers.payload) // 512
        while block := source.read(_UNIT):
            tweak = number.to_bytes(16, "little")
            target.write(
                Cipher(algorithms.AES(layers.key), modes.XTS(tweak)).encryptor().update(block)
            )
            number += _UNIT // 512


def mirror(disks: list[Path], layers: Layers) -> None:
    """Each member of the array gets what the first one has."""
    first, *others = disks
    for other in others:
        with first.open("rb") as source, other.open("r+b") as target:
            at, end = layers.offset, layers.offset + layers.size
            while at < end:
                try:
                    at = os.lseek(source.fileno(), at, os.SEEK_DATA)
                except OSError:
                    return
                stop = min(end, os.lseek(source.fileno(), at, os.SEEK_HOLE))
                while at < stop:
                    block = os.pread(source.fileno(), min(4 << 20, stop - at), at)
                    os.pwrite(target.fileno(), block, at)
                    at += len(block)
