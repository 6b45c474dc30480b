"""Starting and ending ``small_house`` as a process, and reaching it."""

from __future__ import annotations

import os
import socket
import ssl
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from notfallserver.wire.client import tls_context

HERE = Path(__file__).parent
PASSWORD = "a good password"
MACHINE = {
    "hostname": "web.example",
    "system": "Debian GNU/Linux 12",
    "nics": [{"name": "eth0", "mac": "52:54:00:00:00:01", "addresses": ["192.0.2.1/24"]}],
    "disks": [{"name": "vda", "size": 1 << 30}],
}


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


@dataclass
class SmallServer:
    directory: Path
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    @property
    def settings(self) -> Path:
        return self.directory / "notfall.toml"

    @property
    def data(self) -> Path:
        return self.directory / "data"

    def start(self) -> None:
        self.data.mkdir(exist_ok=True)
        self.settings.write_text(
            f'data_dir = "{self.data}"\npool_path = "{self.data}/pool"\n'
            f'listen_host = "127.0.0.1"\nlisten_port = {self.port}\nurls = ["{self.url}"]\n'
        )
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-W", "error", HERE / "small_house.py", self.settings],
                stdout=log,
                stderr=log,
            )
        until = time.monotonic() + 30
        while time.monotonic() < until:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                time.sleep(0.1)
        raise AssertionError(self.log())

    def stop(self, kill: bool = False) -> float:
        """End the process; returns how long that took, in seconds."""
        began = time.monotonic()
        if self.process:
            if kill:
                self.process.kill()
            else:
                self.process.terminate()
            code = self.process.wait(20)
            assert kill or code == 0, self.log()
            self.process = None
        return time.monotonic() - began

    def log(self) -> str:
        return (self.directory / "log").read_text()

    @property
    def ca(self) -> str:
        return (self.data / "ca" / "ca.pem").read_text()

    def context(self, certificate: str = "", key: str = "") -> ssl.SSLContext:
        if not certificate:
            return tls_context(self.ca)
        files = self.directory / "client.pem", self.directory / "client.key"
        files[0].write_text(certificate)
        files[1].write_text(key)
        return tls_context(self.ca, str(files[0]), str(files[1]))

    def client(self, certificate: str = "", key: str = "", **given: Any) -> httpx.Client:
        verify = self.context(certificate, key)
        return httpx.Client(base_url=self.url, verify=verify, trust_env=False, **given)

    def root(self) -> httpx.Client:
        token = (self.data / "cli-token").read_text().strip()
        return self.client(headers={"Authorization": f"Bearer {token}"}, timeout=30)

    def enrol(self, name: str) -> dict[str, str]:
        """Invite and enrol a primary as its agent would."""
        with self.root() as root, self.client() as fresh:
            line = root.post("/api/v1/invites", json={"name": name}).json()["line"]
            token = line.split('"--token","')[1].split('"')[0]
            answer = fresh.post("/agent/v1/enrol", json={"token": token, "machine": MACHINE})
            assert answer.status_code == 200, answer.text
            enrolled: dict[str, str] = answer.json()
            return enrolled

    def notfall(self, *arguments: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", "from notfallserver.server.cli import main; main()", *arguments],
            env={**os.environ, "NOTFALL_CONFIG": str(self.settings), "NO_COLOR": "1"},
            input=text,
            stdin=None if text is not None else subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
