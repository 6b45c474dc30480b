"""``notfall report``: the monthly reports, and whether a file is one that was not changed."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from notfallserver.server.cli.api import connect
from notfallserver.server.cli.following import begin_job
from notfallserver.server.cli.show import chosen, local, tell, tell_json, tell_pairs, tell_table
from notfallserver.server.settings import load_settings
from notfallserver.wire.errors import NotfallError

if TYPE_CHECKING:
    from notfallserver.server.report.sign import Checked

app = typer.Typer(help="The monthly reports.", no_args_is_help=True)

MonthName = Annotated[str, typer.Argument(metavar="MONTH", help="As 2026-10.")]
SIGNATURE = ".p7s"


@app.command("list")
def list_reports() -> None:
    """All reports that are there, the newest first."""
    rows = connect().get("/reports")
    if chosen.as_json:
        tell_json(rows)
        return
    tell_table(
        ("MONTH", "", "MADE", "IN ONE SENTENCE"),
        (
            (
                row["month"] if row["complete"] else f"{row['month']} (so far)",
                row["light"].upper() if row["light"] == "bad" else row["light"],
                local(row["made_at"]),
                row["sentence"],
            )
            for row in rows
        ),
        "There is no report yet. Make one: notfall report make MONTH",
    )


@app.command()
def make(
    month: Annotated[
        str, typer.Argument(metavar="[MONTH]", help="As 2026-10; left out: the present one.")
    ] = "",
    again: Annotated[
        bool, typer.Option("--again", help="Also in place of one of the whole month.")
    ] = False,
) -> None:
    """Make a report now; that of the present month is as far as it is."""
    api = connect()
    wanted = month or datetime.now().strftime("%Y-%m")
    begin_job(api, api.post("/reports", {"month": wanted, "again": again}), True)


@app.command()
def show(
    month: MonthName,
    to: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Copy its files into this directory.")
    ] = None,
) -> None:
    """What a report says in short; --to: take its files; --json: all of it."""
    api = connect()
    row = api.get(f"/reports/{month}")
    if to is not None:
        for name in next(one for one in api.get("/reports") if one["month"] == month)["files"]:
            content = api.get_bytes(f"/reports/{month}/{name}")
            (to / f"{month}-{name}").write_bytes(content)
        tell(f"The files are in {to}.")
        return
    if chosen.as_json:
        tell_json(row)
        return
    tell_pairs(
        (
            ("month", row["month"] + ("" if row["complete"] else " (so far)")),
            ("company", row["company"]),
            ("time zone", row["time_zone"]),
            ("made", local(row["made_at"])),
        )
    )
    tell_table(
        ("SERVER", "AT THE END", "WORST AGE", "AS PLANNED", "REHEARSED", "START TOOK", "OPEN"),
        (
            (
                one["name"],
                one["light"],
                _seconds(one["ages"]["worst_s"]),
                "" if one["ages"]["within"] is None else f"{one['ages']['within']:.1%}",
                local(one["proof"]["at"]) if one["proof"] else "never",
                _seconds(one["recovery_s"]),
                ", ".join(finding["key"] for finding in one["findings"]),
            )
            for one in row["primaries"]
        ),
        "No server is protected yet.",
    )


def _seconds(seconds: float | None) -> str:
    from notfallserver.server.cli.show import lasting

    return "" if seconds is None else lasting(seconds)


@app.command()
def verify(
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE...", help="PDFs, or JSON files with their .p7s beside."),
    ],
    ca: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The authority's certificate; left out: this server's."),
    ] = None,
    fingerprint: Annotated[
        str, typer.Option(help="The authority's SHA-256 fingerprint, as it was noted elsewhere.")
    ] = "",
) -> None:
    """Check that files are reports which this server signed and nobody changed since.

    It asks no server: with --ca it works on any machine. Exit code 1 when anything is wrong.
    """
    certificate = _authority(ca, fingerprint)
    rows = []
    for one in files:
        checked = _check(one, certificate)
        rows.append(
            {
                "file": str(one),
                "valid": checked.valid,
                "by": checked.by,
                "at": checked.at.isoformat() if checked.at else None,
                "why": checked.why,
            }
        )
    if chosen.as_json:
        tell_json(rows)
    else:
        tell_table(
            ("FILE", "SIGNATURE", "BY", "AT", "WHY NOT"),
            (
                (
                    str(row["file"]),
                    "valid" if row["valid"] else "NOT VALID",
                    str(row["by"]),
                    local(str(row["at"])) if row["at"] else "",
                    str(row["why"]),
                )
                for row in rows
            ),
            "",
        )
    if not all(row["valid"] for row in rows):
        raise typer.Exit(1)


def _authority(ca: Path | None, fingerprint: str) -> bytes:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes

    path = ca or load_settings(chosen.config).data_dir / "ca" / "ca.pem"
    content = _read(path)
    try:
        found = x509.load_pem_x509_certificate(content).fingerprint(hashes.SHA256()).hex()
    except ValueError:
        raise NotfallError(
            "bad-certificate", f"{path} holds no certificate (PEM).", "Name the right file: --ca"
        ) from None
    noted = fingerprint.replace(":", "").replace(" ", "").lower()
    if noted and noted != found:
        raise NotfallError(
            "other-authority",
            f"{path} is another authority: its fingerprint is {found}.",
            "Trust nothing that it signed before you know whose it is.",
        )
    return content


def _check(path: Path, ca: bytes) -> Checked:
    from notfallserver.server.report.sign import Checked, check_beside, check_pdf

    content = _read(path)
    if content.startswith(b"%PDF"):
        return check_pdf(content, ca)
    beside = path.with_name(path.name + SIGNATURE)
    if not beside.exists():
        return Checked(False, why=f"Its signature {beside.name} is not beside it.")
    return check_beside(content, _read(beside), ca)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise NotfallError(
            "no-such-file", f"{path} can't be read: {error.strerror}.", "Name another file."
        ) from None
