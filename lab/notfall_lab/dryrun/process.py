"""The dry run as a process: the whole page with a simulated world, twenty times as fast as life."""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from notfall_lab.nursery import nursery
from notfall_lab.patience import PATIENCE_S

SPEED = 20
PROGRAM = "from notfall_lab.dryrun.__main__ import main; main()"


@dataclass(frozen=True)
class DryRun:
    url: str
    trust: ssl.SSLContext

    def happens(self, deed: str, to: str = "") -> None:
        """Press a button of the page ``/world``; ``to`` is what it concerns."""
        answer = httpx.post(f"{self.url}/world/{deed}", data={"to": to}, verify=self.trust)
        assert answer.status_code == 303, answer.text

    @contextmanager
    def slowly(self) -> Iterator[None]:
        """What begins here lasts twice as long as in life, so that a browser on a
        busy machine sees it, and comes in time to break it off."""
        self.happens("speed", "0.5")
        yield
        self.happens("speed", str(SPEED))


@contextmanager
def dry_run(temporary: Path, more: int = 0) -> Iterator[DryRun]:
    """With ``more`` servers. It must end in order and leave nothing in ``temporary``."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    arguments = ["--port", str(port), "--more", str(more), "--speed", str(SPEED)]
    reading, writing = os.pipe()
    with (
        Path(os.devnull).open("rb") as nothing,
        os.fdopen(writing, "wb") as out,
        (temporary / "log").open("wb") as log,
    ):
        files = (nothing, out, log)
        process = nursery().begin(PROGRAM, arguments, _environment(temporary), files, "error")
    try:
        with os.fdopen(reading) as told_lines:
            while line_told := told_lines.readline():
                if "Ctrl-C" in line_told:
                    break
        (ca,) = temporary.glob("*/ca/ca.pem")
        yield DryRun(f"https://127.0.0.1:{port}", ssl.create_default_context(cafile=ca))
        process.terminate()
        code = process.wait(PATIENCE_S)
        told = (temporary / "log").read_text()
        assert code == 0, told
        assert "Traceback" not in told, told
        assert [one.name for one in temporary.iterdir()] == ["log"]
    finally:
        process.kill()
        process.wait()


def _environment(temporary: Path) -> dict[str, str]:
    return {"TMPDIR": str(temporary), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
