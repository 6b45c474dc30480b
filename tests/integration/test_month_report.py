"""The monthly report of a real server: made by itself, signed, checked by other programs."""

from __future__ import annotations

import io
import json
import re
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hand_agent import HandAgent
from PIL import Image
from pyhanko.pdf_utils.generic import NameObject
from pyhanko.pdf_utils.incremental_writer import IncrementalPdfFileWriter
from receiving import PASSWORD, USER, Mailbox, mailbox
from server_process import ServerProcess, running
from typer.testing import CliRunner

from notfall_lab.patience import PATIENCE_S, until
from notfallserver.server.authority import create_authority
from notfallserver.server.cli import reports
from notfallserver.server.pool.layout import make_stamp
from notfallserver.server.pool.proof import Evidence
from notfallserver.server.records.catalogue import FILE
from notfallserver.server.records.receivers import Kind, Summary, Wanted
from notfallserver.server.records.rehearsals import Outcome, Rehearsal
from notfallserver.server.report.months import Month, local_zone, month_of
from notfallserver.server.report.sign import check_beside, check_pdf
from notfallserver.server.tell.address import Mail
from notfallserver.wire.errors import NotfallError

_, ZONE = local_zone()
PRESENT = month_of(datetime.now(UTC), ZONE)
MONTH = PRESENT.before
BEGIN, END = MONTH.begin(ZONE), MONTH.next.begin(ZONE)
DAY = timedelta(days=1)
SHOP = "00000000-0000-0000-0000-000000000001"
JOINED, DOWN = BEGIN + 10 * DAY, BEGIN + 20 * DAY


@dataclass(frozen=True)
class Scene:
    server: ServerProcess
    primary: str
    place: Path
    box: Mailbox

    @property
    def fingerprint(self) -> str:
        return str(self.get("/status")["fingerprint"])

    def get(self, address: str) -> Any:
        with self.server.root() as root:
            answer = root.get(f"/api/v1{address}")
            assert answer.status_code == 200, answer.text
            return answer.json()


def out(*line: str | Path, code: int = 0) -> str:
    done = subprocess.run([str(one) for one in line], capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def write_past(server: ServerProcess, primary: str) -> None:
    """It joined on the 11th, was copied daily, was down once, and a rehearsal succeeded."""
    with server.catalogue() as catalogue:
        catalogue.primaries.adopt_primary(primary, "shop", None, "", "normal", 1440, 15)
        told: list[tuple[datetime, str, dict[str, Any], tuple[str, str]]] = [
            (DOWN, "outage_seen", {}, ("normal", "outage")),
            (DOWN + timedelta(hours=1), "activate", {}, ("outage", "activating")),
            (DOWN + timedelta(hours=1, minutes=3), "standin_up", {}, ("activating", "emergency")),
            (DOWN + timedelta(hours=9), "recovered", {}, ("switching_back", "normal")),
        ]
        taken = JOINED
        while taken < END:
            told.append((taken, "version", {"version": make_stamp(taken)}, ("", "")))
            taken += DAY
        picture = server.data / "evidence" / primary / "past.png"
        picture.parent.mkdir(parents=True)
        Image.new("RGB", (640, 400), "navy").save(picture)
        at = END - 2 * DAY
        evidence = Evidence("past", at.isoformat(), started=True, start_s=97.0, ports=(22,))
        catalogue.rehearsals.keep(
            Rehearsal(
                *("past", primary, "20260101T000000.000Z", "schedule", at, Outcome.PASSED, 97.0),
                picture=True,
                evidence=evidence.to_json(),
            )
        )
    with closing(sqlite3.connect(server.data / FILE)) as database, database:
        joined = JOINED.astimezone(UTC).isoformat(timespec="microseconds")
        database.execute("UPDATE primaries SET enrolled_at = ?", (joined,))
        database.execute('UPDATE journal SET at = ? WHERE "primary" = ?', (joined, primary))
        database.executemany(
            'INSERT INTO journal (at, "primary", event, who, why, from_state, to_state, details)'
            " VALUES (?, ?, ?, 'server', '', ?, ?, ?)",
            [
                (
                    at.astimezone(UTC).isoformat(timespec="microseconds"),
                    *(primary, event, *states, json.dumps(details)),
                )
                for at, event, details, states in told
            ],
        )


def want_news(server: ServerProcess, box: Mailbox) -> None:
    """Somebody gets good news by mail, in German."""
    mail = Mail("127.0.0.1", "n@example.com", "chef@example.com", "none", box.port, USER, PASSWORD)
    address = mail.address()
    wanted = Wanted("chef", frozenset({Kind.GOOD}), "de", Summary.NEVER, address.url, address.shown)
    with server.catalogue() as catalogue:
        catalogue.receivers.add(wanted, "root")


def await_report(scene: Scene, month: Month) -> dict[str, Any]:
    until = time.monotonic() + 180
    while True:
        rows = scene.get("/reports")
        if found := [one for one in rows if one["month"] == str(month)]:
            return dict(found[0])
        assert time.monotonic() < until, scene.server.log()
        time.sleep(0.2)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """A server that was off while the month ended."""
    directory = tmp_path_factory.mktemp("reports")
    server = ServerProcess(directory, {"company": "Müller & <Söhne> GmbH"})
    server.set_up()
    write_past(server, SHOP)
    with mailbox() as box, running(server):
        want_news(server, box)
        found = Scene(server, SHOP, directory, box)
        await_report(found, MONTH)
        done = server.notfall("report", "show", str(MONTH), "--to", str(directory))
        assert done.returncode == 0, done.stderr
        yield found


def test_who_wants_good_news_gets_it_by_mail(scene: Scene) -> None:
    until(lambda: any(scene.box.papers))
    (title, text), papers = next(
        (mail, papers)
        for mail, papers in zip(scene.box.mails, scene.box.papers, strict=True)
        if papers
    )
    assert title.endswith(": Der Monatsbericht ist da")
    assert f"{scene.server.url}/reports" in text
    assert set(papers) == {f"notfallserver-{MONTH}-de.pdf"}
    kept = scene.server.data / "reports" / str(MONTH) / "report-de.pdf"
    assert papers[f"notfallserver-{MONTH}-de.pdf"] == kept.read_bytes()


def test_a_month_that_ended_while_the_server_was_off_is_reported(scene: Scene) -> None:
    row = await_report(scene, MONTH)
    assert row["complete"] and row["sentence"] == (
        "The server can be replaced at any time; its last start took 2 minutes."
    )
    tree = scene.get(f"/reports/{MONTH}")
    [one] = tree["primaries"]
    assert tree["company"] == "Müller & <Söhne> GmbH" and one["name"] == "shop"
    assert datetime.fromisoformat(one["protected_since"]) == JOINED
    assert datetime.fromisoformat(one["span"]["begin"]) == JOINED
    assert one["made"] == (END - JOINED).days + bool((END - JOINED).seconds)
    assert one["ages"]["worst_s"] == DAY.total_seconds() and one["recovery_s"] == 97
    [outage] = one["outages"]
    assert outage["start_s"] == 180 and datetime.fromisoformat(outage["begin"]) == DOWN
    assert one["proof"]["grade"] == "serving" and len(one["proof"]["picture_sha256"]) == 64
    told = [entry["event"] for entry in scene.get("/journal")]
    assert told.count("month-reported") == 1


@pytest.mark.parametrize(
    ("language", "words"),
    [
        ("de", ("Der Server kann jederzeit ersetzt werden", "Müller & <Söhne> GmbH", "Ausfall")),
        ("en", ("The server can be replaced at any time", "Müller & <Söhne> GmbH", "Outage")),
    ],
)
def test_a_pdf_reader_sees_text_picture_and_signature(
    scene: Scene, language: str, words: tuple[str, ...]
) -> None:
    pdf = scene.place / f"{MONTH}-report-{language}.pdf"
    signed = out("pdfsig", "-nocert", pdf)
    assert "Signature is Valid" in signed and "Total document signed" in signed
    assert "ETSI.CAdES.detached" in signed
    text = " ".join(out("pdftotext", pdf, "-").split())
    assert all(one in text for one in words), text
    assert "640" in out("pdfimages", "-list", pdf)
    told = out("pdfinfo", pdf)
    assert re.search(r"Tagged:\s+yes", told) and re.search(r"Title:.*Müller", told)


def changed(content: bytes) -> bytes:
    """One bit in one byte."""
    other = bytearray(content)
    other[len(other) // 3] ^= 1
    return bytes(other)


def test_one_changed_byte_breaks_the_signature(scene: Scene, tmp_path: Path) -> None:
    pdf = scene.place / f"{MONTH}-report-de.pdf"
    tree, beside = (scene.place / f"{MONTH}-report.json{end}" for end in ("", ".p7s"))
    wrong = tmp_path / "wrong.pdf"
    wrong.write_bytes(changed(pdf.read_bytes()))
    assert "Signature is Valid" not in out("pdfsig", "-nocert", wrong)
    done = scene.server.notfall("report", "verify", "--json", str(pdf), str(tree), str(wrong))
    assert done.returncode == 1, done.stderr
    rows = json.loads(done.stdout)
    assert [row["valid"] for row in rows] == [True, True, False]
    assert all(row["by"].startswith("Notfallserver ") for row in rows[:2])
    ca = scene.server.ca.encode()
    found = check_beside(changed(tree.read_bytes()), beside.read_bytes(), ca)
    assert not found.valid and "changed" in found.why
    assert not check_beside(tree.read_bytes(), b"nonsense", ca).valid
    assert not check_pdf(b"%PDF-1.7 nonsense", ca).valid


def test_something_added_after_the_signature_is_seen(scene: Scene) -> None:
    writer = IncrementalPdfFileWriter(
        io.BytesIO((scene.place / f"{MONTH}-report-de.pdf").read_bytes())
    )
    writer.root["/Added"] = NameObject("/Later")
    writer.update_root()
    longer = io.BytesIO()
    writer.write(longer)
    found = check_pdf(longer.getvalue(), scene.server.ca.encode())
    assert not found.valid and "added" in found.why


def test_openssl_checks_the_tree(scene: Scene) -> None:
    tree = scene.place / f"{MONTH}-report.json"
    line = ["openssl", "cms", "-verify", "-inform", "DER", "-binary", "-in", f"{tree}.p7s"]
    ca = scene.server.data / "ca" / "ca.pem"
    out(*line, "-content", tree, "-CAfile", ca, "-out", "/dev/null")
    tree_of_another = scene.place / "another.json"
    tree_of_another.write_bytes(tree.read_bytes().replace(b"shop", b"shoq"))
    failed = out(*line, "-content", tree_of_another, "-CAfile", ca, "-out", "/dev/null", code=4)
    assert "Verification failure" in failed


def test_another_authority_is_not_taken_for_ours(scene: Scene, tmp_path: Path) -> None:
    other = create_authority(tmp_path / "ca")
    pdf = scene.place / f"{MONTH}-report-de.pdf"
    found = check_pdf(pdf.read_bytes(), other.ca_pem.encode())
    assert not found.valid and "Another authority" in found.why
    ours = str(scene.server.data / "ca" / "ca.pem")
    line = ["verify", str(pdf), "--ca", ours, "--fingerprint"]
    assert CliRunner().invoke(reports.app, [*line, scene.fingerprint.upper()]).exit_code == 0
    refused = CliRunner().invoke(reports.app, [*line, other.fingerprint])
    assert isinstance(refused.exception, NotfallError)
    assert refused.exception.code == "other-authority"


def test_the_key_is_for_root_alone(scene: Scene) -> None:
    assert (scene.server.data / "ca" / "reports.key").stat().st_mode & 0o777 == 0o600
    assert (scene.server.data / "reports").stat().st_mode & 0o777 == 0o700


def test_one_that_is_killed_while_it_makes_a_report_makes_it_afterwards(
    scene: Scene, tmp_path: Path
) -> None:
    server = scene.server
    agent = HandAgent(server, "hand")
    agent.protect()
    agent.close()
    with server.root() as root:
        answer = root.post("/api/v1/reports", json={"month": str(PRESENT)})
        assert answer.status_code == 202, answer.text
        job = answer.json()["id"]
        until = time.monotonic() + PATIENCE_S
        while not (server.data / "reports" / f"{PRESENT}.new" / "report.json").exists():
            assert time.monotonic() < until
            time.sleep(0.02)
    server.kill()
    assert not (server.data / "reports" / str(PRESENT)).exists()
    server.start()
    assert server.await_job(job)["state"] == "done"
    row = await_report(scene, PRESENT)
    assert not row["complete"] and "report-de.pdf" in row["files"]
    own = {f"report-{one}.pdf" for one in ("de-shop", "en-shop", "de-hand", "en-hand")}
    assert own <= set(row["files"])
    pdf = tmp_path / "hand.pdf"
    with server.root() as root:
        answer = root.get(f"/reports/{PRESENT}/report-de-hand.pdf")
        assert f"notfallserver-{PRESENT}-de-hand.pdf" in answer.headers["content-disposition"]
        pdf.write_bytes(answer.content)
        assert "report-en-hand.pdf" in root.get("/reports", headers={"Accept": "text/html"}).text
    assert check_pdf(pdf.read_bytes(), server.ca.encode()).valid
    text = " ".join(out("pdftotext", pdf, "-").split())
    assert ": hand" in text and "shop" not in text
    primaries = {one["name"]: one for one in scene.get(f"/reports/{PRESENT}")["primaries"]}
    assert primaries["hand"]["made"] == primaries["hand"]["kept"] == 1
    assert [one["key"] for one in primaries["hand"]["findings"]] == ["never-rehearsed"]
    assert not list((server.data / "reports").glob("*.new"))
    told = [entry["event"] for entry in scene.get("/journal")]
    assert told.count("month-reported") == 1 and told.count("report-made") == 1


@pytest.mark.parametrize(
    ("month", "status", "code"),
    [
        ("2026-13", 422, "bad-month"),
        ("2199-01", 409, "month-not-begun"),
        (str(MONTH), 409, "report-there"),
    ],
)
def test_what_can_not_be_made_is_refused(scene: Scene, month: str, status: int, code: str) -> None:
    with scene.server.root() as root:
        answer = root.post("/api/v1/reports", json={"month": month})
        assert (answer.status_code, answer.json()["code"]) == (status, code)
        assert root.get("/api/v1/reports/2001-01").status_code == 404
        assert root.get(f"/api/v1/reports/{MONTH}/..%2f..%2fcli-token").status_code in (404, 422)
        assert root.get(f"/reports/{MONTH}/report-de.pdf").content.startswith(b"%PDF")
        assert str(MONTH) in root.get("/reports", headers={"Accept": "text/html"}).text
