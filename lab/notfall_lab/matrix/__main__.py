"""``python -m notfall_lab.matrix [PATTERN ...]``: try the cases, keep the results, write the table.

A case that booted with the same image and code is not tried again (``--again`` does).
"""

from __future__ import annotations

import argparse
import shutil
import sys
import traceback
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from fnmatch import fnmatch
from importlib.metadata import version
from pathlib import Path
from tempfile import mkdtemp
from threading import Lock

from notfall_lab.cache import base_directory
from notfall_lab.matrix.case import Case
from notfall_lab.matrix.cases import CASES
from notfall_lab.matrix.results import Results, case_key, is_well, load
from notfall_lab.matrix.table import write_table
from notfall_lab.matrix.trial import Bench, Outcome
from notfall_lab.own_lab import own_lab
from notfall_lab.router import dhcp
from notfallserver.server.host.mount import unmount_image
from notfallserver.server.pool.setup import prepare_pool
from notfallserver.server.pool.store import Pool
from notfallserver.server.rescue_medium import build_medium

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs/compatibility.md"
RESULTS = ROOT / "build/matrix/results.json"
FIRST_HOST = 20
NET = 8
POOL = 16 << 30
"""Bytes; only what is in it takes room."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="matrix")
    parser.add_argument("patterns", nargs="*", help="names of cases, with * (default: all)")
    parser.add_argument("--again", action="store_true", help="also what booted already")
    parser.add_argument("--jobs", type=int, default=1, help="how many at a time")
    parser.add_argument("--list", action="store_true", help="only name the cases")
    given = parser.parse_args()
    chosen = [one for one in CASES if any(fnmatch(one.name, p) for p in given.patterns or ["*"])]
    if not chosen:
        parser.error(f"no case is called {' or '.join(given.patterns)}; --list names them all")
    if given.list:
        print("\n".join(one.name for one in chosen))
        return 0
    results = load(RESULTS)
    left = [one for one in chosen if given.again or not results.is_current(one)]
    print(f"{len(chosen)} cases, {len(left)} to try", flush=True)
    if left:
        _try_all(left, results, given.jobs)
    write_table(PAGE, CASES, results.cases)
    bad = [one.name for one in chosen if not is_well(one, results.cases[one.name])]
    print(f"{len(chosen) - len(bad)} of {len(chosen)} are as they must be. {' '.join(bad)}")
    return 1 if bad else 0


def _try_all(cases: list[Case], results: Results, jobs: int) -> None:
    folder = Path(mkdtemp(prefix="nfl-", dir="/var/tmp"))
    pool_folder = Path(mkdtemp(prefix="nfp-", dir="/var/tmp"))
    lock = Lock()
    try:
        # before the lab, which sees only what is mounted by then
        place = prepare_pool(pool_folder / "pool", pool_folder / "pool.img", POOL)
        with own_lab("matrix", folder, net=NET) as lab, dhcp(lab.network):
            medium = build_medium(
                folder / "medium", ["https://127.0.0.1:1"], "", base_directory() / "rescue"
            )
            versions = Pool(place.directory)
            bench = Bench(lab, medium, versions, RESULTS.parent / "consoles")

            def attempt(case: Case) -> None:
                key = case_key(case)
                try:
                    outcome = bench.attempt(case, FIRST_HOST + CASES.index(case))
                except Exception as error:  # one broken case must not end the others
                    traceback.print_exc()
                    outcome = Outcome(error=f"{type(error).__name__}: {str(error)[-600:]}")
                told = {
                    **outcome.to_json(),
                    "key": key,
                    "date": datetime.now(UTC).strftime("%Y-%m-%d"),
                    "version": version("notfallserver"),
                }
                with lock:
                    results.note(case.name, told)
                    word = "boots" if outcome.boots else outcome.error
                    word = word if is_well(case, told) else f"DOES NOT BOOT: {word}"
                    times = f"adapted in {outcome.adapt_s} s, up in {outcome.boot_s} s"
                    print(f"{case.name}: {word} ({times})", flush=True)

            with ThreadPoolExecutor(jobs) as pool:
                list(pool.map(attempt, cases))
    finally:
        unmount_image(pool_folder / "pool")
        for one in (folder, pool_folder):
            shutil.rmtree(one, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
