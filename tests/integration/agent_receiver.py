"""For tests of the agent: the real pool behind a plain HTTPS server, and disks on loop devices."""

from __future__ import annotations

import json
import os
import socket
import ssl
import subprocess
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from notfall_lab.patience import PATIENCE_S
from notfallserver.agent.config import Settings, settings_text
from notfallserver.server.agent_package import pack_agent
from notfallserver.server.authority import create_authority
from notfallserver.server.cycle.normal.runs import Runs
from notfallserver.server.pool.known import KnownContent
from notfallserver.server.pool.store import Pool
from notfallserver.wire.errors import NotfallError
from notfallserver.wire.facts import read_machine

PATH = "/usr/sbin:/usr/bin:/sbin:/bin"


def command(*arguments: object, timeout: float = 60, **options: Any) -> str:
    done = subprocess.run(
        [str(one) for one in arguments],
        check=True,
        text=True,
        stdout=subprocess.PIPE,
        timeout=timeout,
        env={**os.environ, "PATH": PATH},
        **options,
    )
    return str(done.stdout).strip()


class Receiver:
    """One primary's runs, received by the server's own code."""

    def __init__(self, root: Path, listener: socket.socket | None = None) -> None:
        """``listener`` may be in another network; None: on this machine's loopback."""
        self.uuid = str(uuid.uuid4())
        pool = Pool(root / "pool")
        (root / "pool" / self.uuid).mkdir(parents=True)
        self.store = pool.primary(self.uuid)
        self.store.paths.make()
        self.runs = Runs(pool, KnownContent(pool))
        self.config = root / "config"
        self.config.mkdir()
        self.token = "right"
        self.log: list[str] = []
        self.failures: list[dict[str, Any]] = []
        self.seals: list[dict[str, Any]] = []
        self.orders: list[str] = []
        self.free_polls = 0  # of an agent that has nothing to do
        self.stand_in = False  # whether it works: then a primary must stay off the network
        self.near: list[str] = []  # what is told of link-local addresses
        self.kept_off: list[dict[str, Any]] = []
        self.fail_next = 0  # how many requests are cut without an answer
        self.blocks_bytes = 0
        self.connections = 0  # that are open: also of an agent that was killed just now
        self._counting = threading.Lock()
        authority = create_authority(root / "ca")
        authority.ensure_server_certificate(["127.0.0.1"])
        client = authority.issue_client(self.uuid)
        for name, text in (
            ("ca.pem", authority.ca_pem),
            ("cert.pem", client.certificate),
            ("key.pem", client.key),
        ):
            (self.config / name).write_text(text)
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if receiver.fail_next:
                    receiver.fail_next -= 1
                    self.close_connection = True
                    self.connection.close()
                    return
                try:
                    answer, status = receiver.answer(self.path, body), 200
                except NotfallError as error:
                    answer, status = json.dumps(error.to_json()).encode(), error.status
                self.send_response(status)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: object) -> None:
                """Quiet."""

            def setup(self) -> None:
                with receiver._counting:
                    receiver.connections += 1
                super().setup()

            def finish(self) -> None:
                try:
                    super().finish()
                finally:
                    with receiver._counting:
                        receiver.connections -= 1

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: object) -> None:
                """Cut connections are part of the tests."""

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(authority.server_certificate, authority.server_key)
        context.load_verify_locations(authority.ca_file)
        context.verify_mode = ssl.CERT_OPTIONAL
        listener = listener or socket.create_server(("127.0.0.1", 0))
        self._server = Server(listener.getsockname()[:2], Handler, bind_and_activate=False)
        self._server.socket.close()
        self._server.socket = listener
        self._server.server_address = listener.getsockname()
        self._server.socket = context.wrap_socket(
            self._server.socket, server_side=True, do_handshake_on_connect=False
        )
        self.url = f"https://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,))
        self._thread.start()

    def answer(self, path: str, body: bytes) -> bytes:
        parts = path.split("/")[3:]
        self.log.append(parts[-1])
        if parts == ["poll"]:
            free = json.loads(body)["busy"] is False  # as the server: who is busy gets no order
            self.free_polls += free
            order = self.orders.pop() if self.orders and free else "none"
            order = "stay-off" if self.stand_in else order
            return json.dumps({"order": order, "job": "1", "near": self.near}).encode()
        if parts == ["kept-off"]:
            self.kept_off.append(json.loads(body))
            return json.dumps({"stay": self.stand_in}).encode()
        if parts == ["enrol"]:
            return self._enrol(json.loads(body))
        if parts == ["runs"]:
            return json.dumps(self.runs.begin(self.uuid, "test", json.loads(body))).encode()
        _, run, what = parts
        if what == "offer":
            return self.runs.offer(self.uuid, run, body)
        if what == "blocks":
            self.blocks_bytes += len(body)
            self.runs.receive(self.uuid, run, body)
        elif what == "holes":
            self.runs.punch(self.uuid, run, body)
        elif what == "progress":
            return json.dumps(
                {"cancelled": self.runs.progress(self.uuid, run, json.loads(body))}
            ).encode()
        elif what == "seal":
            told = json.loads(body)
            version = self.runs.seal(self.uuid, run, told).version
            self.seals.append(told)
            assert version is not None
            return json.dumps({"version": version.stamp}).encode()
        elif what == "fail":
            self.failures.append(json.loads(body))
            self.runs.fail(self.uuid, run, json.loads(body))
        return b""

    def _enrol(self, body: dict[str, Any]) -> bytes:
        if body["token"] != self.token:
            raise NotfallError("bad-token", "This invitation is not valid.", "Ask for a new one.")
        self.token = ""
        read_machine(body["machine"])
        pem = {name: (self.config / f"{name}.pem").read_text() for name in ("ca", "cert", "key")}
        answer = {
            "primary": self.uuid,
            "certificate": pem["cert"],
            "key": pem["key"],
            "ca": pem["ca"],
            "url": self.url,
        }
        return json.dumps(answer).encode()

    def settings(self, disks: list[str], **others: Any) -> Settings:
        settings = Settings(self.url, self.uuid, disks, **others)
        (self.config / "agent.json").write_text(settings_text(settings))
        return settings

    def image(self, index: int = 0) -> Path:
        newest = self.store.newest()
        assert newest is not None
        return newest.raw(index)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        self.runs.close()


@contextmanager
def loop_device(image: Path, *options: str) -> Iterator[str]:
    device = command("losetup", "-f", "--show", *options, image)
    try:
        # Not by losetup -P: this also works where the kernel itself reads no partition tables.
        subprocess.run(["partx", "-u", device], stderr=subprocess.DEVNULL, check=False)
        yield device
    finally:
        subprocess.run(["partx", "-d", device], stderr=subprocess.DEVNULL, check=False)
        command("losetup", "-d", device)


@contextmanager
def mounted(device: str, place: Path, *options: str) -> Iterator[Path]:
    place.mkdir(exist_ok=True)
    command("mount", *options, device, place)
    try:
        yield place
    finally:
        with suppress(subprocess.CalledProcessError):
            subprocess.run(["fsfreeze", "-u", place], stderr=subprocess.DEVNULL, check=False)
        _unmount(place)


def _unmount(place: Path) -> None:
    """The watchdog of an agent that was killed may hold the place a moment longer."""
    end = time.monotonic() + PATIENCE_S
    while True:
        try:
            command("umount", place)
            return
        except subprocess.CalledProcessError:
            if time.monotonic() > end:
                raise
        time.sleep(0.1)


def packed_agent(target: Path) -> Path:
    """The agent as it is shipped."""
    target.write_bytes(pack_agent())
    return target


def partition(image: Path, size: int, script: str) -> None:
    """A new sparse disk with this table (sfdisk's language)."""
    with image.open("wb") as stream:
        stream.truncate(size)
    command("sfdisk", "-q", image, input=script)
