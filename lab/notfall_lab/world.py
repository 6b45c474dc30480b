"""One emergency server with its LAN, as a person would set it up and command it.

``with World("demo", directory) as world`` gives the lab of :mod:`hypervisor` with a router that
answers DHCP and a customer's machine; ``world.start_server()`` runs ``notfall server``, and
``world.notfall(...)`` any other command, always as a process, never by import; ``world.ask(...)``
asks the API, for waiting.
"""

from __future__ import annotations

import http.client
import json
import shlex
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from notfall_lab.cache import base_directory
from notfall_lab.guestshell import GuestShell
from notfall_lab.hypervisor import Lab
from notfall_lab.machine import Machine
from notfall_lab.namespace import BRIDGE
from notfall_lab.netns import get
from notfall_lab.orders import RATE, OrderClient
from notfall_lab.patience import PATIENCE_S
from notfall_lab.recipe_guest import Recipe
from notfall_lab.router import dhcp
from notfallserver.server.host.clone import can_reflink
from notfallserver.server.rescue_medium import keep_packages
from notfallserver.wire.client import tls_context

PORT = 8443
CUSTOMER = "customer"


class CommandRefused(RuntimeError):
    """A ``notfall`` command that ended with an error; ``code`` is the error's stable name."""

    def __init__(self, line: str, told: str) -> None:
        super().__init__(f"notfall {line}: {told.strip()[-2000:]}")
        try:
            self.code = str(json.loads(told.strip().splitlines()[-1])["code"])
        except (ValueError, LookupError):
            self.code = ""


@dataclass(frozen=True)
class Tuning:
    """Settings of the server that scenarios vary."""

    heartbeat_timeout_s: int = 10
    capture_minutes: int = 0
    schedule_minutes: int = 0
    pool_image_gib: int = 24


def fetch_packages() -> Path:
    """The rescue medium's, into the cache: a server's machine reaches nothing but the lab."""
    packages = base_directory() / "rescue"
    keep_packages(packages)
    return packages


class World:
    """Context manager; everything in it ends with it. ``directory`` must not be deep."""

    def __init__(self, name: str, directory: Path, tuning: Tuning | None = None) -> None:
        self.directory = directory.resolve()
        self.lab = Lab(name, self.directory / "lab")
        self.tuning = tuning or Tuning()
        self.settings = self.directory / "notfall.toml"
        self.log = self.directory / "server.log"
        self.password = ""
        """The administrator's, when the server is set up."""
        self._pid_file = self.directory / "server.pid"
        self._server: subprocess.Popen[bytes] | None = None
        self._stack = ExitStack()

    def __enter__(self) -> World:
        self.directory.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            stack.enter_context(self.lab)
            stack.enter_context(dhcp(self.lab.network))
            self.lab.network.add_host(CUSTOMER, 100)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()
        if self._server is not None:
            self._server.wait(timeout=PATIENCE_S)  # it ended with the lab
            self._server = None

    # -- the machines around the server ----------------------------------------------------------

    @property
    def customer(self) -> str:
        """The namespace that orders come from."""
        return self.lab.network.namespace(CUSTOMER)

    @property
    def lan(self) -> str:
        """The namespace with the switch, where machines are plugged in."""
        return self.lab.network.namespace()

    def keep(self, machine: Machine) -> Machine:
        """Have the machine switched off at the end at the latest."""
        return self._stack.enter_context(machine)

    def orders(self, recipe: Recipe, rate: float = RATE) -> OrderClient:
        file = self.directory / f"orders-{recipe.name}"
        made = OrderClient(self.customer, recipe.address, file, rate=rate)
        return self._stack.enter_context(made)

    def shell(self, recipe: Recipe) -> GuestShell:
        return GuestShell(self.customer, recipe.address)

    # -- the server ------------------------------------------------------------------------------

    def set_up_server(self) -> dict[str, Any]:
        """Write the settings and run ``notfall server init``; what it told."""
        packages = fetch_packages()
        data = self.directory / "data"
        tuning = self.tuning
        self.settings.write_text(
            f'data_dir = "{data}"\npool_path = "{data}/pool"\n'
            f"pool_image_gib = {tuning.pool_image_gib}\n"
            f'listen_port = {PORT}\nlan_bridge = "{BRIDGE}"\naccelerator = "tcg"\n'
            f"heartbeat_timeout_s = {tuning.heartbeat_timeout_s}\n"
            f"schedule_minutes = {tuning.schedule_minutes}\n"
            f"capture_minutes = {tuning.capture_minutes}\n"
            "rehearsal_days = 0\n"
            f"protect_versions = {str(not can_reflink(self.directory)).lower()}\n"
            f'rescue_cache = "{packages}"\n'
        )
        made: dict[str, Any] = self.notfall("server", "init", timeout=120)
        self.password = made["password"]
        return made

    def start_server(self, timeout: float = PATIENCE_S) -> None:
        """Run the server; returns when it answers."""
        # nsenter passes no signals on: the process is found by the number it writes down.
        line = shlex.join([*_program(), "--config", str(self.settings), "server", "run"])
        script = f"echo $$ > {shlex.quote(str(self._pid_file))}; exec {line}"
        with self.log.open("ab") as log:
            self._server = self.lab.popen_in(["sh", "-c", script], output=log)
        until = time.monotonic() + timeout
        while True:
            try:
                self.ask("/status")
            except (CommandRefused, OSError):
                if self._server.poll() is not None or time.monotonic() > until:
                    tail = self.log.read_text(errors="replace")[-3000:]
                    raise RuntimeError(f"the server does not start:\n{tail}") from None
                time.sleep(0.3)
            else:
                return

    def kill_server(self) -> None:
        """SIGKILL: it gets no chance to tidy up. Stand-ins run on."""
        self._signal_server("-KILL")

    def stop_server(self) -> None:
        self._signal_server("-TERM")

    def power_cycle(self) -> None:
        """The server's machine loses power and gets it back; returns when the server answers."""
        self.lab.power_cycle()
        if self._server is not None:
            self._server.wait(timeout=PATIENCE_S)
            self.start_server()

    def _signal_server(self, which: str) -> None:
        if self._server is not None:
            pid = self._pid_file.read_text().strip()
            self.lab.run_in(["kill", which, pid], check=False)
            self._server.wait(timeout=PATIENCE_S)
            self._server = None

    # -- commands --------------------------------------------------------------------------------

    def line(self, *arguments: str) -> list[str]:
        """The whole command line of a ``notfall`` command, for ``lab.run_in`` and ``popen_in``."""
        return [*_program(), "--json", "--config", str(self.settings), *arguments]

    def notfall(self, *arguments: str, timeout: float = PATIENCE_S) -> Any:
        """Run a command with ``--json``; the answer (of a followed job: its last state)."""
        done = self.lab.run_in(self.line(*arguments), timeout=timeout, check=False)
        if done.returncode:
            raise CommandRefused(shlex.join(arguments), done.stderr or done.stdout)
        out = done.stdout.strip()
        try:
            return json.loads(out) if out else None
        except ValueError:
            return json.loads(out.splitlines()[-1])

    def ask(self, path: str) -> Any:
        """What the API tells: for waiting, because each command is a process that takes 0.6 s of
        the processor. :class:`OSError` when the server does not answer."""
        data = self.directory / "data"
        try:
            tls = tls_context((data / "ca" / "ca.pem").read_text())
            token = (data / "cli-token").read_text().strip()
            address = self.lab.network.address(1)
            headers = {"Authorization": f"Bearer {token}"}
            status, told = get(self.lan, address, PORT, f"/api/v1{path}", PATIENCE_S, tls, headers)
        except http.client.HTTPException as error:
            raise OSError(f"the server broke off: {error!r}") from None
        if status != 200:
            raise CommandRefused(path, told)
        return json.loads(told)

    def primary(self, name: str) -> dict[str, Any]:
        row: dict[str, Any] = self.ask(f"/primaries/{name}")
        return row

    def jobs(self, name: str) -> list[dict[str, Any]]:
        """The newest first."""
        rows: list[dict[str, Any]] = self.ask(f"/jobs?primary={name}&limit=50")
        return rows

    def wait_state(self, name: str, state: str, timeout: float) -> float:
        """Wait until the primary is in ``state``; the seconds it took."""
        start = time.monotonic()
        while (now := self.primary(name)["state"]) != state:
            if time.monotonic() - start > timeout:
                raise TimeoutError(f"{name} is '{now}', not '{state}', after {timeout:.0f} s")
            time.sleep(0.5)
        return time.monotonic() - start

    def wait_prepared(self, name: str, timeout: float) -> float:
        """Wait until the newest version is ready to start."""
        start = time.monotonic()
        while True:
            rows = self.ask(f"/primaries/{name}/versions")
            if rows and rows[0]["prepared"]:
                return time.monotonic() - start
            self._no_failed_job(name, "prepare")
            if time.monotonic() - start > timeout:
                raise TimeoutError(f"no prepared image of {name} after {timeout:.0f} s")
            time.sleep(1)

    def wait_ready(self, name: str, timeout: float) -> float:
        """Wait until a recovery is close enough behind for a switch-back."""
        start = time.monotonic()
        while True:
            job = self.newest_job(name, "recover")
            if job["progress"]["phase"] == "ready to switch back":
                return time.monotonic() - start
            self._no_failed_job(name, "recover")
            if time.monotonic() - start > timeout:
                raise TimeoutError(f"{name} is not ready after {timeout:.0f} s: {job['progress']}")
            time.sleep(1)

    def newest_job(self, name: str, kind: str) -> dict[str, Any]:
        for job in self.jobs(name):
            if job["kind"] == kind:
                found: dict[str, Any] = job
                return found
        raise RuntimeError(f"{name} has had no job '{kind}'")

    def wait_done(self, name: str, kind: str, timeout: float) -> dict[str, Any]:
        """Wait until a job of this kind was done, by whoever began it; its result."""
        start = time.monotonic()
        while True:
            for job in self.jobs(name):
                if job["kind"] == kind and job["state"] == "done":
                    result: dict[str, Any] = job["result"]
                    return result
            self._no_failed_job(name, kind)
            if time.monotonic() - start > timeout:
                raise TimeoutError(f"no {kind} of {name} after {timeout:.0f} s")
            time.sleep(1)

    def _no_failed_job(self, name: str, kind: str) -> None:
        for job in self.jobs(name):
            if job["kind"] == kind:
                if job["state"] in ("failed", "cancelled"):
                    raise RuntimeError(f"{kind} of {name}: {job['state']}: {job['error']}")
                return


def _program() -> list[str]:
    """``notfall`` of this Python's environment, installed or from the sources."""
    installed = Path(sys.executable).parent / "notfall"
    if installed.exists():
        return [str(installed)]
    return [sys.executable, "-c", "from notfallserver.server.cli import main; main()"]
