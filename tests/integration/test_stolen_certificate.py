"""Whoever has taken over a primary, or its certificate: can he delete, change or read a version?

All routes of the whole app are tried with the certificate, not a list that somebody keeps.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any
from unittest.mock import Mock

import pytest
from fastapi import APIRouter
from fastapi.routing import APIRoute
from hand_agent import HandAgent
from server_process import ServerProcess

from notfallserver.server.host.immutable import is_immutable
from notfallserver.server.web import enrol
from notfallserver.server.web.agents import agents_router
from notfallserver.server.web.api import router as api
from notfallserver.server.web.api.health import monitoring
from notfallserver.server.web.page import router as page
from notfallserver.server.web.targets import targets_router

FOR_ANYBODY = {
    *("/login", "/login/code", "/language", "/logout"),
    *("/ca.pem", "/health", "/agent/v1/agent.pyz"),
}
"""They tell nothing of any primary."""
OWN = ("/agent/v1/",)
"""By these it adds versions of its own."""


def routes() -> Iterator[tuple[str, str]]:
    """Method and path of all that the server answers."""
    doors = (agents_router(Mock()), targets_router(Mock()))
    for router in (enrol.router, *doors, api, monitoring, page):
        yield from routes_of(router)


def routes_of(router: APIRouter, outside: str = "") -> Iterator[tuple[str, str]]:
    for route in router.routes:
        if isinstance(route, APIRoute):
            yield from ((method, outside + route.path) for method in sorted(route.methods or ()))
        elif (within := getattr(route, "original_router", None)) is not None:
            yield from routes_of(within, outside + router.prefix)


@pytest.fixture
def enrolled(server: ServerProcess) -> Iterator[Callable[[str], HandAgent]]:
    """Agents by name."""
    with ExitStack() as stack:

        def one(name: str) -> HandAgent:
            agent = HandAgent(server, name)
            stack.callback(agent.close)
            return agent

        yield one


def state(server: ServerProcess, *agents: HandAgent) -> list[object]:
    found: list[object] = []
    for agent in agents:
        store = server.pool.primary(agent.uuid)
        for version in store.versions():
            files = sorted(version.path.iterdir())
            found += [(one.name, one.read_bytes(), is_immutable(one)) for one in files]
        found.append(store.pins.all())
        with server.catalogue() as catalogue:
            row = catalogue.primaries.find(agent.uuid)
            found.append((row.state, row.schedule_minutes, row.notes.get("retention")))
            found.append(row.notes.get("deletions"))
    return found


def test_a_certificate_opens_no_other_door(
    server: ServerProcess, enrolled: Callable[[str], HandAgent]
) -> None:
    victim, other = enrolled("stolen"), enrolled("beside")
    stamps = {agent.name: agent.protect() for agent in (victim, other)}
    before = state(server, victim, other)
    assert any(isinstance(one, tuple) and one[0] == "disk0.raw" and one[2] for one in before)
    walked = answered = 0
    with server.client(victim.enrolled["certificate"], victim.enrolled["key"]) as thief:
        for method, path in routes():
            for name, stamp in list(stamps.items())[: None if "{name}" in path else 1]:
                where = path.replace("{name}", name).replace("{stamp}", stamp)
                where = where.replace("{version}", stamp)
                where = re.sub(r"\{[^}]*\}", "x", where)
                body: dict[str, Any] = {} if method == "GET" else {"json": {}}
                answer = thief.request(method, where, **body)
                walked += 1
                if path in FOR_ANYBODY or path.startswith(OWN):
                    answered += 1
                    continue
                to_login = answer.status_code == 303 and answer.headers["location"] == "/login"
                assert answer.status_code == 401 or to_login, (method, where, answer.text[:200])
                for told in (stamps["stolen"], stamps["beside"]):
                    assert told not in answer.text
    assert walked > 200 and answered < walked / 5
    assert state(server, victim, other) == before


def test_an_old_version_is_out_of_an_agent_s_reach(
    server: ServerProcess, enrolled: Callable[[str], HandAgent]
) -> None:
    """What it may send goes into a new version; also a stamp in place of a run reaches nothing."""
    agent = enrolled("reach")
    stamp = agent.protect()
    before = state(server, agent)
    with server.client(agent.enrolled["certificate"], agent.enrolled["key"]) as thief:
        for run in (stamp, f"..%2Fversions%2F{stamp}", f"../versions/{stamp}"):
            for what in ("offer", "blocks", "holes", "seal"):
                frame = agent.blocks_frame(0, 1)
                answer = thief.post(f"/agent/v1/runs/{run}/{what}", content=frame)
                assert answer.status_code in (400, 404, 405, 409), (run, what, answer.text)
    agent.disk = bytes(len(agent.disk))  # as by a ransom: everything is overwritten
    later = agent.replicate()
    versions = server.pool.primary(agent.uuid).versions()
    assert [one.stamp for one in versions] == [later, stamp]
    kept = [one for one in state(server, agent) if isinstance(one, tuple) and one in before]
    assert len(kept) >= 3  # raw, index and manifest as they were
