"""The HTTPS port: certificates, enrolment, logins, errors in one shape, restarts."""

import hashlib
import http.client
import itertools
import json
import os
import shlex
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from hand_agent import HandAgent, Serving
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from server_process import MACHINE, ServerProcess, running, token_of

from notfall_lab.patience import PATIENCE_S
from notfallserver.server.authority import create_authority
from notfallserver.server.pool.layout import stamp_time
from notfallserver.server.records.targets import pairing_code
from notfallserver.server.web.guard import JSON_LIMIT
from notfallserver.wire.facts import Disk, Machine, Partition

names = (f"web{number}" for number in itertools.count())
WINDOWS_AGENT = "/agent/v1/notfall-agent.msi"
KNOWN = "/agent/v1/runs/none/progress"
"""Answered to every known agent with the error that there is no such run."""


def error_of(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    told: dict[str, Any] = answer.json()
    assert set(told) == {"code", "cause", "remedy", "retry"}
    assert told["code"] == code
    return told


def test_an_agent_is_known_by_its_certificate_and_only_by_a_standing_one(
    server: ServerProcess,
) -> None:
    name = next(names)
    enrolled = server.enrol(name)
    with server.client() as without:
        error_of(without.post(KNOWN), 401, "no-certificate")
    with server.client(enrolled["certificate"], enrolled["key"]) as agent:
        error_of(agent.post(KNOWN), 409, "run-over")
        error_of(agent.get("/api/v1/primaries"), 401, "not-logged-in")
        with server.root() as root:
            line = root.post("/api/v1/invites", json={"name": name, "again": True}).json()["line"]
        token = token_of(line)
        again = agent.post("/agent/v1/enrol", json={"token": token, "machine": MACHINE}).json()
        assert again["primary"] == enrolled["primary"]
        error_of(agent.post(KNOWN), 403, "certificate-refused")


def test_a_certificate_of_another_authority_is_refused_by_tls(
    server: ServerProcess, tmp_path: Path
) -> None:
    made = create_authority(tmp_path / "ca").issue_client("x")
    with server.client(made.certificate, made.key) as stranger, pytest.raises(httpx.TransportError):
        stranger.post(KNOWN)


def test_windows_gets_its_package_and_a_line_that_knows_its_hash(server: ServerProcess) -> None:
    with server.root() as root, server.client() as fresh:
        invited = root.post("/api/v1/invites", json={"name": next(names)}).json()
        assert invited["windows_line"] == ""
        error_of(fresh.get(WINDOWS_AGENT), 404, "no-windows-agent")
        (server.data / "notfall-agent.msi").write_bytes(b"a package")
        assert fresh.get(WINDOWS_AGENT).content == b"a package"
        invited = root.post("/api/v1/invites", json={"name": next(names)}).json()
        told = invited["windows_line"]
        assert hashlib.sha256(b"a package").hexdigest().upper() in told
        assert f"TOKEN={token_of(invited['line'])}:" in told
        assert told.count('"') == 2 and "\n" not in told  # one argument of one command
        # Where the agent is there already it joins this server.
        assert f"enrol --server '{server.url}' --token '{token_of(invited['line'])}:" in told
        blocks = ("{$true}", "{throw", "{& $e")
        assert told.count("{") == sum(told.count(one) for one in blocks)


def test_a_used_a_wrong_and_a_broken_enrolment_change_nothing(server: ServerProcess) -> None:
    with server.root() as root, server.client() as fresh:
        line = root.post("/api/v1/invites", json={"name": next(names)}).json()["line"]
        token = token_of(line)
        before = len(root.get("/api/v1/primaries").json())
        wrong = fresh.post("/agent/v1/enrol", json={"token": "0" * 32, "machine": MACHINE})
        error_of(wrong, 403, "invite-refused")
        broken = fresh.post("/agent/v1/enrol", json={"token": token, "machine": {"disks": 1}})
        error_of(broken, 400, "bad-facts")
        odd = b'{"token": "%s", "machine": {"hostname": "\\ud800"}}' % token.encode()
        headers = {"Content-Type": "application/json"}
        error_of(fresh.post("/agent/v1/enrol", content=odd, headers=headers), 400, "bad-facts")
        assert len(root.get("/api/v1/primaries").json()) == before
        body = {"token": token, "machine": MACHINE}
        assert fresh.post("/agent/v1/enrol", json=body).status_code == 200
        used = error_of(fresh.post("/agent/v1/enrol", json=body), 403, "invite-refused")
        assert "used already" in used["cause"]
        assert len(root.get("/api/v1/primaries").json()) == before + 1


def run_line(line: str, directory: Path) -> subprocess.CompletedProcess[str]:
    """The line in a shell, with the agent's program replaced by one that shows its arguments."""
    python = directory / "python3"
    python.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n')
    python.chmod(0o755)
    path = f"{directory}:{os.environ['PATH']}"
    return subprocess.run(
        ["/bin/bash", "-c", line],
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_invitations_line_checks_the_server_before_it_runs_anything(
    server: ServerProcess, tmp_path: Path
) -> None:
    package = server.data / "agent.pyz"
    real = package.read_bytes()
    package.write_text("import sys; print('RUN', *sys.argv[1:], open(sys.argv[-1]).read())")
    try:
        with server.root() as root:
            invited = root.post("/api/v1/invites", json={"name": next(names)}).json()
        line = invited["line"]
        assert "\n" not in line and len(line) < 1000
        good = run_line(line, tmp_path)
        assert good.returncode == 0, good.stderr
        words = good.stdout.split()
        assert words[:4] == ["RUN", "install", "--server", server.url]
        assert words[4] == "--token" and words[6] == "--ca"
        assert good.stdout.strip().endswith(server.ca.strip())
        fingerprint = line.split('hexdigest()=="')[1][:64]
        bad = run_line(line.replace(fingerprint, "0" * 64), tmp_path)
        assert bad.returncode == 1
        assert bad.stderr.strip() == "This is not the emergency server that invited you."
        assert "RUN" not in bad.stdout
    finally:
        package.write_bytes(real)


def test_a_wrong_address_is_refused_before_an_invitation_is_made(server: ServerProcess) -> None:
    with server.root() as root:
        for url in ("http://a:1", "https://", "https://a'b:1", "https://a:99999", "https://a;b"):
            body = {"name": next(names), "url": url}
            error_of(root.post("/api/v1/invites", json=body), 400, "bad-url")
        good = {"name": next(names), "url": "https://[fd00::1]:8443"}
        assert "https://[fd00::1]:8443" in root.post("/api/v1/invites", json=good).json()["line"]


def test_people_log_in_and_out_and_other_sites_change_nothing(server: ServerProcess) -> None:
    with server.client() as page:
        assert page.get("/").headers["location"] == "/login"
        wrong = page.post("/login", data={"name": "admin", "password": "wrong"})
        assert wrong.status_code == 401 and "Name or password is wrong" in wrong.text
        german = page.post("/login", data={}, headers={"Accept-Language": "de-AT,en;q=0.5"})
        assert "Name oder Passwort ist falsch" in german.text
        entered = page.post("/login", data={"name": "admin", "password": server.password})
        cookie = entered.headers["set-cookie"]
        assert entered.headers["location"] == "/"
        for part in ("__Host-notfall=", "HttpOnly", "Secure", "SameSite=strict", "Path=/"):
            assert part in cookie
        home = page.get("/")
        assert (
            home.status_code == 200
            and "default-src 'none'" in home.headers["content-security-policy"]
        )
        assert page.get("/api/v1/status").json()["pool"]["reflink"] is True
        for foreign in ({"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
            answer = page.post("/api/v1/rescue/build", headers=foreign)
            error_of(answer, 403, "foreign-origin")
        own = page.post(
            "/api/v1/invites", json={"name": next(names)}, headers={"Origin": server.url}
        )
        assert own.status_code == 201
        assert page.post("/logout").headers["location"] == "/login"
        error_of(page.get("/api/v1/status"), 401, "not-logged-in")


def test_every_route_for_people_needs_a_login(server: ServerProcess) -> None:
    with server.client() as nobody:
        api = nobody.get("/api/v1/openapi.json").json()
        tried = 0
        for path, methods in api["paths"].items():
            if not path.startswith("/api/v1"):
                continue
            for method in methods:
                where = path.replace("{name}", "x").replace("{job}", "x")
                answer = nobody.request(method, where, json={})
                error_of(answer, 401, "not-logged-in")
                tried += 1
        assert tried >= 20


def test_too_many_wrong_passwords_are_braked(tmp_path: Path) -> None:
    with running(ServerProcess(tmp_path)) as own, own.client() as page:
        answers = [
            page.post("/login", data={"name": "admin", "password": str(one)}).status_code
            for one in range(9)
        ]
        assert answers == [401] * 8 + [429]
        right = page.post("/login", data={"name": "admin", "password": own.password})
        assert right.status_code == 429


def test_bodies_that_are_too_long_are_refused_whether_they_say_so_or_not(
    server: ServerProcess,
) -> None:
    with server.client() as fresh:
        long = b"x" * (JSON_LIMIT + 1)
        error_of(fresh.post("/agent/v1/enrol", content=long), 413, "too-long")
        chunks = (b"x" * 65536 for _ in range(32))
        error_of(fresh.post("/agent/v1/enrol", content=chunks), 413, "too-long")


def test_errors_have_one_shape(server: ServerProcess) -> None:
    with server.root() as root:
        error_of(root.get("/nowhere"), 404, "not-found")
        error_of(root.delete("/api/v1/primaries"), 405, "wrong-method")
        error_of(root.get("/api/v1/primaries/none"), 404, "no-such-primary")
        error_of(root.get("/api/v1/jobs/none"), 404, "no-such-job")
        error_of(root.get("/api/v1/jobs?limit=x"), 422, "bad-request")
        told = error_of(root.post("/api/v1/invites", json={"nam": "x"}), 422, "bad-request")
        assert "name" in told["cause"]
        error_of(root.post("/api/v1/invites", json={"name": "../x"}), 400, "bad-name")


def test_a_recovery_needs_just_the_plan_that_was_shown(server: ServerProcess) -> None:
    agent = HandAgent(server, next(names))
    agent.protect()
    agent.close()
    server.put_in_emergency(agent.uuid)
    secret = hashlib.sha256(agent.name.encode()).hexdigest()
    code = pairing_code(secret)
    old = Partition(1, 1 << 20, 1 << 30, filesystem="ext4", label="old")
    disk = Disk("sda", 2 << 30, partitions=[old])
    with server.root() as root, server.catalogue() as catalogue:
        catalogue.targets.register(secret, Machine("t", disks=[disk]), code)
        assert code not in root.get("/api/v1/targets").text
        primary = f"/api/v1/primaries/{agent.name}"
        plan = root.post(f"{primary}/recovery-plan", json={"code": code}).json()
        assert plan["moves"][0]["overwrites"] == ["partition 1: ext4 old"]
        wrong = root.post(f"{primary}/recover", json={"code": code, "confirmed": "guess"})
        error_of(wrong, 409, "plan-changed")
        catalogue.targets.register(secret, Machine("t", disks=[Disk("sdz", 2 << 30)]), code)
        late = root.post(f"{primary}/recover", json={"code": code, "confirmed": plan["digest"]})
        error_of(late, 409, "plan-changed")
        plan = root.post(f"{primary}/recovery-plan", json={"code": code}).json()
        good = root.post(f"{primary}/recover", json={"code": code, "confirmed": plan["digest"]})
        assert good.status_code == 202 and good.json()["kind"] == "recover"
        job = server.await_job(good.json()["id"])  # its first capture needs libvirt
        assert (job["state"], job["error"]["code"]) == ("failed", "hypervisor-unreachable")
        assert "libvirtd" in job["error"]["remedy"]
        assert root.get(primary).json()["state"] == "emergency"
        assert root.get("/api/v1/targets").json()[0]["state"] == "free"


def test_a_job_is_followed_to_its_end(server: ServerProcess) -> None:
    agent = HandAgent(server, next(names))
    with server.root() as root, Serving(agent, lambda: agent.replicate(0.4, 2)):
        job = root.post(f"/api/v1/primaries/{agent.name}/replicate").json()["id"]
        rows = []
        with root.stream("GET", f"/api/v1/jobs/{job}/follow") as stream:
            for line in stream.iter_lines():
                if line.startswith("data:"):
                    rows.append(json.loads(line[5:]))
        assert rows[-1]["state"] == "done"
        assert any(row["progress"]["rate"] > 0 for row in rows)
        stamp = rows[-1]["result"]["version"]
        newest = root.get(f"/api/v1/primaries/{agent.name}/versions").json()[0]
        assert (newest["stamp"], newest["newest"], newest["source"]) == (stamp, True, "agent")
        primary = root.get(f"/api/v1/primaries/{agent.name}").json()
        assert primary["newest_version"] == stamp
        assert datetime.fromisoformat(primary["newest_version_at"]) == stamp_time(stamp)
        asked = {"primary": agent.name, "kind": "replicate"}
        assert root.get("/api/v1/jobs", params=asked).json()[0]["id"] == job
        assert root.get("/api/v1/jobs", params={**asked, "kind": "activate"}).json() == []
    agent.close()


def test_jobs_go_on_after_the_server_ended_or_was_killed(tmp_path: Path) -> None:
    with ExitStack() as stack:
        own = stack.enter_context(running(ServerProcess(tmp_path)))
        agent = HandAgent(own, "slow")
        stack.callback(agent.close)
        stack.enter_context(Serving(agent, lambda: agent.replicate(1, 1)))
        with own.root() as root:
            job = root.post("/api/v1/primaries/slow/replicate").json()["id"]
        for kill in (False, True):
            with own.client() as other, other.stream("GET", "/changes"):
                pass
            if kill:
                own.kill()
            else:
                assert own.stop() < 10
            own.start()
            until = time.monotonic() + PATIENCE_S
            while not (row := own.job(job))["progress"]["done"]:
                assert time.monotonic() < until, row
                time.sleep(0.2)
            assert row["state"] == "running" and row["finished_at"] is None
        with own.root() as root:
            assert root.post(f"/api/v1/jobs/{job}/cancel").status_code == 202
        assert own.await_job(job)["state"] == "cancelled"


def test_it_ends_in_order_from_the_instant_its_port_answers(tmp_path: Path) -> None:
    machine = ServerProcess(tmp_path)
    for _ in range(3):
        with running(machine, look_s=0.0005):
            pass  # told to end by SIGTERM; the way out checks its exit code


def test_tls_is_at_least_1_2(server: ServerProcess) -> None:
    context = server.context()
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    with pytest.warns(DeprecationWarning):
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    connection = http.client.HTTPSConnection("127.0.0.1", server.port, context=context, timeout=5)
    with pytest.raises(ssl.SSLError):
        connection.connect()
    connection.close()


text = st.text(st.characters(exclude_categories=()), max_size=40)  # lone surrogates too
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=8,
)
WORDS = (
    "name token machine again url code disks confirmed at directory version overrule_reason "
    "schedule_minutes confirm"
)
fields = st.fixed_dictionaries({}, optional=dict.fromkeys(WORDS.split(), text | anything))
PATHS = (
    "/agent/v1/enrol",
    "/api/v1/invites",
    "/api/v1/files/unmount",
    "/api/v1/primaries/fuzz/schedule",
    "/api/v1/primaries/fuzz/activate",
    "/api/v1/primaries/fuzz/recovery-plan",
    "/api/v1/primaries/fuzz/recover",
    "/api/v1/primaries/fuzz/switch-back",
    "/api/v1/primaries/fuzz/files",
    "/api/v1/primaries/fuzz/remove",
)


@pytest.fixture(scope="module")
def fuzzed(server: ServerProcess) -> Iterator[httpx.Client]:
    server.enrol("fuzz")
    with server.root() as root:
        yield root


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(path=st.sampled_from(PATHS), body=fields | anything, tail=st.text(max_size=20))
def test_no_input_makes_the_server_stumble(
    fuzzed: httpx.Client, path: str, body: Any, tail: str
) -> None:
    """Whatever comes: an answer below 500, and errors in the one shape."""
    raw = json.dumps(body).encode("utf-8", "surrogatepass")
    answers = [
        fuzzed.post(path, content=raw, headers={"Content-Type": "application/json"}),
        fuzzed.post(path, content=raw[:-1] + tail.encode("utf-8", "surrogatepass")),
        fuzzed.get("/api/v1/jobs", params={"primary": tail, "limit": tail}),
        fuzzed.get("/api/v1/journal", params={"primary": tail}),
    ]
    for answer in answers:
        assert answer.status_code < 500, answer.text
        if answer.status_code >= 400:
            assert set(answer.json()) == {"code", "cause", "remedy", "retry"}
