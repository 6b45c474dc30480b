"""Persistent jobs: each is a function in a thread of its own, its row is in the catalogue.

A job that the server's end interrupted stays unfinished and is run again from the start when the
server comes back; its function finds in the durable notes what is already done. Cancellation and
the server's end reach a function through :meth:`JobContext.check` and ``sleep`` as exceptions that
``except Exception`` does not catch.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping
from typing import Any

from notfallserver.server.records.database import DISK_FULL
from notfallserver.server.records.jobs import Job, Jobs, Progress
from notfallserver.server.records.journal import Journal
from notfallserver.wire.errors import NotfallError

log = logging.getLogger(__name__)

WRITE_EVERY_S = 0.5
"""Progress reaches the disk at most this often, except for a new phase."""
FULL_AGAIN_S = 10.0
"""On a full disk it is tried so often to note the end of a job."""
RATE_OVER_S = 15.0
"""The rate is measured over this long."""


class Interrupted(BaseException):
    """The function shall end now and clean up."""


class Cancelled(Interrupted):
    """A person cancelled the job."""


class ServerStops(Interrupted):
    """The server ends; the job goes on at its next start."""


class JobContext:
    """What a running job's function has to do with the world of jobs."""

    def __init__(self, job: Job, jobs: Jobs, stopping: threading.Event) -> None:
        self.job = job
        self.parameters: dict[str, Any] = job.parameters
        self.notes: dict[str, Any] = job.notes
        self._jobs = jobs
        self._stopping = stopping
        self._wake = threading.Event()
        self._cancelled = job.cancel_requested
        self._phase = ""
        self._points: deque[tuple[float, int]] = deque()
        self._written = 0.0

    @property
    def primary(self) -> str:
        """The UUID of the primary that the job works for; only for kinds that have one."""
        if self.job.primary is None:
            raise NotfallError("internal", f"The job {self.job.kind} has no primary.", status=500)
        return self.job.primary

    def note(self, **values: Any) -> None:
        """Remember durably; None forgets a key."""
        self.notes = self._jobs.note(self.job.id, values)

    def progress(self, phase: str, done: int = 0, total: int = 0) -> None:
        """Say how far the job is, in bytes; a total of 0 means unknown. Cheap to call often."""
        moment = time.monotonic()
        if phase != self._phase or (self._points and done < self._points[-1][1]):
            self._phase, self._written = phase, 0.0
            self._points.clear()
        complete = 0 < total <= done and (not self._points or done > self._points[-1][1])
        if not complete and moment - self._written < WRITE_EVERY_S:
            return
        self._points.append((moment, done))
        while len(self._points) > 2 and moment - self._points[0][0] > RATE_OVER_S:
            self._points.popleft()
        self._jobs.set_progress(self.job.id, self._measured(phase, done, total))
        self._written = moment

    def _measured(self, phase: str, done: int, total: int) -> Progress:
        since, before = self._points[0]
        elapsed = self._points[-1][0] - since
        rate = (done - before) / elapsed if elapsed > 0 else 0.0
        left = (total - done) / rate if rate > 0 and total >= done > 0 else None
        return Progress(phase, done, total, rate, left)

    def check(self) -> None:
        """Raise when the job was cancelled or the server ends."""
        if self._cancelled:
            raise Cancelled
        if self._stopping.is_set():
            raise ServerStops

    def sleep(self, seconds: float) -> None:
        """Wait; ends at once, raising, when the job is cancelled or the server ends."""
        self.check()
        self._wake.wait(seconds)
        self.check()

    def cancel(self) -> None:
        self._cancelled = True
        self._wake.set()

    def wake(self) -> None:
        """Make a waiting ``sleep`` look again."""
        self._wake.set()


Function = Callable[[JobContext], Mapping[str, Any] | None]


class JobRunner:
    """Runs the jobs of one server."""

    def __init__(self, jobs: Jobs, journal: Journal) -> None:
        self._jobs = jobs
        self._journal = journal
        self._functions: dict[str, Function] = {}
        self._excluded: dict[str, set[str]] = {}
        self._running: dict[str, tuple[threading.Thread, JobContext]] = {}
        self._lock = threading.Lock()
        self._stopping = threading.Event()

    def register(self, kind: str, function: Function, excludes: Collection[str] = ()) -> None:
        """Name the function of a kind, and with which other kinds it can't run on one primary.

        Exclusion works both ways; a kind always excludes itself.
        """
        self._functions[kind] = function
        self._excluded.setdefault(kind, set()).update(excludes)
        for other in excludes:
            self._excluded.setdefault(other, set()).add(kind)

    def submit(
        self,
        kind: str,
        primary: str | None,
        parameters: Mapping[str, Any],
        who: str,
        join: bool = False,
    ) -> Job:
        """Queue and start a job; ``join`` hands back the unfinished one of this kind instead."""
        if kind not in self._functions:
            raise NotfallError("unknown-job", f"This server has no job '{kind}'.", status=500)
        if self._stopping.is_set():
            raise NotfallError(
                "server-stops", "The server is stopping.", "Try again.", retry=True, status=503
            )
        job, new = self._jobs.add(kind, primary, parameters, who, self._excluded[kind], join)
        if new:
            self._start(job)
        return job

    def resume_unfinished(self) -> list[Job]:
        """Run again what the last end of the server left unfinished."""
        unfinished = self._jobs.unfinished()
        for job in unfinished:
            if job.kind in self._functions:
                log.info("job %s (%s) goes on", job.id, job.kind)
                self._start(job)
            else:
                error = NotfallError("unknown-job", f"This server has no job '{job.kind}'.")
                self._jobs.finish(job.id, "failed", error=error)
        return unfinished

    def cancel(self, job_id: str, who: str) -> Job:
        """Ask a job to end; it is over when its function has cleaned up."""
        job = self._jobs.find(job_id)
        if job.finished:
            raise NotfallError(
                "job-finished", f"The job {job_id} is already over ({job.state}).", status=409
            )
        job = self._jobs.ask_cancel(job_id)
        self._journal.write(job.primary, "job-cancelled", who, details={"job": job.id})
        with self._lock:
            running = self._running.get(job_id)
        if running:
            running[1].cancel()
        return job

    def wait(self, job_id: str, timeout: float) -> Job:
        """Wait until a job is over, at most ``timeout`` seconds; returns it as it is then."""
        with self._lock:
            running = self._running.get(job_id)
        if running:
            running[0].join(timeout)
        return self._jobs.find(job_id)

    def stop(self, timeout: float = 20) -> None:
        """End all jobs' threads in order; the jobs stay unfinished for the next start."""
        self._stopping.set()
        with self._lock:
            running = list(self._running.values())
        for _, context in running:
            context.wake()
        until = time.monotonic() + timeout
        for thread, context in running:
            thread.join(max(0.0, until - time.monotonic()))
            if thread.is_alive():
                log.warning("job %s doesn't end; it goes on at the next start", context.job.id)

    def _start(self, job: Job) -> None:
        context = JobContext(job, self._jobs, self._stopping)
        thread = threading.Thread(
            target=self._run, args=(context,), name=f"{job.kind}-{job.id}", daemon=True
        )
        with self._lock:
            self._running[job.id] = (thread, context)
            thread.start()

    def _run(self, context: JobContext) -> None:
        job = context.job
        try:
            context.job = self._jobs.begin(job.id)
            result = self._functions[job.kind](context)
            self._finish(job.id, "done", result)
        except ServerStops:
            log.info("job %s (%s) goes on at the next start", job.id, job.kind)
        except Cancelled:
            self._finish(job.id, "cancelled")
        except NotfallError as error:
            log.warning("job %s (%s) failed: %s", job.id, job.kind, error)
            self._finish(job.id, "failed", error=error)
        except Exception as error:
            log.exception("job %s (%s) failed unexpectedly", job.id, job.kind)
            told = NotfallError(
                "internal",
                f"An unexpected failure: {type(error).__name__}: {error}",
                "See the server's log.",
                status=500,
            )
            self._finish(job.id, "failed", error=told)
        finally:
            with self._lock:
                self._running.pop(job.id, None)

    def _finish(
        self,
        job_id: str,
        state: str,
        result: Mapping[str, Any] | None = None,
        error: NotfallError | None = None,
    ) -> None:
        """On a full disk the end can't be noted: it is tried until there is room again, as nobody
        could do anything else with a job that never ends."""
        while True:
            try:
                self._jobs.finish(job_id, state, result, error=error)
            except NotfallError as full:
                if full.code != DISK_FULL:
                    raise
                log.error("the end of job %s can't be noted yet: %s", job_id, full)
            else:
                return
            if self._stopping.wait(FULL_AGAIN_S):
                log.info("job %s is run again at the next start", job_id)
                return
