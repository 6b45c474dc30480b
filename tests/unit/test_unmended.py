"""Which failed jobs still matter."""

from pathlib import Path

from notfallserver.server.records import Catalogue, open_catalogue
from notfallserver.wire.errors import NotfallError


def over(catalogue: Catalogue, kind: str, primary: str, state: str) -> None:
    job, _ = catalogue.jobs.add(kind, primary, {}, "anna")
    error = NotfallError("pool-full", "It is full.") if state == "failed" else None
    catalogue.jobs.finish(job.id, state, error=error)


def test_a_failure_matters_until_its_like_succeeds(tmp_path: Path) -> None:
    catalogue = open_catalogue(tmp_path)
    try:
        over(catalogue, "replicate", "p", "failed")
        over(catalogue, "prepare", "p", "failed")
        over(catalogue, "replicate", "q", "done")  # of another primary: mends nothing here
        over(catalogue, "replicate", "p", "cancelled")  # neither does this
        told = catalogue.jobs.unmended("p")
        assert [(one.kind, one.primary) for one in told] == [("prepare", "p"), ("replicate", "p")]
        over(catalogue, "replicate", "p", "done")
        over(catalogue, "replicate", "q", "failed")
        assert [one.kind for one in catalogue.jobs.unmended("p")] == ["prepare"]
        assert [one.primary for one in catalogue.jobs.unmended()] == ["q", "p"]
    finally:
        catalogue.close()
