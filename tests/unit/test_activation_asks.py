"""The guard before an activation: asked about several at once, and again about one that spoke."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from notfall_lab.dryrun.house import DryHouse, dry_house
from notfallserver.server.cycle.outage.guard import Verdict
from notfallserver.wire.errors import NotfallError


def end(dry: DryHouse) -> None:
    dry.world.ended.set()
    dry.house.runner.stop()


def test_two_are_asked_about_at_the_same_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with dry_house(tmp_path / "house", 20) as dry:
        uuids = [dry.add(name, "shop") for name in ("shop", "erp")]
        both = threading.Barrier(2, timeout=5)
        examine = dry.conductor.examine

        def meet(primary: str, **how: Any) -> Verdict:
            both.wait()
            return examine(primary, **how)

        for uuid in uuids:
            dry.world.die(uuid)
        monkeypatch.setattr(dry.conductor, "examine", meet)
        try:
            with ThreadPoolExecutor(2) as threads:
                jobs = threads.map(lambda uuid: dry.conductor.activate(uuid, "anna"), uuids)
                assert {job.primary for job in jobs} == set(uuids)
        finally:
            end(dry)


def test_who_speaks_while_others_are_started_is_not_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the guard's answer and the start another one's start may be in the way."""
    with dry_house(tmp_path / "house", 20) as dry:
        uuid = dry.add("shop", "shop")
        dry.world.die(uuid)
        examine = dry.conductor.examine
        asked: list[bool] = []

        def then_it_comes_back(primary: str, **how: Any) -> Verdict:
            verdict = examine(primary, **how)
            asked.append(verdict.allowed)
            if len(asked) == 1:
                dry.world.come_back(uuid)
                dry.house.catalogue.primaries.saw_agent(uuid, "b", "primary", "0")
            return verdict

        monkeypatch.setattr(dry.conductor, "examine", then_it_comes_back)
        try:
            with pytest.raises(NotfallError) as caught:
                dry.conductor.activate(uuid, "anna")
            assert caught.value.code == "guard-alive" and asked == [True, False]
            assert dry.house.catalogue.primaries.find(uuid).state == "normal"
        finally:
            end(dry)
