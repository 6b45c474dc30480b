"""The real agent as a process: from the server, installed with a token, run on loop devices."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

from server_process import ServerProcess

from notfall_lab.patience import PATIENCE_S
from notfallserver.agent.changes.keeping import remove_traces
from notfallserver.agent.place import Place

INSTALL = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from notfallserver.agent.install import Wish, install
server, token, ca, directory, program, *disks = sys.argv[2:]
print(install(Wish(server, token, Path(ca), disks, False, Path(directory), Path(program))))
"""

ALTERED = """
import sys
sys.path.insert(0, {!r})
{}
from notfallserver.agent.main import main
sys.exit(main())
"""


ONLY_WAY = "from notfallserver.agent import addresses; addresses.usable = lambda told: ()\n"


class AgentProcess:
    """One primary's agent; ``url`` is the only way by which it reaches the server."""

    def __init__(
        self,
        server: ServerProcess,
        name: str,
        disks: Sequence[str],
        url: str = "",
        inside: Sequence[str] = (),
    ) -> None:
        self.name = name
        self.directory = server.directory / f"agent-{name}"
        self.directory.mkdir()
        self._inside = list(inside)
        self._altered = ONLY_WAY if url else ""
        self._program = self.directory / "agent.pyz"
        self._process: subprocess.Popen[bytes] | None = None
        fetched = server.data / "agent.pyz"
        token = server.invite(name)
        ca = server.data / "ca" / "ca.pem"
        given = (url or server.url, token, ca, self.directory / "etc", self._program, *disks)
        line = [sys.executable, "-I", "-c", INSTALL, fetched, *given]
        done = subprocess.run(
            [*self._inside, *(str(one) for one in line)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        self.uuid = done.stdout.strip()
        if url:  # the server tells its own address
            settings = self.directory / "etc" / "agent.json"
            settings.write_text(settings.read_text().replace(server.url, url))

    def start(self, altered: str = "") -> None:
        """``altered``: lines of Python that change something in it before it begins."""
        line = [sys.executable, "-I", self._program, "run", "--config", self.directory / "etc"]
        if altered := self._altered + altered:
            line[2:3] = ["-c", ALTERED.format(str(self._program), altered)]
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*self._inside, *(str(one) for one in line)], stdout=log, stderr=log
            )

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait(PATIENCE_S)
        self._process = None

    def stop(self) -> None:
        """End it in order and for good; it must not have stumbled."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(PATIENCE_S)
            finally:
                self._process.kill()
                self._process = None
        remove_traces(Place(self.directory / "etc"))
        assert "Traceback" not in self.log(), self.log()

    def log(self) -> str:
        return (self.directory / "log").read_text()
