"""Runs in the rescue system: does what a target does after it has written a version to its disks.

The job names the original, the machine that this shall be, and whether to grow; the answer is the
report that the server would get. Part of the lab only.
"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from notfallserver.rescue.appliance import Answer, disks_by_serial, image_disks, log, read_job
from notfallserver.rescue.probe import bare_disk
from notfallserver.rescue.work import Work
from notfallserver.wire.client import Client
from notfallserver.wire.facts import Machine, read_machine


def nobody() -> Client:
    raise RuntimeError("there is no server here")


def adapted() -> dict[str, Any]:
    found = disks_by_serial()
    job = read_job(found["notfall-job"])
    known = [bare_disk(Path(one).name) for one in image_disks(found)]
    told = read_machine(job["here"])
    named = [replace(one, name=disk.name) for one, disk in zip(told.disks, known, strict=True)]
    here: Machine = replace(told, disks=named)
    disks = [
        {"index": at, "name": one.name, "serial": one.serial, "size": one.size}
        for at, one in enumerate(known)
    ]
    work = Work(nobody, lambda: here, lambda: None)
    work._pulled = {"disks": disks}  # they were written from outside
    order = {"order": "adapt", "recovery": "matrix", "disks": disks, "original": job["original"]}
    work.take({**order, "grow": True} if job["grow"] else order)
    while work.busy:
        time.sleep(0.2)
    return work.report()


def main() -> None:
    try:
        told = {"ok": True, "report": adapted()}
    except Exception as error:  # the answer is the only way anybody hears of it
        log(f"{type(error).__name__}: {error}")
        told = {"ok": True, "report": {"state": "failed", "error": {"cause": repr(error)}}}
    Answer().give(told)


main()
