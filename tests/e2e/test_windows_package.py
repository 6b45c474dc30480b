"""The package for Windows under Wine: installed silently, its service runs, replaced, removed.

Wine is no Windows: this shows the package's tables, the packed program and the service's life
cycle. Needs what `make windows-agent` has built.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from notfall_lab.windows.wine import ROOT, Wine, need_package

PROGRAMS = ROOT / "build" / "windows" / "program"
PROGRAM = r"C:\Program Files\Notfallserver\Agent\notfall-agent.exe"
KEY = r"HKLM\SOFTWARE\Notfallserver\Agent"
SERVICE = r"HKLM\System\CurrentControlSet\Services\NotfallAgent"
PATIENCE_S = 120.0


@pytest.fixture(scope="module")
def wine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Wine]:
    need_package()
    found = Wine(tmp_path_factory.mktemp("windows"))
    yield found
    found.close()


def newer_package(place: Path) -> Path:
    """The same program as another version."""
    made = place / "newer.msi"
    package = ROOT / "packaging" / "windows" / "package"
    subprocess.run([package, "99.0.0", made, PROGRAMS], check=True)
    return made


def until(wine: Wine, *arguments: str, holds: str) -> None:
    end = time.monotonic() + PATIENCE_S
    while holds not in (told := wine.run(*arguments)):
        assert time.monotonic() < end, told
        time.sleep(1)


def until_used_up(wine: Wine) -> None:
    """An invitation that is not whole is, at once."""
    end = time.monotonic() + PATIENCE_S
    while "broken" in wine.run("reg", "query", KEY, "/v", "Token"):
        assert time.monotonic() < end
        time.sleep(1)


def test_the_package(wine: Wine, tmp_path: Path) -> None:
    told = ["SERVER=https://server.example:8443", "TOKEN=broken"]
    assert wine.package("/i", f"Z:{need_package()}", *told) == 0
    until(wine, "sc", "query", "NotfallAgent", holds="RUNNING")
    assert wine.run(PROGRAM, "--version").strip()
    assert "https://server.example:8443" in wine.run("reg", "query", KEY, "/v", "Server")
    until_used_up(wine)
    # The service has said how it wants to be treated.
    until(wine, "reg", "query", SERVICE, "/v", "PreshutdownTimeout", holds="0x7530")
    assert "emergency server" in wine.run("reg", "query", SERVICE, "/v", "Description")
    # Nothing is enrolled: there is none to take away, and no seed beside a service that runs.
    assert "agent.json" in wine.run(PROGRAM, "remove", "--server", "x", errors=True)
    assert "net stop" in wine.run(PROGRAM, "seed", "--to", "Z:/tmp", errors=True)
    report = json.loads(wine.run(PROGRAM, "examine"))
    assert report["agent"]
    assert "snapshots" in report

    wine.run("net", "stop", "NotfallAgent")
    until(wine, "sc", "query", "NotfallAgent", holds="STOPPED")
    wine.run("net", "start", "NotfallAgent")
    until(wine, "sc", "query", "NotfallAgent", holds="RUNNING")

    # Two servers by hand: one is taken away, with the service stopped meanwhile.
    configuration = wine.disk / "ProgramData" / "Notfallserver" / "Agent"
    for place, port in ((configuration / "servers" / "other", 2), (configuration, 1)):
        place.mkdir(parents=True, exist_ok=True)
        settings = {"url": f"https://127.0.0.1:{port}", "primary": f"{port}"}
        (place / "agent.json").write_text(json.dumps(settings))
        for name in ("ca.pem", "cert.pem", "key.pem"):
            (place / name).write_text(f"{name} {port}")
    assert "other  https://127.0.0.1:2" in wine.run(PROGRAM, "servers")
    wine.run(PROGRAM, "remove", "--server", "127.0.0.1")
    assert wine.run(PROGRAM, "servers").split() == ["127.0.0.1", "https://127.0.0.1:2"]
    assert (configuration / "key.pem").read_text() == "key.pem 2"
    assert not (configuration / "servers" / "other").exists()
    until(wine, "sc", "query", "NotfallAgent", holds="RUNNING")

    assert "not kept off" in wine.run(PROGRAM, "unfence")
    until(wine, "sc", "query", "NotfallAgent", holds="RUNNING")

    # Replaced by a newer package: the configuration stays. Removed: it goes.
    (configuration / "role").write_text("primary\n")
    newer = newer_package(tmp_path)
    assert wine.package("/i", f"Z:{newer}", *told) == 0
    until(wine, "sc", "query", "NotfallAgent", holds="RUNNING")
    until_used_up(wine)  # by a service that has a server already
    assert (configuration / "role").exists()
    assert wine.package("/x", f"Z:{newer}") == 0
    assert "NotfallAgent" not in wine.run("sc", "query", "NotfallAgent")
    assert not (wine.disk / "Program Files" / "Notfallserver" / "Agent").exists()
    assert not configuration.exists()


def test_the_registry_as_it_was_and_this_start(wine: Wine) -> None:
    """What keeps a machine off the network writes, and takes back."""
    first, again = told_of_registry(wine, "write"), told_of_registry(wine, "read")
    assert first["before"] == {"text": None, "number": None, "texts": None}
    assert first["after"] == again["before"] == WRITTEN
    assert again["mark"] == first["mark"] != ""
    wine.restart()
    last = told_of_registry(wine, "remove")
    assert last["before"] == WRITTEN
    assert last["after"] == first["before"]
    assert last["mark"] not in ("", first["mark"]), "it outlived a restart"


WRITTEN = {"text": [1, "02AABBCCDDEE"], "number": [4, 0], "texts": [7, ["169.254.1.2", "b"]]}


def told_of_registry(wine: Wine, order: str) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(wine.python("notfall_lab.windows.wine_registry", order))
    return told
