"""The whole cycle as `make demo` plays it, with both kinds of firmware."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from notfall_lab.cycle import Play, TargetSpec, play_all
from notfall_lab.recipe_guest import BIOS, UEFI, Recipe
from notfall_lab.timeline import Timeline
from notfall_lab.world import World

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.timeout(3000),
]


@pytest.fixture
def directory() -> Iterator[Path]:
    """Short enough for sockets, gone afterwards: it holds gigabytes."""
    path = Path(tempfile.mkdtemp(prefix="nf-e2e-", dir="/var/tmp"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.mark.parametrize(
    ("recipe", "bus"), [(BIOS, "nvme"), (UEFI, "sata")], ids=["bios-nvme", "uefi-sata"]
)
def test_a_primary_dies_and_comes_back(recipe: Recipe, bus: str, directory: Path) -> None:
    timeline = Timeline(f"{recipe.firmware} to {bus}")
    with World("cycle", directory) as world:
        play_all(Play(world, recipe, timeline, TargetSpec(bus=bus)))
        assert timeline.finish() == 0, timeline.failed
