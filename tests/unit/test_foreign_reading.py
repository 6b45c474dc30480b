"""Reading an image over NBD, and what of it is written into a run."""

from __future__ import annotations

import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from notfallserver.server.cycle.import_copy import copy_disk
from notfallserver.server.cycle.normal.runs import Runs
from notfallserver.server.foreign.nbd import MOST, Chunk, Export
from notfallserver.server.foreign.source import Source, Stretch
from notfallserver.server.pool.known import KnownContent
from notfallserver.server.pool.store import Pool
from notfallserver.server.pool.version import Version, check_version
from notfallserver.wire.blocks import BLOCK
from notfallserver.wire.errors import NotfallError
from notfallserver.wire.facts import Disk, Machine

UUID = "7d1f7c1e-0b1a-4a5e-9d3f-000000000001"
Answer = Callable[[int, int, int], bytes]
"""Handle, offset, length: the chunks of a structured reply."""


def chunk(kind: int, handle: int, body: bytes, done: bool = True) -> bytes:
    return struct.pack(">IHHQI", 0x668E33EF, done, kind, handle, len(body)) + body


def data(handle: int, offset: int, content: bytes, done: bool = True) -> bytes:
    return chunk(1, handle, offset.to_bytes(8, "big") + content, done)


def hole(handle: int, offset: int, length: int, done: bool = True) -> bytes:
    return chunk(2, handle, struct.pack(">QI", offset, length), done)


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[[int, Answer], Export]]:
    """A server of NBD that answers as told; one connection each."""
    opened: list[Export] = []
    threads: list[threading.Thread] = []

    def begin(size: int, answer: Answer) -> Export:
        path = tmp_path / f"s{len(threads)}"
        listening = socket.socket(socket.AF_UNIX)
        listening.bind(str(path))
        listening.listen()
        thread = threading.Thread(target=_serve, args=(listening, size, answer))
        thread.start()
        threads.append(thread)
        opened.append(Export(path, 10))
        return opened[-1]

    yield begin
    for one in opened:
        one.__exit__()
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()


def _serve(listening: socket.socket, size: int, answer: Answer) -> None:
    with listening, listening.accept()[0] as peer, peer.makefile("rb") as asked:
        peer.sendall(b"NBDMAGICIHAVEOPT" + struct.pack(">H", 3))
        assert asked.read(4) == struct.pack(">I", 3)
        for option, replies in ((8, ()), (7, ((3, struct.pack(">HQH", 0, size, 3)),))):
            magic, told, length = struct.unpack(">8sII", asked.read(16))
            assert (magic, told) == (b"IHAVEOPT", option)
            asked.read(length)
            for kind, body in (*replies, (1, b"")):
                head = struct.pack(">QIII", 0x3E889045565A9, option, kind, len(body))
                peer.sendall(head + body)
        while request := asked.read(28):
            magic, _, kind, handle, offset, length = struct.unpack(">IHHQQI", request)
            assert magic == 0x25609513
            if kind == 2:
                return
            peer.sendall(answer(handle, offset, length))


def test_data_and_holes_come_in_order_however_they_are_sent(
    serve: Callable[[int, Answer], Export],
) -> None:
    def answer(handle: int, offset: int, length: int) -> bytes:
        first = hole(handle, offset + 100, length - 100, done=False)
        return first + data(handle, offset, b"x" * 100, done=False) + chunk(0, handle, b"")

    export = serve(1000, answer)
    assert export.size == 1000
    assert export.read(0, 1000) == [Chunk(0, 100, b"x" * 100), Chunk(100, 900)]
    assert export.read(500, 200)[0] == Chunk(500, 100, b"x" * 100)


FAILED = "image-reader-failed"
TOO_LONG = struct.Struct(">IHHQI")


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (lambda h, o, n: data(h, o, bytes(n - 1)), FAILED),
        (lambda h, o, n: data(h, o + 1, bytes(n)), FAILED),
        (lambda h, o, n: hole(h, o, n + 1), FAILED),
        (lambda h, o, n: data(h, o, bytes(n), False) + hole(h, o, n), FAILED),
        (lambda h, o, n: data(h + 1, o, bytes(n)), FAILED),
        (lambda h, o, n: chunk(7, h, b""), FAILED),
        (lambda h, o, n: chunk(1, h, b"short"), FAILED),
        (
            lambda h, o, n: TOO_LONG.pack(0x668E33EF, 1, 1, h, MOST * 2),
            FAILED,
        ),
        (
            lambda h, o, n: b"what is no reply, but longer than one",
            FAILED,
        ),
        (lambda h, o, n: chunk(0x8001, h, struct.pack(">IH", 5, 3) + b"EIO"), "image-damaged"),
        (lambda h, o, n: chunk(0x8001, h, b""), "image-damaged"),
    ],
)
def test_a_reader_that_answers_wrongly_is_not_believed(
    serve: Callable[[int, Answer], Export], answer: Answer, code: str
) -> None:
    export = serve(1 << 20, answer)
    with pytest.raises(NotfallError) as caught:
        export.read(4096, 4096)
    assert caught.value.code == code


def test_a_reader_that_ends_is_an_error(tmp_path: Path) -> None:
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(tmp_path / "s"))
    listening.listen()

    def end() -> None:
        listening.accept()[0].close()

    thread = threading.Thread(target=end)
    thread.start()
    with listening, pytest.raises(NotfallError) as caught:
        Export(tmp_path / "s", 10)
    thread.join()
    assert caught.value.code == "image-reader-failed"


class Content:
    """An export of bytes in memory; what is zero throughout a request is told as a hole."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.size = len(content)
        self.asked: list[int] = []

    def read(self, offset: int, length: int) -> list[Chunk]:
        self.asked.append(length)
        part = self.content[offset : offset + length]
        assert len(part) == length
        return [Chunk(offset, length, part if any(part) else None)]


def test_a_disk_is_whole_sectors_and_zeros_are_asked_for_in_large_steps() -> None:
    content: Any = Content(bytes(8 << 20) + os.urandom(BLOCK) + bytes(100))
    source = Source(content)
    assert source.size == (8 << 20) + BLOCK + 512
    found = list(source.stretches())
    assert sum(one.count for one in found) == 130
    assert [one.data is None for one in found] == [True, False]
    assert content.asked == [4 << 20, (4 << 20) + BLOCK + 100]
    assert source.read(source.size - 512, 9999) == bytes(512)
    assert source.read(source.size, 1) == source.read(-1, 1) == b""


# -- into a run ----------------------------------------------------------------------------------


class Pot:
    """A pool, and imports into it."""

    def __init__(self, root: Path) -> None:
        root.mkdir()
        self.pool = Pool(root)
        self.runs = Runs(self.pool, KnownContent(self.pool, False))
        self.told = 0

    def bring(self, content: bytes, stretches: list[Stretch] | None = None) -> Version:
        machine = Machine("shop", disks=[Disk("sda", len(content))]).to_json()
        run = self.runs.begin(UUID, "shop", {"machine": machine})["run"]
        export: Any = Content(content)
        self.told = 0

        def tell(count: int) -> None:
            self.told += count

        given = stretches if stretches is not None else Source(export).stretches()
        copy_disk(given, 0, self.runs, UUID, run, tell)
        body = {"machine": machine, "consistency": "crash"}
        version = self.runs.seal(UUID, run, body, kind="import").version
        assert version is not None
        return version


def test_only_what_differs_is_written_and_what_became_zero_is_a_hole(tmp_path: Path) -> None:
    pot = Pot(tmp_path / "pool")
    size = 200 * BLOCK + 512
    first = bytearray(os.urandom(100 * BLOCK) + bytes(50 * BLOCK) + os.urandom(50 * BLOCK + 512))
    one = pot.bring(bytes(first))
    assert one.raw(0).read_bytes() == first and pot.told == size
    assert one.manifest.disks[0].used == 151
    second = bytearray(first)
    second[BLOCK : 3 * BLOCK] = os.urandom(2 * BLOCK)
    second[10 * BLOCK : 14 * BLOCK] = bytes(4 * BLOCK)
    second[-512:] = os.urandom(512)
    two = pot.bring(bytes(second))
    assert two.raw(0).read_bytes() == second
    assert check_version(one) == check_version(two) == []
    assert two.manifest.disks[0].used == 147
    assert two.manifest.bytes_changed == 2 * BLOCK + 512
    # zeros that are told and not read
    zeros = [Stretch(0, 100), Stretch(100, 101)]
    three = pot.bring(bytes(size), zeros)
    assert not any(three.raw(0).read_bytes()) and three.manifest.disks[0].used == 0
    assert three.manifest.kind == "import"
    pot.runs.close()
