"""The rescue system for real: built, booted in QEMU from its ISO, told to pull, adapt and reboot.

The server's side is a small HTTPS server over an image file, because here the target is tested;
the whole cycle with the real server is the end-to-end test.
"""

from __future__ import annotations

import json
import os
import re
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from bare_machine import machine, wait_text

from notfall_lab.cache import base_directory
from notfall_lab.image import make_image
from notfall_lab.recipe_guest import BIOS
from notfallserver.server.rescue_medium import Medium, build_medium
from notfallserver.wire.blocks import BLOCK, hash_block
from notfallserver.wire.frames import ZLIB, read_want, write_blocks

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

WORK_S = 900


@dataclass
class FakeServer:
    """Gives one target orders and the blocks of image files."""

    images: list[Path]
    order: dict[str, Any] = field(default_factory=lambda: {"order": "none"})
    reports: list[dict[str, Any]] = field(default_factory=list)
    registered: list[dict[str, Any]] = field(default_factory=list)
    wanted: int = 0
    port: int = 0

    def answer(self, path: str, body: bytes) -> bytes:
        parts = urlsplit(path)
        query = {key: value[0] for key, value in parse_qs(parts.query).items()}
        if parts.path == "/target/v1/register":
            self.registered.append(json.loads(body))
            return b'{"target": "t1"}'
        if parts.path == "/target/v1/poll":
            self.reports.append(json.loads(body)["report"])
            time.sleep(0.3)
            return json.dumps(self.order).encode()
        if parts.path == "/target/v1/index":
            return self.index(self.images[int(query["disk"])])
        assert parts.path == "/target/v1/want"
        disk, numbers = read_want(body)
        self.wanted += len(numbers)
        with self.images[disk].open("rb") as raw:
            blocks = []
            for number in numbers:
                raw.seek(number * BLOCK)
                blocks.append(raw.read(BLOCK))
        entries = [(n, hash_block(b)) for n, b in zip(numbers, blocks, strict=True)]
        return write_blocks(disk, entries, b"".join(blocks), ZLIB)

    @staticmethod
    def index(image: Path) -> bytes:
        with image.open("rb") as raw:
            return b"".join(hash_block(block) for block in iter(lambda: raw.read(BLOCK), b""))

    def wait(self, state: str, **want: str) -> dict[str, Any]:
        until = time.monotonic() + WORK_S
        seen = len(self.reports)
        while time.monotonic() < until:
            for report in self.reports[seen:]:
                assert report.get("state") != "failed" or state == "failed", report
                if report.get("state") == state and want.items() <= report.items():
                    return report
            time.sleep(0.2)
        raise AssertionError(f"no report '{state}', last: {self.reports[-1:]}")


@contextmanager
def serving(server: FakeServer, folder: Path) -> Iterator[str]:
    """Yields the CA in PEM; the server listens on loopback until the block ends."""
    key, cert = folder / "key.pem", folder / "cert.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-keyout", key, "-out", cert, "-days", "2", "-subj", "/CN=test"),
            *("-addext", "basicConstraints=critical,CA:TRUE"),
        ],
        check=True,
        capture_output=True,
    )

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            told = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            assert re.fullmatch(r"Bearer [0-9a-f]{64}", self.headers["Authorization"])
            answer = server.answer(self.path, told)
            self.send_response(200)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        do_GET = do_POST

        def log_message(self, format: str, *args: object) -> None:
            pass

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        http.daemon_threads = True
        http.handle_error = lambda *told: None  # type: ignore[method-assign]
        http.socket = context.wrap_socket(http.socket, server_side=True)
        server.port = http.server_address[1]
        thread = threading.Thread(target=http.serve_forever, daemon=True)
        thread.start()
        yield cert.read_text()
        http.shutdown()


def build(folder: Path, urls: list[str], ca: str) -> Medium:
    return build_medium(folder / "medium", urls, ca, base_directory() / "rescue")


def sparse(path: Path, size: int) -> Path:
    with path.open("xb") as file:
        file.truncate(size)
    return path


def test_medium_boots_by_uefi_and_shows_code_and_disks(tmp_path: Path) -> None:
    server = FakeServer([])
    with serving(server, tmp_path) as ca:
        medium = build(tmp_path, [f"https://10.0.2.2:{server.port}"], ca)
        disk = sparse(tmp_path / "disk", 1 << 30)
        firmware = "if=pflash,format=raw,readonly=on,file=/usr/share/OVMF/OVMF_CODE_4M.fd"
        with machine(
            *(tmp_path, "-drive", firmware, "-cdrom", medium.iso, "-nic", "user,model=e1000e"),
            *(
                "-drive",
                f"if=none,id=d,file={disk},format=raw",
                "-device",
                "nvme,drive=d,serial=N-7",
            ),
        ) as log:
            code = wait_text(log, r"Pairing code:  [A-Z2-7]{8}").split()[-1]
            assert "N-7" in wait_text(log, r"nvme0n1.*empty")
            wait_text(log, rf"Emergency server:  https://10.0.2.2:{server.port}\s*\n")
            assert server.registered[0]["code"] == code
            told = server.registered[0]["machine"]
            assert told["firmware"] == "uefi"
            assert [(d["name"], d["size"], d["driver"]) for d in told["disks"]] == [
                ("nvme0n1", 1 << 30, "nvme")
            ]


@pytest.mark.timeout(1200)  # three boots and two disks, all emulated, beside another lane's guests
def test_target_pulls_adapts_and_starts_from_its_own_disks(tmp_path: Path) -> None:
    images = make_image(BIOS).copy_to(tmp_path / "image")
    server = FakeServer(images)
    targets = [sparse(tmp_path / "t0", 4 << 30), sparse(tmp_path / "t1", 2 << 30)]
    foreign = tmp_path / "foreign"
    foreign.write_bytes(os.urandom(8 << 20))
    kept = foreign.read_bytes(), foreign.stat().st_mtime_ns
    drives: list[str | Path] = []
    for at, disk in enumerate(targets):
        drives += ["-drive", f"if=none,id=t{at},file={disk},format=raw,discard=unmap"]
        drives += ["-device", f"nvme,drive=t{at},serial=T{at},bootindex={at + 1}"]
    orders = [
        {"index": at, "name": f"nvme{at}n1", "serial": f"T{at}", "size": disk.stat().st_size}
        for at, disk in enumerate(targets)
    ]
    mac = "52:54:00:00:00:99"
    # stale content where the image has holes: nothing of it may survive
    with targets[1].open("r+b") as stale:
        stale.write(os.urandom(1 << 20))
        stale.seek(1 << 30)
        stale.write(os.urandom(4 << 20))
        stale.seek(512 + 446 + 64)
    with serving(server, tmp_path) as ca:
        medium = build(tmp_path, [f"https://10.0.2.2:{server.port}"], ca)
        extra = ["-drive", f"if=none,id=f,file={foreign},format=raw", "-device", "ide-hd,drive=f"]
        boot: list[str | Path] = [
            "-kernel",
            medium.vmlinuz,
            "-initrd",
            medium.initrd,
            "-append",
            "console=ttyS0 quiet",
        ]
        nic = ["-nic", f"user,model=e1000e,mac={mac}"]
        with machine(tmp_path, *drives, *extra, *boot, *nic, "-no-reboot") as log:
            wait_text(log, r"Pairing code")
            base = {"recovery": "r1", "disks": orders}
            wrong = [{**orders[0], "serial": "OTHER"}, orders[1]]
            server.order = {
                "order": "pull",
                "version": "v1",
                "final": False,
                **base,
                "disks": wrong,
            }
            assert server.wait("failed")["error"]["code"] == "disk-changed"
            assert server.wanted == 0

            server.order = {"order": "pull", "version": "v1", "final": False, **base}
            first = server.wait("pulled", version="v1")
            assert first["written"] == first["verified"] or first["verified"] > first["written"]

            with images[1].open("r+b") as changed:
                changed.seek(100 << 20)
                changed.write(os.urandom(BLOCK))
            before = server.wanted
            server.order = {"order": "pull", "version": "v2", "final": True, **base}
            server.wait("pulled", version="v2")
            assert server.wanted == before + 1

            for image, target in zip(images, targets, strict=True):
                subprocess.run(
                    ["cmp", "-n", str(image.stat().st_size), image, target], check=True, timeout=300
                )

            original = {
                "hostname": "shop",
                "disks": [{"name": name, "size": 1} for name in ("vda", "vdb")],
                "nics": [{"name": BIOS.nic, "mac": BIOS.mac, "driver": "virtio_net"}],
            }
            # the second disk is as large as its image: only the first one grows
            server.order = {"order": "adapt", "original": original, "grow": True, **base}
            changes = server.wait("adapted")["changes"]
            assert any("nvme" in one for one in changes)
            assert any(BIOS.nic in one for one in changes)
            grown = [one for one in changes if "grown" in one]
            assert grown == ["/dev/nvme0n1: partition 1 grown from 2688 to 3712 MiB"], changes
            server.order = {"order": "reboot", "recovery": "r1"}
            server.wait("rebooting")
        # not even the same bytes were written there
        assert (foreign.read_bytes(), foreign.stat().st_mtime_ns) == kept
    with machine(tmp_path, *drives, "-nic", f"user,model=e1000e,mac={mac}") as log:
        wait_text(log, r"login:")
