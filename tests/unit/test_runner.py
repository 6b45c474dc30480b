"""Jobs: they end as they should, survive the server's end, and don't meet their like."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from notfallserver.server.cycle.runner import JobContext, JobRunner
from notfallserver.server.records import Catalogue, open_catalogue
from notfallserver.server.records.database import DISK_FULL
from notfallserver.server.records.events import Event
from notfallserver.server.records.jobs import Job
from notfallserver.wire.errors import NotfallError


@pytest.fixture
def catalogue(tmp_path: Path) -> Iterator[Catalogue]:
    opened = open_catalogue(tmp_path)
    yield opened
    opened.close()


def new_runner(catalogue: Catalogue) -> JobRunner:
    return JobRunner(catalogue.jobs, catalogue.journal)


def test_a_job_hands_back_its_result(catalogue: Catalogue) -> None:
    runner = new_runner(catalogue)
    runner.register("work", lambda ctx: {"twice": 2 * ctx.parameters["n"]})
    job = runner.wait(runner.submit("work", "p", {"n": 21}, "anna").id, 5)
    assert (job.state, job.result, job.who) == ("done", {"twice": 42}, "anna")
    assert job.started_at and job.finished_at and job.started_at <= job.finished_at


def test_a_failure_is_told_and_an_unexpected_one_too(catalogue: Catalogue) -> None:
    runner = new_runner(catalogue)

    def refuse(ctx: JobContext) -> None:
        raise NotfallError("disk-full", "The pool is full.", "Make room.", retry=True)

    def crash(ctx: JobContext) -> None:
        raise ZeroDivisionError("oops")

    runner.register("refuse", refuse)
    runner.register("crash", crash)
    error = runner.wait(runner.submit("refuse", None, {}, "anna").id, 5).error
    assert error == {
        "code": "disk-full",
        "cause": "The pool is full.",
        "remedy": "Make room.",
        "retry": True,
    }
    error = runner.wait(runner.submit("crash", None, {}, "anna").id, 5).error
    assert error and error["code"] == "internal" and "ZeroDivisionError: oops" in error["cause"]


def test_the_end_of_a_job_is_noted_as_soon_as_the_disk_has_room(
    catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("notfallserver.server.cycle.runner.FULL_AGAIN_S", 0.01)
    runner = new_runner(catalogue)
    finish, full = catalogue.jobs.finish, [1, 2, 3]

    def no_room(*told: Any, **named: Any) -> Job:
        if full and full.pop():
            raise NotfallError(DISK_FULL, "The disk is full.", retry=True, status=507)
        return finish(*told, **named)

    monkeypatch.setattr(catalogue.jobs, "finish", no_room)
    runner.register("work", lambda ctx: {"made": 1})
    job = runner.wait(runner.submit("work", None, {}, "anna").id, 5)
    assert (job.state, job.result, full) == ("done", {"made": 1}, [])


def test_the_like_and_the_excluded_are_refused_until_it_is_over(catalogue: Catalogue) -> None:
    runner = new_runner(catalogue)
    go_on = threading.Event()

    def wait(ctx: JobContext) -> None:
        go_on.wait(10)

    runner.register("a", wait, excludes={"b"})
    runner.register("b", wait)
    first = runner.submit("a", "p", {}, "anna")
    for kind in ("a", "b"):
        with pytest.raises(NotfallError) as refused:
            runner.submit(kind, "p", {}, "anna")
        assert refused.value.code == "job-conflict" and first.id in refused.value.cause
    assert runner.submit("a", "p", {}, "anna", join=True).id == first.id
    other = runner.submit("b", "q", {}, "anna")
    go_on.set()
    runner.wait(first.id, 5)
    runner.wait(other.id, 5)
    assert runner.wait(runner.submit("b", "p", {}, "anna").id, 5).state == "done"


def test_cancelling_ends_a_sleep_at_once_and_cannot_be_swallowed(catalogue: Catalogue) -> None:
    runner = new_runner(catalogue)
    cleaned = threading.Event()
    asleep = threading.Event()

    def work(ctx: JobContext) -> None:
        try:
            asleep.set()
            ctx.sleep(60)
        except Exception:
            pytest.fail("swallowed")
        finally:
            cleaned.set()

    runner.register("work", work)
    job = runner.submit("work", "p", {}, "anna")
    assert asleep.wait(5)
    began = time.monotonic()
    runner.cancel(job.id, "bert")
    assert runner.wait(job.id, 5).state == "cancelled"
    assert time.monotonic() - began < 2 and cleaned.is_set()
    assert catalogue.journal.entries("p")[0].who == "bert"
    with pytest.raises(NotfallError) as refused:
        runner.cancel(job.id, "bert")
    assert refused.value.code == "job-finished"


def test_the_servers_end_leaves_a_job_unfinished_and_its_notes_carry_on(
    catalogue: Catalogue,
) -> None:
    noted = threading.Event()

    def work(ctx: JobContext) -> dict[str, object]:
        if "half" in ctx.notes:
            return {"was": ctx.notes["half"]}
        ctx.note(half="done", gone=1)
        ctx.note(gone=None)
        noted.set()
        ctx.sleep(60)
        return {}

    first = new_runner(catalogue)
    first.register("work", work)
    job = first.submit("work", "p", {}, "anna")
    assert noted.wait(5)
    first.stop(5)
    left = catalogue.jobs.find(job.id)
    assert (left.state, left.notes) == ("running", {"half": "done"})
    with pytest.raises(NotfallError):
        first.submit("work", "q", {}, "anna")

    second = new_runner(catalogue)
    second.register("work", work)
    assert [one.id for one in second.resume_unfinished()] == [job.id]
    done = second.wait(job.id, 5)
    assert (done.state, done.result, done.started_at) == ("done", {"was": "done"}, left.started_at)


def test_a_cancelled_job_is_over_after_a_restart(catalogue: Catalogue) -> None:
    def work(ctx: JobContext) -> None:
        ctx.check()

    job, _ = catalogue.jobs.add("work", "p", {}, "anna")
    catalogue.jobs.ask_cancel(job.id)
    runner = new_runner(catalogue)
    runner.register("work", work)
    runner.resume_unfinished()
    assert runner.wait(job.id, 5).state == "cancelled"


def test_progress_is_measured_and_seldom_written(catalogue: Catalogue) -> None:
    runner = new_runner(catalogue)
    changes: list[Event] = []
    seen: list[float] = []

    def work(ctx: JobContext) -> None:
        for done in range(1300):
            ctx.progress("sending", done * 1000, 2_000_000)
            time.sleep(0.001)
        row = catalogue.jobs.find(ctx.job.id).progress
        seen.extend([row.rate, row.seconds_left or 0, row.done])

    runner.register("work", work)
    with catalogue.events.listening(changes.append):
        runner.wait(runner.submit("work", "p", {}, "anna").id, 20)
    rate, left, done = seen
    assert 100_000 < rate < 1_000_000
    assert left == pytest.approx((2_000_000 - done) / rate)
    # Queued, begun, done, and at most two a second in a good second or two.
    assert 4 <= len(changes) <= 16
