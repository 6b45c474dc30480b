"""Compares the agent's choice of packing with each fixed choice, on lines of different speed.

The agent's own sender, threads and TLS send the same content, taken from this machine's programs,
documents and noise, to a process that unpacks and checks it. The line is the agent's own token
bucket; ``loopback`` has none. Prints a table; "of the best" is the choice's time over that of the
best fixed one.

    python -m bench.packing [--codec zlib|zstd] [--line 2 --line 50 --line 0]
"""

from __future__ import annotations

import argparse
import os
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import cast

from notfallserver.agent.crew import Crew
from notfallserver.agent.disks.direct import DirectDisk
from notfallserver.agent.line import Line
from notfallserver.agent.moment import all_batches
from notfallserver.agent.pace import Pace
from notfallserver.agent.packing import LADDER, Packing, Way
from notfallserver.agent.send import Sender
from notfallserver.agent.stop import Stop
from notfallserver.server.authority import create_authority
from notfallserver.wire.allowance import Allowance
from notfallserver.wire.blocks import BLOCK, Buffer, hash_block
from notfallserver.wire.client import Client, Throttle, tls_context
from notfallserver.wire.frames import PLAIN, XZ, ZLIB, ZSTD, read_blocks, readable_codecs

MIB = 1 << 20
THREADS = 3
AMOUNT_MIB = {2: 32, 10: 48, 50: 64, 0: 512}
"""By the line's Mbit/s: enough for a minute at most."""
NOISE_SHARE = 0.15
SOURCES = ("/usr/lib", "/usr/share/doc", "/usr/bin", "/var/log", "/usr/share")
NAMES = {PLAIN: "plain", ZLIB: "zlib", ZSTD: "zstd", XZ: "xz"}


def content(mib: int) -> bytes:
    """Files of this machine one after another, each from a block on, and noise between."""
    found = bytearray()
    each = mib * MIB // len(SOURCES)
    for source in SOURCES:
        end = len(found) + each
        for directory, _, names in os.walk(source):
            for name in sorted(names):
                path = Path(directory, name)
                if len(found) < end and path.is_file() and not path.is_symlink():
                    read = path.read_bytes()[: 4 * MIB]
                    found += read + bytes(-len(read) % 4096)
                    if len(found) % MIB < NOISE_SHARE * len(read):
                        found += os.urandom(256 * 1024)
            if len(found) >= end:
                break
    repeats = -(-mib * MIB // len(found))
    return bytes((found * repeats)[: mib * MIB])


class Fixed(Packing):
    """Always the same way."""

    def __init__(self, way: Way) -> None:
        super().__init__(PLAIN, [], 1, lambda: 0.0)
        self._fixed = way

    def choose(self, payload: Buffer) -> Way:
        return self._fixed


class MemoryDisk:
    """Reads from memory, so that only packing and line are measured."""

    def __init__(self, held: bytes) -> None:
        self.size = len(held)
        self.disk = SimpleNamespace(blocks=len(held) // BLOCK)
        self._held = memoryview(held)

    def read_into(self, view: memoryview, offset: int) -> None:
        view[:] = self._held[offset : offset + len(view)]


def receive(directory: Path) -> None:
    """The other side: unpack, check, answer; tells its port in a file."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            frame = read_blocks(self.rfile.read(int(self.headers["Content-Length"])))
            view = memoryview(frame.payload)
            for place, (_, digest) in enumerate(frame.entries):
                if hash_block(view[place * BLOCK : (place + 1) * BLOCK]) != digest:
                    raise RuntimeError("a block arrived damaged")
            self.send_response(204)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Quiet."""

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(directory / "ca" / "server.pem", directory / "ca" / "server.key")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.socket = context.wrap_socket(
        server.socket, server_side=True, do_handshake_on_connect=False
    )
    (directory / "port.new").write_text(str(server.server_address[1]))
    (directory / "port.new").rename(directory / "port")
    server.serve_forever()


def send(
    url: str, ca_pem: str, held: bytes, mbit: int, packing: Packing | int
) -> tuple[float, int]:
    """Seconds and bytes on the line."""
    pace = Pace()
    pace.allow(Allowance(rate=mbit * 125_000))
    if isinstance(packing, int):
        threads = min(THREADS, os.cpu_count() or 1)
        packing = Packing(packing, readable_codecs(), threads, pace.line_rate)

    def connect(throttle: Throttle) -> Line:
        return Line(Client(url, tls_context(ca_pem), throttle=throttle), Stop())

    disk = cast(DirectDisk, MemoryDisk(held))
    crew = Crew(THREADS)
    sender = Sender(crew, connect, [disk], "", packing, pace, THREADS)
    sender.unasked = True
    try:
        began = time.monotonic()
        sender.send_all(all_batches([[(0, len(held) // BLOCK)]]), lambda: None)
        return time.monotonic() - began, sender.sent
    finally:
        pace.close()
        sender.close()
        crew.close()
        if not isinstance(packing, Fixed):
            print(f"    it ended with {name_of(packing.way)}", flush=True)


def name_of(way: Way) -> str:
    return NAMES[way[0]] + (f"-{way[1]}" if way[0] != PLAIN else "")


def compare(url: str, ca_pem: str, mbit: int, codec: int) -> str:
    """One row of the table."""
    held = content(AMOUNT_MIB.get(mbit, 64))
    line = f"{mbit} Mbit/s" if mbit else "loopback"
    seconds: dict[str, float] = {}
    # xz without a line's limit would take minutes to show what everybody knows.
    ways = [(PLAIN, 0), *(way for way in LADDER[codec] if mbit or way[0] != XZ)]
    choices: Sequence[tuple[str, Packing | int]] = [
        *((name_of(way), Fixed(way)) for way in ways),
        ("chosen", codec),
    ]
    for name, packing in choices:
        seconds[name], sent = send(url, ca_pem, held, mbit, packing)
        print(f"  {line} {name}: {seconds[name]:.2f} s, {sent / MIB:.1f} MiB", flush=True)
    chosen = seconds.pop("chosen")
    best = min(seconds, key=lambda one: seconds[one])
    told = ", ".join(f"{name} {each:.1f}" for name, each in seconds.items())
    return f"| {line} | {len(held) // MIB} | {told} | {chosen:.1f} | {chosen / seconds[best]:.2f} |"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.packing", description=__doc__)
    parser.add_argument("--codec", choices=("zlib", "zstd"), default="zlib")
    parser.add_argument("--line", type=int, action="append", help="Mbit/s; 0 is loopback")
    parser.add_argument("--receive", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.receive:
        receive(given.receive)
        return 0
    codec = ZLIB if given.codec == "zlib" else ZSTD
    rows = ["| line | MiB | fixed choices, s | chosen, s | of the best |", "|---|---|---|---|---|"]
    with ExitStack() as cleanup:
        directory = Path(cleanup.enter_context(tempfile.TemporaryDirectory()))
        authority = create_authority(directory / "ca")
        authority.ensure_server_certificate(["127.0.0.1"])
        other = subprocess.Popen([sys.executable, "-m", "bench.packing", "--receive", directory])
        cleanup.callback(other.wait)
        cleanup.callback(other.terminate)
        while not (directory / "port").exists():
            if other.poll() is not None:
                return 1
            time.sleep(0.05)
        url = f"https://127.0.0.1:{(directory / 'port').read_text()}"
        for mbit in given.line or [2, 50, 0]:
            rows.append(compare(url, authority.ca_pem, mbit, codec))
    print("\n".join(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
