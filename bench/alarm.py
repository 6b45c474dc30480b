"""Which attacks the ransomware alarm notices, and what it wrongly takes for one.

Real filesystems with a company's files, the real agent and pool; after each day a copy is made and
judged. Each kind of attack meets a fresh company after two quiet days: with the agent's watched
files on ext4 and XFS, and with blocks alone (as of a stand-in) on ext4. Then a week of ordinary
work with real Debian packages, and work that looks like an attack to blocks.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import cast
from unittest.mock import patch

from bench.figures import Sheet
from bench.machine import describe
from notfallserver.server.records.primaries import Primary

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT / "tests" / "integration"))  # the scene is that of the tests

from alarm_scene import Company, company  # noqa: E402

from notfall_lab import ransom  # noqa: E402

WORK = ROOT / "build" / "bench-alarm"
COMPANY_MIB = 60
DISK_MIB = 700
MOST_DAYS = 12
PACKAGES = ("bash", "coreutils", "curl", "gcc-12", "perl-base", "python3.11-minimal", "openssl")
SLOW = {
    "in place, 10 % a day": (10, ransom.in_place),
    "in place, 3 % a day": (33, ransom.in_place),
    "new file .locked, 3 % a day": (33, ransom.by_openssl),
}
COLUMNS = {"ext4": ("ext4", True), "xfs": ("xfs", True), "blocks": ("ext4", False)}


ROW = cast(Primary, SimpleNamespace(uuid="bench", name="bench", newest_version="x"))


def slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")


def fresh() -> Path:
    shutil.rmtree(WORK / "scene", ignore_errors=True)
    return WORK / "scene"


def quiet_days(scene: Company) -> None:
    ransom.make_company(scene.place, COMPANY_MIB)
    scene.day()
    dice = random.Random(3)
    for _ in range(2):
        ransom.write_log(scene.place / "var" / "journal" / "app.log", dice, 1 << 20)
        scene.day()


def meet(column: str, attack: Callable[[Company, int], bool]) -> tuple[int, bool, float]:
    """In how many copies it was noticed (0: in none), whether the right version is held, and the
    longest time that a comparison took. ``attack`` does a day's part; False when all is done."""
    kind, watching = COLUMNS[column]
    longest = 0.0
    with ExitStack() as cleanup:
        if not watching:
            cleanup.enter_context(patch("notfallserver.agent.run.look_at_files", lambda _: []))
        scene = cleanup.enter_context(company(fresh(), DISK_MIB, kind))
        quiet_days(scene)
        held = scene.newest
        for day in range(1, MOST_DAYS + 1):
            goes_on = attack(scene, day)
            longest = max(longest, scene.day().seconds)
            if scene.alarm is not None:
                return day, scene.alarm.clean == held, longest
            if not goes_on:
                break
    return 0, False, longest


def at_once(way: Callable[[Sequence[Path]], None]) -> Callable[[Company, int], bool]:
    def attack(scene: Company, _: int) -> bool:
        way(ransom.victims(scene.place))
        return False

    return attack


def once(work: Callable[[Company], None]) -> Callable[[Company, int], bool]:
    def attack(scene: Company, _: int) -> bool:
        work(scene)
        return False

    return attack


def slowly(parts: int, way: Callable[[Sequence[Path]], None]) -> Callable[[Company, int], bool]:
    chosen: list[Path] = []

    def attack(scene: Company, day: int) -> bool:
        if day == 1:
            chosen.extend(ransom.victims(scene.place))
        way(chosen[day - 1 :: parts])
        return True

    return attack


def ordinary(kind: str, packages: Sequence[Path]) -> dict[str, bool]:
    """By day whether there was a false alarm."""
    found = {}
    with company(fresh(), 1000, kind) as scene:
        quiet_days(scene)
        for name, work in ransom.Week(scene.place, packages).days:
            work()
            scene.day()
            found[name] = scene.alarm is not None
            if scene.alarm is not None:
                scene.alarms.clear(ROW, "it was work", "bench")
    return found


def hard_cases() -> dict[str, Callable[[Company], None]]:
    """Ordinary work that leaves random bytes, or new names."""

    def encrypted_backup(scene: Company) -> None:
        content = b"".join(one.read_bytes() for one in ransom.victims(scene.place / "home"))
        (scene.place / "backup.gpg").write_bytes(ransom.scramble(content))

    def repository(scene: Company) -> None:
        dice = random.Random(5)
        for _ in range(400):
            name = dice.randbytes(32).hex()
            pack = scene.place / "srv" / "repository" / name[:2] / name
            pack.parent.mkdir(parents=True, exist_ok=True)
            pack.write_bytes(dice.randbytes(50000))

    def instead(scene: Company) -> None:
        files = ransom.victims(scene.place / "srv")
        encrypted_backup(scene)
        for one in files:
            one.unlink()

    def archived(scene: Company) -> None:
        photos = scene.place / "srv" / "photos"
        subprocess.run(["tar", "-cJf", scene.place / "photos.tar.xz", photos], check=True)
        shutil.rmtree(photos)

    def named(scene: Company) -> None:
        for one in ransom.victims(scene.place / "home"):
            one.rename(one.with_suffix(".bak"))

    def converted(scene: Company) -> None:
        for one in ransom.victims(scene.place / "home"):
            one.with_suffix(".zip").write_bytes(ransom.office(one.read_bytes()))
            one.unlink()

    return {
        "an encrypted backup is added": encrypted_backup,
        "a new backup repository (encrypted packs)": repository,
        "an encrypted backup replaces what it holds": instead,
        "all photos archived by tar.xz, then removed": archived,
        "all documents renamed to .bak": named,
        "all documents converted to another format": converted,
    }


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.alarm", description=__doc__)
    parser.add_argument("--only", default="", help="what has this in its name, and no week")
    given = parser.parse_args()
    if os.geteuid():
        print("The benchmark needs root (loop devices, mounts).", file=sys.stderr)
        return 1
    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(143))
    sheet = Sheet("alarm")
    seconds = []
    attacks = {name: at_once(way) for name, way in ransom.ATTACKS.items()}
    for column in COLUMNS:
        slow = {name: slowly(*how) for name, how in SLOW.items()}
        for name, attack in {**attacks, **slow}.items():
            if given.only not in name:
                continue
            day, right, longest = meet(column, attack)
            seconds.append(longest)
            sheet.add(f"alarm_{column}_{slug(name)}", [day], "copy")
            if day:
                sheet.add(f"alarm_held_{column}_{slug(name)}", [int(right)], "yes")
    if not given.only:
        a_week(sheet)
        sheet.add("alarm_comparison_s", seconds, "s")
    for name, work in hard_cases().items():
        for column in COLUMNS if given.only in name else ():
            day, _, _ = meet(column, once(work))
            sheet.add(f"alarm_hard_{column}_{slug(name)}", [day], "alarms")
    sheet.write(describe())
    return 0


def a_week(sheet: Sheet) -> None:
    packages = download()
    for kind in ("ext4", "xfs"):
        for name, false in ordinary(kind, packages).items():
            sheet.add(f"alarm_week_{kind}_{slug(name)}", [int(false)], "alarms")


def download() -> list[Path]:
    """Real packages, from the machine's own sources."""
    place = WORK / "packages"
    place.mkdir(parents=True, exist_ok=True)
    for one in PACKAGES:
        if not list(place.glob(f"{one}_*.deb")):
            subprocess.run(["apt-get", "download", one], cwd=place, check=False)
    return sorted(place.glob("*.deb"))


if __name__ == "__main__":
    sys.exit(main())
