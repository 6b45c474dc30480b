"""A person who brings a server back is not turned away for what the server does of itself."""

from __future__ import annotations

from pathlib import Path

from notfall_lab.dryrun.house import dry_house
from notfall_lab.patience import until


def test_a_recovery_ends_the_capture_that_is_under_way(tmp_path: Path) -> None:
    with dry_house(tmp_path / "house", 1) as dry:
        uuid = dry.add("shop", "shop")
        catalogue, runner = dry.house.catalogue, dry.house.runner
        for before, after in (("normal", "activating"), ("activating", "emergency")):
            catalogue.primaries.move(uuid, before, after, "test", "test")
        target = dry.boot("new-bios")
        capture = runner.submit("capture", uuid, {}, "schedule")
        until(lambda: catalogue.jobs.find(capture.id).progress.phase == "reading what changed")
        try:
            plan = dry.conductor.plan_recovery(uuid, target.code, None)
            job = dry.conductor.recover(uuid, target.code, None, plan.digest, "anna")
            assert catalogue.jobs.find(capture.id).state == "cancelled"
            assert not catalogue.jobs.find(job.id).finished
            assert catalogue.primaries.find(uuid).state == "recovering"
        finally:
            dry.world.ended.set()
            runner.stop()
            target.join(10)
