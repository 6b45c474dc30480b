"""Figures for a monitoring: with the token only, cheap, and true."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from hand_agent import HandAgent
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_open
from prometheus_client.parser import text_string_to_metric_families as read_text
from server_process import ServerProcess, running

from notfall_lab.patience import until
from notfallserver.server.metrics.figures import PRIMARY
from notfallserver.server.pool.proof import Evidence

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with running(ServerProcess(tmp_path_factory.mktemp("metrics"))) as one:
        yield one


def made(server: ServerProcess) -> str:
    """A new token."""
    with server.root() as root:
        return str(root.post("/api/v1/metrics/token").json()["token"])


def asked(server: ServerProcess, token: str = "", **headers: str) -> httpx.Response:
    with server.client() as client:
        sent = {**headers, **({"Authorization": f"Bearer {token}"} if token else {})}
        return client.get("/metrics", headers=sent)


def figures(text: str) -> dict[tuple[str, str], float]:
    """By name and the values of the labels."""
    return {
        (one.name, ",".join(one.labels.values())): one.value
        for family in read_text(text)
        for one in family.samples
    }


def test_the_token_decides(server: ServerProcess) -> None:
    assert asked(server).status_code == 404
    cli = (server.data / "cli-token").read_text().strip()
    assert asked(server, cli).status_code == 404
    first = made(server)
    assert asked(server).status_code == 401
    assert asked(server, first[:-1]).status_code == 401
    assert asked(server, cli).status_code == 401
    assert asked(server, first).status_code == 200
    second = server.notfall("metrics", "token").stdout.strip()
    assert asked(server, first).status_code == 401 and asked(server, second).status_code == 200
    with server.client(headers={"Authorization": f"Bearer {second}"}) as client:
        assert client.get("/api/v1/primaries").status_code == 401
    stored = (server.data / "catalogue.db").read_bytes() + server.log().encode()
    assert second.encode() not in stored
    with server.root() as root:
        assert root.delete("/api/v1/metrics/token").status_code == 204
    assert asked(server, second).status_code == 404


def test_an_administrator_makes_and_drops_it_on_the_page(server: ServerProcess) -> None:
    with server.client(headers={"Accept": "text/html"}) as page:
        login = page.post("/login", data={"name": "admin", "password": server.password})
        assert login.status_code == 303
        [token] = re.findall(r'<code id="token">([^<]+)<', page.post("/reports/token").text)
        assert asked(server, token).status_code == 200
        assert token not in page.get("/reports").text
        assert page.post("/reports/token/off").status_code == 303
        assert asked(server, token).status_code == 404


def test_figures_are_true_and_in_both_formats(server: ServerProcess) -> None:
    agent = HandAgent(server, "shop")
    stamp = agent.protect()
    agent.close()
    store = server.pool.primary(agent.uuid)
    token = made(server)
    evidence = Evidence("r", datetime.now(UTC).isoformat(), started=True, start_s=9.0, ports=(22,))
    store.proofs.keep(stamp, evidence)
    # An answer holds for some seconds; none from before the server was there.
    until(lambda: ("notfallserver_primary_versions", "shop") in figures(asked(server, token).text))
    shown = asked(server, token)
    assert shown.headers["content-type"].startswith("text/plain")
    found = figures(shown.text)
    named = {name: value for (name, label), value in found.items() if label == "shop"}
    assert named["notfallserver_primary_versions"] == 1
    assert named["notfallserver_primary_proof_grade"] == 5
    assert 0 <= named["notfallserver_primary_proven_version_age_seconds"] < 120
    assert named["notfallserver_primary_last_run_changed_bytes"] == len(agent.disk)
    states = {key[1]: one for key, one in found.items() if key[0].endswith("_primary_state")}
    assert states["shop,normal"] == 1 and sum(states.values()) == 1
    assert found["notfallserver_pool_size_bytes", ""] == pytest.approx(4 << 30, rel=0.05)
    assert found["notfallserver_jobs", "running"] >= 0
    opened = asked(server, token, Accept="application/openmetrics-text; version=1.0.0")
    names = {one.name for one in read_open(opened.text)}
    assert {f"notfallserver_primary_{name}" for name, _ in PRIMARY.values()} <= names


def test_every_metric_is_documented_and_rules_use_only_such(server: ServerProcess) -> None:
    token = made(server)
    families = {one.name for one in read_text(asked(server, token).text)}
    told = (DOCS / "metrics.md").read_text("utf-8")
    assert {name for name in families if f"`{name}" not in told} == set()
