"""The words of the command line about evidence."""

from __future__ import annotations

import pytest

from notfallserver.server.cli.rehearsals import _files, _system
from notfallserver.server.pool.proof import Evidence
from notfallserver.server.web.evidence_answers import EvidenceAnswer

AT = "2026-11-26T09:00:00+00:00"


@pytest.mark.parametrize(
    ("evidence", "system", "files"),
    [
        (Evidence(at=AT), "", ""),
        (Evidence(at=AT, system="running", login=True), "running, login screen", ""),
        (
            Evidence(at=AT, system="running", login=False, login_before=True, compared=9),
            "running, NO login screen",
            "9 equal",
        ),
        (Evidence(at=AT, system="running", login=False), "running", ""),
        (
            Evidence(at=AT, failed_units=("a", "b"), compared=3, differing=("/x",)),
            "failed: a, b",
            "2 equal, 1 DIFFERING",
        ),
        (
            Evidence(at=AT, system="degraded", failed_units=("a", "b"), failed_before=("b",)),
            "degraded; failed in it alone: a; failed as on the original: b",
            "",
        ),
    ],
)
def test_what_the_system_told_and_the_files(evidence: Evidence, system: str, files: str) -> None:
    answer = EvidenceAnswer.of(evidence)
    assert answer is not None
    told = answer.model_dump(mode="json")
    assert (_system(told), _files(told)) == (system, files)
    assert (_system(None), _files(None)) == ("", "")
