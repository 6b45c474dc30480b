"""The program on a target: network up, register, show, take orders. Runs until the reboot."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any, Dict, List, Optional

from notfallserver.rescue.console import Console, View, size_text
from notfallserver.rescue.network import Network, kernel_parameters
from notfallserver.rescue.probe import probe_machine
from notfallserver.rescue.secret import new_secret, pairing_code
from notfallserver.rescue.work import Work, reboot_machine
from notfallserver.wire.client import Client, tls_context
from notfallserver.wire.errors import NotfallError
from notfallserver.wire.facts import Machine

HOME = Path("/opt/notfall")
WHAT_NEXT = "waiting. On the emergency server: notfall recover PRIMARY --to CODE"
PROBE_EVERY_S = 15.0
PAUSE_S = 2.0
BUSY_PAUSE_S = 1.0
SAID = {
    "pulling": "this machine is being written",
    "pulled": "written and verified; waiting for the next order",
    "giving": "the disks of this machine are being read; nothing is written here",
    "given": "all disks were read; nothing was written here",
    "adapting": "adapting the system to this hardware",
    "adapted": "adapted; waiting for the reboot",
    "rebooting": "starting from the disks; take out the medium if it is a USB stick",
    "failed": "failed, nothing is running; see below",
}


class Target:
    """One run of the rescue system."""

    def __init__(
        self, urls: List[str], ca_pem: str, parameters: Dict[str, str], medium: str
    ) -> None:
        self.urls = [parameters["server"]] if "server" in parameters else urls
        self.secret = new_secret()
        self.medium = medium
        self.reached = ""
        self.trouble = ""
        self.registered = False
        self._context = tls_context(ca_pem)
        self._client: Optional[Client] = None
        self.network = Network(parameters.get("ip", ""))
        self.console = Console()
        self.machine = probe_machine(medium)
        self.work = Work(self.connect, self.probe, lambda: reboot_machine(medium))

    def connect(self) -> Client:
        """A new client to the server that answered last."""
        return Client(self.reached or self.urls[0], self._context, self.secret)

    def probe(self) -> Machine:
        self.machine = probe_machine(self.medium)
        return self.machine

    def run(self) -> None:
        probed = 0.0
        while True:
            if not self.work.busy and time.monotonic() - probed > PROBE_EVERY_S:
                self.network.tend()
                before = self.machine
                if self.probe() != before:
                    self.registered = False
                probed = time.monotonic()
            if not self.registered and not any(nic.addresses for nic in self.machine.nics):
                probed = 0.0
            self.show()
            try:
                self.exchange()
                self.trouble = ""
            except NotfallError as error:
                self.trouble = f"{error.cause} {error.remedy}"
                if error.status in (401, 403, 404):
                    self.registered = False
                if error.code == "server-unreachable":
                    self._close()
                time.sleep(PAUSE_S)

    def exchange(self) -> None:
        """One poll; registers first where that is not done."""
        if self._client is None:
            self._client = self._find_server()
        if not self.registered:
            body = {"machine": self.machine.to_json(), "code": pairing_code(self.secret)}
            self._client.call("POST", "/target/v1/register", body)
            self.registered = True
            self.show()
        began = time.monotonic()
        order = self._client.call("POST", "/target/v1/poll", {"report": self.work.report()})
        self.work.take(order)
        # a busy target tells about once a second; a server that does not wait is not flooded
        pause = BUSY_PAUSE_S if self.work.busy else 0.5
        time.sleep(max(0.0, pause - (time.monotonic() - began)))

    def _find_server(self) -> Client:
        last: Optional[NotfallError] = None
        for url in self.urls:
            client = Client(url, self._context, self.secret, timeout=20)
            try:
                body = {"machine": self.machine.to_json(), "code": pairing_code(self.secret)}
                client.call("POST", "/target/v1/register", body, timeout=5)
            except NotfallError as error:
                client.close()
                last = error
                continue
            self.reached, self.registered = url, True
            return client
        raise last or NotfallError("no-server", "The medium names no server.", "Build it anew.")

    def _close(self) -> None:
        if self._client is not None:
            self._client.close()
        self._client = None
        if not self.work.busy:
            self.reached = ""

    def show(self) -> None:
        report = self.work.report()
        state = str(report.get("state", "idle"))
        self.console.show(
            View(
                code=pairing_code(self.secret),
                servers=self.urls,
                reached=self.reached,
                machine=self.machine,
                step=SAID.get(state, WHAT_NEXT),
                progress=progress_line(report),
                trouble=str((report.get("error") or {}).get("cause", "")) or self.trouble,
            )
        )


def progress_line(report: Dict[str, Any]) -> str:
    """How far it is, in words."""
    phase = str(report.get("phase", ""))
    total = int(report.get("total", 0))
    if not phase:
        return ""
    if not total:
        return f"  {phase}"
    done = int(report.get("done", 0))
    return f"  {phase}: {size_text(done)} of {size_text(total)} ({done * 100 // total} %)"


def main() -> None:
    config = json.loads((HOME / "server.json").read_text())
    parameters = kernel_parameters(Path("/proc/cmdline").read_text())
    medium_file = HOME / "medium"
    medium = medium_file.read_text().strip() if medium_file.is_file() else ""
    Target(list(config["urls"]), str(config["ca"]), parameters, medium).run()


if __name__ == "__main__":
    main()
