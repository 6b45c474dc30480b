"""Our side: a real server and a real agent, each in a process of its own, TLS over loopback.

The agent is the packed one that the server gives out, run by the system's Python as on any primary.
A replication is measured from the request of a person to the moment the version has its name.
"""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.machine import cpu_seconds, peak_mib
from notfallserver.agent.changes.keeping import remove_traces
from notfallserver.agent.place import Place
from notfallserver.server.agent_package import pack_agent
from notfallserver.server.authority import create_authority
from notfallserver.server.host.mount import unmount_image
from notfallserver.server.host.run import run
from notfallserver.server.pool.version import Manifest, read_version
from notfallserver.server.records.catalogue import open_catalogue
from notfallserver.wire.client import Client, tls_context
from notfallserver.wire.errors import NotfallError

PYTHON = "/usr/bin/python3"
TIED = ("setpriv", "--pdeathsig", "TERM")
"""Before a command: it ends when the benchmark does, also when that is killed."""
LIMIT = 1800.0

_SERVE = (
    "import sys; from pathlib import Path; from notfallserver.server.main import run; "
    "from notfallserver.server.settings import load_settings; run(load_settings(Path(sys.argv[1])))"
)
_INSTALL = (
    "import sys; pyz, url, token, ca, disk, to = sys.argv[1:]; sys.path.insert(0, pyz); "
    "from pathlib import Path; from notfallserver.agent.install import Wish, install; "
    "print(install(Wish(url, token, Path(ca), [disk], False, Path(to), Path(to, 'agent.pyz'))))"
)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(40)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@dataclass(frozen=True)
class Measured:
    """One replication; processor time is of agent and server together."""

    seconds: float
    cpu_seconds: float
    manifest: Manifest
    directory: Path


class Server:
    """The emergency server with its pool on an XFS image; a context manager."""

    def __init__(self, directory: Path, host: str = "127.0.0.1") -> None:
        self._directory = directory
        self._host = host
        self.pool = directory / "pool"
        self._data = directory / "server"
        self._cleanup = ExitStack()
        self._port = free_port()

    def __enter__(self) -> Server:
        self._put_away()
        self._data.mkdir(parents=True)
        settings = self._directory / "notfall.toml"
        settings.write_text(
            f'data_dir = "{self._data}"\npool_path = "{self.pool}"\npool_image_gib = 40\n'
            f'listen_host = "{self._host}"\nlisten_port = {self._port}\n'
            f'urls = ["{self.url}"]\nschedule_minutes = 0\nheartbeat_timeout_s = 86400\n'
            f'log_level = "warning"\nprotect_versions = false\n'
            # No machine is to start meanwhile: what follows a replication ends here at once.
            f'libvirt_uri = "qemu+unix:///system?socket={self._directory}/no-libvirt"\n'
            f'rescue_cache = "{self._directory.parent / "rescue-cache"}"\n'
        )
        self._cleanup.callback(self._put_away)
        self.authority = create_authority(self._data / "ca")
        self.catalogue = open_catalogue(self._data)
        self._cleanup.callback(self.catalogue.close)
        token = self._data / "cli-token"
        self.catalogue.sessions.keep_cli_token(token)
        log = self._cleanup.enter_context((self._directory / "server.log").open("wb"))
        self.process = subprocess.Popen(
            [*TIED, sys.executable, "-c", _SERVE, str(settings)],
            stdin=subprocess.DEVNULL,
            stderr=log,
        )
        self._cleanup.callback(_end, self.process)
        context = tls_context(self.authority.ca_pem)
        self._client = Client(self.url, context, token.read_text("ascii").strip())
        self._cleanup.callback(self._client.close)
        self._await_answer()
        return self

    def __exit__(self, *_: object) -> None:
        self._cleanup.close()

    @property
    def url(self) -> str:
        return f"https://{self._host}:{self._port}"

    def _put_away(self) -> None:
        unmount_image(self.pool)
        run(["rm", "-rf", self._data], timeout=300)

    def _await_answer(self) -> None:
        until = time.monotonic() + 60
        while True:
            try:
                self._client.call("GET", "/api/v1/status")
                return
            except NotfallError as error:
                if not error.retry:
                    return  # it answers
                if time.monotonic() > until or self.process.poll() is not None:
                    raise
            time.sleep(0.2)

    def call(self, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        return self._client.call("POST", f"/api/v1{path}", body)

    def rest(self) -> None:
        """Wait until no job is under way, so that nothing of ours disturbs what comes next."""
        until = time.monotonic() + 900
        while self.catalogue.jobs.unfinished():
            if time.monotonic() > until:
                raise RuntimeError("the server's jobs don't come to an end")
            time.sleep(0.2)

    def forget(self, name: str) -> None:
        """Give the pool's space back."""
        self.call(f"/primaries/{name}/remove", {"confirm": name})


class Agent:
    """A new primary, enrolled by invitation; its service runs within the block.

    ``inside`` are the words that run a command where the primary is, if that is elsewhere.
    """

    def __init__(
        self,
        server: Server,
        directory: Path,
        name: str,
        device: Path,
        inside: Sequence[str] = (),
    ) -> None:
        self._server = server
        self._directory = directory / f"agent-{name}"
        self.name = name
        self._inside = list(inside)
        run(["rm", "-rf", self._directory])
        self._directory.mkdir(parents=True)
        package = self._directory / "download.pyz"
        package.write_bytes(pack_agent())
        token = server.catalogue.invites.invite(name, "bench").token
        self.uuid = (
            run(
                [
                    *self._inside,
                    *(PYTHON, "-B", "-c", _INSTALL),
                    *(package, server.url, token, server.authority.ca_file, device),
                    self._directory,
                ],
                secrets=[token],
            )
            .out.strip()
            .splitlines()[-1]
        )

    def __enter__(self) -> Agent:
        self._log = (self._directory / "agent.log").open("wb")
        program = self._directory / "agent.pyz"
        self.process = subprocess.Popen(
            [*self._inside, *TIED, PYTHON, "-B", program, "run", "--config", self._directory],
            stdin=subprocess.DEVNULL,
            stderr=self._log,
        )
        until = time.monotonic() + 60
        while self._server.catalogue.primaries.find(self.uuid).last_seen is None:
            if time.monotonic() > until or self.process.poll() is not None:
                raise RuntimeError(f"the agent does not call; see {self._directory}/agent.log")
            time.sleep(0.1)
        return self

    def __exit__(self, *_: object) -> None:
        _end(self.process)
        self._log.close()
        remove_traces(Place(self._directory))

    def peak_mib(self) -> float:
        return peak_mib(self.process.pid)

    def replicate(self) -> Measured:
        """From the request to the finished version. Caches are the caller's business."""
        versions = self._server.pool / self.uuid / "versions"
        before = set(versions.iterdir()) if versions.exists() else set()
        used = self._cpu()
        began = time.monotonic()
        job = self._server.call(f"/primaries/{self.name}/replicate")["id"]
        looked = began
        while not (new := set(versions.iterdir()) - before if versions.exists() else set()):
            time.sleep(0.005)
            if time.monotonic() - looked > 2:
                looked = time.monotonic()
                if looked - began > LIMIT or self._failed(job):
                    told = self._server.catalogue.jobs.find(job)
                    raise RuntimeError(f"the replication did not succeed: {told}")
        seconds = time.monotonic() - began
        directory = new.pop()
        manifest = read_version(directory).manifest
        cpu = self._cpu() - used
        self._server.rest()
        log = (self._directory / "agent.log").read_text(errors="replace")
        if "replication failed" in log:  # a second try would count the first one's time too
            raise RuntimeError(f"a run did not succeed at once:\n{log}")
        return Measured(seconds, cpu, manifest, directory)

    def _cpu(self) -> float:
        return cpu_seconds(self.process.pid) + cpu_seconds(self._server.process.pid)

    def _failed(self, job: str) -> bool:
        return self._server.catalogue.jobs.find(job).state in ("failed", "cancelled")


def free_port() -> int:
    """A port on loopback that nobody has now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
