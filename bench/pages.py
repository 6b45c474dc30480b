"""How fast the pages are with 200 servers, 100,000 journal entries and 10,000 jobs.

``python -m bench.pages`` (no root) adds its figures to ``bench/results.json``. A warm server in a
process of its own is asked over TLS; ``page_ms_*`` is from the request to the answer's last byte,
as a program sees it, ``page_load_ms_*`` from the click to the browser's ``load`` in Chromium, both
on this machine. ``page_cpu_ms_*`` is what an answer costs the server, ``page_kib_*`` its size as
sent, packed as browsers get it.
"""

from __future__ import annotations

import gzip
import os
import shutil
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPSConnection
from pathlib import Path
from urllib.parse import urlencode

from playwright.sync_api import sync_playwright

from bench.figures import Sheet
from bench.machine import describe, peak_mib

ROOT = Path(__file__).parents[1]
WORK = ROOT / "build" / "pages"
PASSWORD = "bench-of-the-pages"  # noqa: S105
TIMES, LOADS = 30, 10
PAGES = {
    "home": "/",
    "tiles": "/tiles",
    "primary": "/p/server-100",
    "primary_part": "/p/server-100/present",
    "journal": "/journal",
    "journal_grave": "/journal?event=grave",
    "journal_person": "/journal?by=admin",
    "journal_day": "/journal?since=2026-01-01&until=2026-06-30",
    "jobs": "/jobs",
    "jobs_failed": "/jobs?failed=1",
    "server": "/server",
}
LOADED = ("home", "primary", "journal", "jobs")


@dataclass
class Browserless:
    """A logged-in program; asks on one connection, as a browser does."""

    port: int
    pid: int
    cookie: str = ""

    def __post_init__(self) -> None:
        context = ssl.create_default_context(cafile=WORK / "house" / "ca" / "ca.pem")
        self._line = HTTPSConnection("127.0.0.1", self.port, context=context)
        head = {"Content-Type": "application/x-www-form-urlencoded"}
        body = urlencode({"name": "admin", "password": PASSWORD})
        self._line.request("POST", "/login", body, head)
        answer = self._line.getresponse()
        answer.read()
        self.cookie = (answer.headers["Set-Cookie"] or "").partition(";")[0]

    def get(self, path: str) -> tuple[bytes, int]:
        """The page, and how many bytes were sent."""
        head = {"Cookie": self.cookie, "Accept-Encoding": "gzip", "Accept": "text/html"}
        self._line.request("GET", path, headers=head)
        answer = self._line.getresponse()
        body = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"{path}: {answer.status}")
        packed = answer.headers["Content-Encoding"] == "gzip"
        return gzip.decompress(body) if packed else body, len(body)

    def cpu_s(self) -> float:
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def company() -> Iterator[Browserless]:
    """The filled house, served by a process of its own."""
    shutil.rmtree(WORK, ignore_errors=True)
    (WORK / "house").mkdir(parents=True)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    line = [sys.executable, "-m", "bench.company", str(WORK / "house"), str(port), PASSWORD]
    process = subprocess.Popen(line, stdout=subprocess.PIPE, cwd=ROOT)
    try:
        if process.stdout is None or b"ready" not in process.stdout.readline():
            raise RuntimeError("the company's server did not start")
        yield Browserless(port, process.pid)
    finally:
        process.terminate()
        process.wait(30)
        shutil.rmtree(WORK, ignore_errors=True)


def ask(sheet: Sheet, server: Browserless) -> None:
    for name, path in PAGES.items():
        server.get(path)  # once, to warm up
        took, before = [], server.cpu_s()
        for _ in range(TIMES):
            began = time.monotonic()
            page, sent = server.get(path)
            took.append((time.monotonic() - began) * 1000)
        spent = (server.cpu_s() - before) * 1000 / TIMES
        sheet.add(f"page_ms_{name}", took, "ms")
        sheet.add(f"page_cpu_ms_{name}", [spent], "ms")
        sheet.add(f"page_kib_{name}", [sent / 1024], "KiB")
        sheet.add(f"page_plain_kib_{name}", [len(page) / 1024], "KiB")


def load(sheet: Sheet, server: Browserless) -> None:
    """In a browser, which loads styles and scripts and lays everything out."""
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        page = browser.new_context(ignore_https_errors=True).new_page()
        page.goto(f"https://127.0.0.1:{server.port}/login")
        page.fill("input[name=name]", "admin")
        page.fill("input[name=password]", PASSWORD)
        page.click("main button")
        for name in LOADED:
            took = []
            for _ in range(LOADS + 1):
                page.goto(f"https://127.0.0.1:{server.port}{PAGES[name]}", wait_until="load")
                told = "performance.getEntriesByType('navigation')[0].loadEventStart"
                took.append(float(page.evaluate(told)))
            sheet.add(f"page_load_ms_{name}", took[1:], "ms")
        browser.close()


def main() -> int:
    sheet = Sheet("pages")
    with company() as server:
        ask(sheet, server)
        load(sheet, server)
        sheet.add("page_server_peak_mib", [peak_mib(server.pid)], "MiB")
    sheet.write(describe())
    return 0


if __name__ == "__main__":
    sys.exit(main())
