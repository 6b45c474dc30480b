"""What became of the cases, kept over runs: ``build/matrix/results.json``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import notfall_lab
import notfallserver
from notfall_lab.cache import key_of
from notfall_lab.matrix.case import Case
from notfall_lab.matrix.trees import tree_key

_LAB = Path(notfall_lab.__file__).parent
_PRODUCT = Path(notfallserver.__file__).parent
_MADE_BY = ("assemble", "boot", "initramfs", "layers", "layout", "networks", "proof", "trial")


def case_key(case: Case) -> str:
    """The same as long as image, adaptation and proof are the same."""
    sources = [_LAB / "matrix" / f"{one}.py" for one in _MADE_BY]
    sources += [_LAB / "matrix/proof.sh", _LAB / "kernel_guest/matrix_layers.py"]
    sources += [_LAB / "machine.py", _PRODUCT / "rescue/appliance.py"]
    sources += sorted((_PRODUCT / "guest").glob("*.py"))
    if case.onto:
        sources += [_LAB / "matrix/recover.py", _LAB / "kernel_guest/start-target.sh"]
        sources += [_LAB / "kernel_guest/target_work.py", _PRODUCT / "server/pool/reshaped.py"]
        sources += sorted((_PRODUCT / "rescue").glob("*.py"))
        sources += sorted((_PRODUCT / "server/cycle/recovery").glob("*.py"))
    return key_of(repr(case), tree_key(case.suite, case.tool), *sources)


def is_well(case: Case, told: Mapping[str, Any]) -> bool:
    """It booted, or was refused as it must be."""
    return bool(told.get("refused") == case.refused if case.refused else told.get("boots"))


@dataclass
class Results:
    """By name of the case."""

    path: Path
    cases: dict[str, dict[str, Any]]

    def is_current(self, case: Case) -> bool:
        """Whether all was well with just this code, so that it need not be tried again."""
        known = self.cases.get(case.name, {})
        return is_well(case, known) and known.get("key") == case_key(case)

    def note(self, name: str, told: dict[str, Any]) -> None:
        self.cases[name] = told
        self.path.parent.mkdir(parents=True, exist_ok=True)
        part = self.path.with_suffix(".part")
        part.write_text(json.dumps(self.cases, indent=1, sort_keys=True) + "\n")
        part.replace(self.path)


def load(path: Path) -> Results:
    try:
        return Results(path, json.loads(path.read_text()))
    except (OSError, ValueError):
        return Results(path, {})
