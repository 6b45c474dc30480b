"""What a program loads before it does anything: nobody waits for what is not needed."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

TELL = "import json, sys; print(json.dumps(sorted({one.split('.')[0] for one in sys.modules})))"
PAGES = {"fastapi", "starlette", "uvicorn", "libvirt", "apprise"}
RECORDS = {"alembic", "argon2", "cryptography", "sqlalchemy"}
FOR_PAPER = {"fontTools", "fpdf", "numpy", "PIL", "pyhanko", "weasyprint"}


@pytest.mark.parametrize(
    ("module", "needless"),
    [
        ("notfallserver.server.cli", RECORDS | PAGES | FOR_PAPER),
        ("notfallserver.server.cli.install", PAGES | FOR_PAPER),
        ("notfallserver.server.main", FOR_PAPER),
    ],
)
def test_what_is_seldom_needed_is_loaded_then(module: str, needless: set[str]) -> None:
    line = [sys.executable, "-c", f"import {module}; {TELL}"]
    loaded = set(json.loads(subprocess.run(line, capture_output=True, check=True).stdout))
    assert "notfallserver" in loaded
    assert loaded & needless == set()
