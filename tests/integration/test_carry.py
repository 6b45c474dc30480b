"""Carrying versions away by command line and page, of the real server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from secrets import token_hex
from unittest.mock import patch

import pytest
from agent_receiver import loop_device
from hand_agent import HandAgent
from server_process import PROGRAM, ServerProcess
from typer.testing import CliRunner, Result

from notfallserver.server.cli.api import Api
from notfallserver.server.cli.main import app
from notfallserver.server.settings import Settings
from notfallserver.wire.blocks import BLOCK
from notfallserver.wire.errors import NotfallError

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
DISK = os.urandom(20 * BLOCK)


@pytest.fixture(scope="module")
def shop(server: ServerProcess) -> str:
    """The name of a primary with one version."""
    agent = HandAgent(server, f"shop-{token_hex(3)}", DISK)
    agent.protect()
    agent.close()
    return agent.name


def notfall(server: ServerProcess, *arguments: str, text: str | None = None) -> Result:
    """In this process, which is quicker; its connections are closed as by the process's end."""
    opened: list[Api] = []
    begin = Api.__init__

    def remember(self: Api, settings: Settings) -> None:
        opened.append(self)
        begin(self, settings)

    environment = {"NOTFALL_CONFIG": str(server.settings_file)}
    with patch.object(Api, "__init__", remember):
        done = CliRunner().invoke(app, arguments, input=text, env=environment)
    for one in opened:
        one._client.close()
    return done


def test_by_command_line(server: ServerProcess, shop: str, tmp_path: Path) -> None:
    def told(*arguments: str) -> str:
        done = notfall(server, *arguments)
        assert done.exit_code == 0, done.exception
        return done.stdout

    told("export", "image", shop, str(tmp_path), "--as", "raw", "--follow")
    (made,) = tmp_path.glob(f"{shop}-*/disk0.raw")
    assert made.read_bytes() == DISK
    again = notfall(server, "export", "image", shop, str(tmp_path)).exception
    assert isinstance(again, NotfallError) and again.code == "export-exists"
    archives = tmp_path / "archives"
    archives.mkdir()
    told("tape", "write", str(archives), shop, "--label", "friday", "--follow")
    assert "friday" in told("tape", "list") and f"{shop}@" in told("tape", "list", str(archives))
    back = tmp_path / "back"
    back.mkdir()
    told("tape", "restore", str(archives), "--to", str(back), "--follow")
    (raw,) = back.glob(f"{shop}-*/*/disk0.raw")
    assert raw.read_bytes() == DISK
    line = [sys.executable, "-W", "ignore", "-c", PROGRAM, "tape", "write", "-", shop]
    environment = {**os.environ, "NOTFALL_CONFIG": str(server.settings_file)}
    stream = subprocess.run(line, env=environment, capture_output=True, check=True, timeout=60)
    names = subprocess.check_output(
        ["tar", "-t", "--warning=no-unknown-keyword"], input=stream.stdout, text=False
    )
    assert b"contents.json" in names and b"disk0/000000000M" in names
    assert "NOT encrypted" in stream.stderr.decode()
    assert told("tape", "key").startswith("public: age1")
    assert "No job waits" in told("tape", "waiting")


def test_a_disk_is_shown_and_must_be_confirmed(
    server: ServerProcess, shop: str, tmp_path: Path
) -> None:
    image = tmp_path / "disk"
    image.write_bytes(bytes(len(DISK) + BLOCK))
    with loop_device(image) as device:
        rows = json.loads(notfall(server, "--json", "export", "disks").stdout)
        (row,) = (one for one in rows if one["path"] == device)
        order = ["export", "disk", shop, device, "--internal", "--follow"]
        wrong = notfall(server, *order, text="no\n").exception
        assert isinstance(wrong, NotfallError) and wrong.code == "disk-not-confirmed"
        assert not any(image.read_bytes())
        done = notfall(server, *order, text=row["confirmation"] + "\n")
        assert done.exit_code == 0, done.exception
        subprocess.run(["blockdev", "--flushbufs", device], check=True)
    assert image.read_bytes() == DISK + bytes(BLOCK)


def test_the_pages(server: ServerProcess, shop: str, tmp_path: Path) -> None:
    with server.client() as client:
        client.post("/login", data={"name": "admin", "password": server.password})
        client.headers["origin"] = server.url
        for spoken, words in (("en", "Take a copy along"), ("de", "Eine Kopie mitnehmen")):
            client.headers["accept-language"] = spoken
            page = client.get(f"/p/{shop}/take-along")
            assert page.status_code == 200 and words in page.text
            assert client.get(f"/p/{shop}/take-along/present").status_code == 200
            assert client.get("/media").status_code == 200
        nowhere = {"to": "/nowhere/at/all", "label": "friday"}
        refused = client.post("/media/write", data=nowhere)
        assert refused.status_code == 400 and "keine Kopien schreiben" in refused.text
        assert 'value="friday"' in refused.text
        assert (
            client.post("/media/write", data={"to": str(tmp_path / "set.tar")}).status_code == 303
        )
        with server.root() as root:
            (job, *_) = root.get("/api/v1/jobs?kind=tape_write").json()
        assert job["kind"] == "tape_write" and server.await_job(job["id"])["state"] == "done"
        assert (
            shop
            in subprocess.run(
                ["tar", "tf", tmp_path / "set.tar"], capture_output=True, text=True, check=True
            ).stdout
        )
        refused = client.post("/media/read", data={"source": str(tmp_path / "nothing")})
        assert refused.status_code in (400, 404), refused.text
        refused = client.post(
            f"/p/{shop}/take-along/image", data={"directory": "relative", "kind": "raw"}
        )
        assert refused.status_code == 400 and "Das ist kein Verzeichnis" in refused.text
        begun = client.post(
            f"/p/{shop}/take-along/image", data={"directory": str(tmp_path), "kind": "vhdx"}
        )
        assert begun.status_code == 303
        with server.root() as root:
            (job, *_) = root.get(f"/api/v1/jobs?primary={shop}&kind=export").json()
        assert server.await_job(job["id"])["state"] == "done"
        assert len(list(tmp_path.glob(f"{shop}-*/disk0.vhdx"))) == 1
        assert str(tmp_path) in client.get(f"/p/{shop}/take-along").text
        wrong = client.post(
            f"/p/{shop}/take-along/disk", data={"path": "/dev/null", "confirm": "x"}
        )
        assert wrong.status_code == 404 and "Diese Platte gibt es" in wrong.text
        none = client.post(f"/p/{shop}/take-along/disk", data={})
        assert none.status_code == 400
