"""The real server as a process of its own: set up, started, ended or killed, and reached.

Its pool is an XFS image below its directory. It has a libvirt that nobody serves, unless a test
names another: what needs a machine fails. The rescue medium counts as built, because without a
machine nobody reads it.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import httpx

from notfall_lab.nursery import Child, nursery
from notfall_lab.patience import PATIENCE_S
from notfallserver.server import rescue_medium
from notfallserver.server.host.clone import can_reflink
from notfallserver.server.host.mount import unmount_image
from notfallserver.server.pool.store import Clones, Pool
from notfallserver.server.records import Catalogue, open_catalogue
from notfallserver.wire.client import tls_context

MACHINE = {
    "hostname": "web.example",
    "system": "Debian GNU/Linux 12",
    "nics": [{"name": "eth0", "mac": "52:54:00:00:00:01", "addresses": ["198.51.100.1/24"]}],
    "disks": [{"name": "vda", "size": 1 << 30}],
}
SETTINGS = {
    "pool_image_gib": 4,
    "listen_host": "127.0.0.1",
    "schedule_minutes": 0,
    "capture_minutes": 0,
    "rehearsal_days": 0,
    # The guard would ask the primary's addresses, which are not of this test.
    "heartbeat_timeout_s": 86400,
}

PROGRAM = "from notfallserver.server.cli import main; main()"
# Most polls of a test have nothing to wait for; a real server holds each for 5 s.
HASTE = (
    "from notfallserver.server.cycle import doors; doors.POLL_SECONDS = 0.5; "
    "from notfallserver.server.cycle.recovery import desk; desk.POLL_SECONDS = 1.0; "
)


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


def token_of(line: str) -> str:
    """The token in an invitation's line."""
    return line.split('"--token","')[1].split('"', maxsplit=1)[0]


@dataclass
class ServerProcess:
    """``inside`` stands before every command: the way into a network namespace.

    ``haste`` is run in the server before it begins.
    ``fresh``: whoever logs in first is led through the set-up; else it counts as put aside.
    """

    directory: Path
    settings: dict[str, Any] = field(default_factory=dict)
    inside: Sequence[str] = ()
    port: int = field(default_factory=free_port)
    fresh: bool = False
    password: str = ""
    process: subprocess.Popen[bytes] | Child | None = None
    haste: str = HASTE

    @property
    def url(self) -> str:
        return f"https://{self.settings.get('listen_host', '127.0.0.1')}:{self.port}"

    @property
    def settings_file(self) -> Path:
        return self.directory / "notfall.toml"

    @property
    def data(self) -> Path:
        return self.directory / "data"

    @property
    def pool(self) -> Pool:
        return Pool(self.data / "pool")

    def set_up(self) -> None:
        """Write the settings and let the server make what it needs."""
        settings = {
            **SETTINGS,
            "data_dir": str(self.data),
            "pool_path": str(self.data / "pool"),
            "listen_port": self.port,
            # Where the pool is no image of its own, nobody could remove the directory afterwards.
            "protect_versions": not can_reflink(self.directory),
            "urls": [self.url],
            "libvirt_uri": f"qemu+unix:///system?socket={self.directory}/nobody",
            **self.settings,
        }
        lines = [f"{key} = {json.dumps(value)}\n" for key, value in settings.items()]
        self.settings_file.write_text("".join(lines))
        made = self.notfall("server", "init", "--json")
        assert made.returncode == 0, made.stderr
        self.password = json.loads(made.stdout)["password"]
        if not self.fresh:
            with self.catalogue() as catalogue:
                catalogue.notes.keep("set-up", {"state": "aside"}, "set-up-aside", "test")
        self.pretend_medium()

    def pretend_medium(self) -> None:
        """Let the rescue medium count as built."""
        medium = self.data / "rescue"
        medium.mkdir()
        for path in vars(rescue_medium.medium_in(medium)).values():
            path.touch()
        rescue_medium.seal_medium(medium, [self.url])

    def start(self, look_s: float = 0.1) -> None:
        """Return when the port answers, which is looked at every ``look_s``."""
        if not self.settings_file.exists():
            self.set_up()
        with (self.directory / "log").open("ab") as log:
            self.process = self._begin(log)
        until = time.monotonic() + PATIENCE_S
        while self.process.poll() is None and time.monotonic() < until:
            if self.notfall_answers():
                return
            time.sleep(look_s)
        raise AssertionError(self.log())

    def notfall_answers(self) -> bool:
        if self.inside:
            return self.notfall("server", "status").returncode == 0
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        except OSError:
            return False
        return True

    def stop(self) -> float:
        """End the process in order; returns how long that took, in seconds."""
        began = time.monotonic()
        if self.process:
            self.process.terminate()
            code = self.process.wait(PATIENCE_S)
            self.process = None
            assert code == 0, self.log()
            assert "Traceback" not in self.log(), self.log()
        return time.monotonic() - began

    def kill(self) -> None:
        """End the process at once, as the kernel does when memory is short."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(PATIENCE_S)
        self.process = None

    def put_away(self) -> None:
        """End the process and unmount the pool, whatever happened before."""
        try:
            self.stop()
        finally:
            if self.process:
                self.kill()
            unmount_image(self.data / "pool")

    def log(self) -> str:
        return (self.directory / "log").read_text()

    # -- reaching it -----------------------------------------------------------------------------

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

    def invite(self, name: str, *options: str) -> str:
        """The token of an invitation."""
        done = self.notfall("primary", "invite", name, *options)
        assert done.returncode == 0, done.stderr
        return token_of(done.stdout)

    def enrol(self, name: str, machine: dict[str, Any] | None = None) -> dict[str, str]:
        """Invite and enrol a primary as its agent would."""
        with self.client() as fresh:
            body = {"token": self.invite(name), "machine": machine or MACHINE}
            answer = fresh.post("/agent/v1/enrol", json=body)
            assert answer.status_code == 200, answer.text
            enrolled: dict[str, str] = answer.json()
            return enrolled

    def job(self, job: str) -> dict[str, Any]:
        with self.root() as root:
            answer = root.get(f"/api/v1/jobs/{job}")
            assert answer.status_code == 200, answer.text
            row: dict[str, Any] = answer.json()
            return row

    def await_job(self, job: str, seconds: float = PATIENCE_S) -> dict[str, Any]:
        """The job when it is over."""
        until = time.monotonic() + seconds
        while not (row := self.job(job))["finished_at"]:
            assert time.monotonic() < until, row
            time.sleep(0.2)
        return row

    @contextmanager
    def catalogue(self) -> Iterator[Catalogue]:
        """The catalogue, beside the server."""
        catalogue = open_catalogue(self.data)
        try:
            yield catalogue
        finally:
            catalogue.close()

    def put_in_emergency(self, primary: str) -> None:
        """As after an activation: a stand-in of the newest version's disks, and the state.

        A real activation needs a machine; what follows here needs only its disks. They come from
        the version itself: its prepared image is the server's, which may be making it just now.
        """
        store = self.pool.primary(primary)
        newest = store.need_newest()
        disks = tuple(newest.raw(disk.index) for disk in newest.manifest.disks)
        store.make_standin(Clones(disks[0].parent, disks, {"version": newest.stamp}), {})
        with self.catalogue() as catalogue:
            for before, after, event in (
                ("normal", "activating", "activate"),
                ("activating", "emergency", "standin_up"),
            ):
                catalogue.primaries.move(primary, before, after, event, "test")

    def notfall(
        self, *arguments: str, text: str | None = None, timeout: float = PATIENCE_S
    ) -> subprocess.CompletedProcess[str]:
        if not self.inside:
            return nursery().run(PROGRAM, arguments, self._environment(), text or "", timeout)
        return subprocess.run(
            self._line(*arguments),
            env=self._environment(),
            input=text or "",
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def _begin(self, log: IO[bytes]) -> subprocess.Popen[bytes] | Child:
        line = ("server", "run")
        environment = self._environment()
        if self.inside or self.haste != HASTE:  # which may change what others have by name
            whole = self._line(*line, program=self.haste + PROGRAM, warnings="error")
            return subprocess.Popen(
                whole, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        with Path(os.devnull).open("rb") as nothing:
            files = (nothing, log, log)
            return nursery().begin(HASTE + PROGRAM, line, environment, files, "error")

    def _line(self, *arguments: str, program: str = PROGRAM, warnings: str = "ignore") -> list[str]:
        return [*self.inside, sys.executable, "-W", warnings, "-c", program, *arguments]

    def _environment(self) -> dict[str, str]:
        return {**os.environ, "NOTFALL_CONFIG": str(self.settings_file), "NO_COLOR": "1"}


@contextmanager
def running(server: ServerProcess, look_s: float = 0.1) -> Iterator[ServerProcess]:
    """Started, and put away afterwards."""
    try:
        server.start(look_s)
        yield server
    finally:
        server.put_away()
