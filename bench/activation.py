"""Activation's own part: from the order to the stand-in's first instruction, without the boot.

``python -m bench.activation`` (as root) adds its figures to ``bench/results.json``. A real server
with a real libvirt on a LAN of its own has copies of small guests whose disk is enlarged by holes:
of 1 GiB, and of 4 TiB. Each is ordered to start on its own, and switched off as soon as it runs, so
that its boot disturbs nobody. Then a start plan has eight at once start (1 GiB each): counted is
from the order of the plan to the first instruction of the last of them, while the first ones boot.
The guard's question, which takes most of it, is part of it.
"""

from __future__ import annotations

import shutil
import sys
from datetime import datetime
from pathlib import Path

from bench.figures import Sheet
from bench.machine import cold, describe
from notfall_lab.hypervisor import Lab
from notfall_lab.patience import until
from notfall_lab.small_company import SmallCompany, small_company
from notfallserver.server.cycle.standin import machine_name
from notfallserver.server.records.jobs import Job

ROOT = Path(__file__).parents[1]
WORK = ROOT / "build" / "activation"
GIB, TIB = 1 << 30, 1 << 40
SIZES = {"1gib": GIB, "4tib": 4 * TIB}
TIMES, AT_ONCE = 5, 8


def fill(company: SmallCompany) -> None:
    """All copies share one small disk: none of them comes so far as to be asked for its name."""
    built = WORK / "disk"
    built.mkdir()
    disk = company.next_guest("small").make_disk(built)
    for name, size in SIZES.items():
        for number in range(TIMES):
            company.add(f"{name}-{number}", disk, size)
    for turn in range(TIMES):
        for number in range(AT_ONCE):
            company.add(f"turn{turn}-{number}", disk, GIB)


def started(company: SmallCompany, name: str) -> Job | None:
    """Its activation, when the machine runs."""
    with company.catalogue() as catalogue:
        for job in catalogue.jobs.newest(company.uuids[name], "activate", limit=1):
            if job.finished and "own_s" not in job.notes:
                raise RuntimeError(f"{name} did not start: {job.error}")
            return job if "own_s" in job.notes else None
    return None


def put_off(company: SmallCompany, name: str) -> None:
    """Its activation fails, and clears away what it had made."""
    hypervisor = company.hypervisor()
    hypervisor.kill(machine_name(company.uuids[name]))
    hypervisor.close()

    def over() -> bool:
        job = started(company, name)
        return job is not None and job.finished

    until(over)


def alone(company: SmallCompany, name: str) -> float:
    cold()
    company.notfall("activate", name, "--no-follow")
    until(lambda: started(company, name) is not None)
    job = started(company, name)
    put_off(company, name)
    return float(job.notes["own_s"]) if job else 0.0


def together(company: SmallCompany, names: list[str]) -> float:
    """Seconds from the order of the plan until the last one's machine runs."""
    cold()
    company.notfall("plan", "order", "+".join(names))
    plan = company.ask("plan", "start", *names, "--yes", "--no-follow")
    until(lambda: all(started(company, one) for one in names), 300)
    with company.catalogue() as catalogue:
        ordered = catalogue.jobs.find(plan["id"]).created_at
    jobs = [job for one in names if (job := started(company, one))]
    ends = [
        (datetime.fromisoformat(one.parameters["asked_at"]) - ordered).total_seconds()
        + float(one.notes["own_s"])
        for one in jobs
    ]
    for name in names:
        put_off(company, name)
    until(lambda: company.ask("plan", "show")["run"]["job"]["finished_at"])
    return max(ends)


def main() -> int:
    shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir(parents=True)
    sheet = Sheet("activation")
    lab = Lab("bact", WORK / "lab", net=219)
    try:
        with small_company(WORK / "server", lab) as company:
            fill(company)
            company.start()
            for name in SIZES:
                own = [alone(company, f"{name}-{number}") for number in range(TIMES)]
                sheet.add(f"activation_own_s_{name}", own, "s")
            turns = [
                together(company, [f"turn{turn}-{number}" for number in range(AT_ONCE)])
                for turn in range(TIMES)
            ]
            sheet.add("activation_own_s_8_at_once", turns, "s")
    finally:
        shutil.rmtree(WORK, ignore_errors=True)
    sheet.write(describe())
    return 0


if __name__ == "__main__":
    sys.exit(main())
