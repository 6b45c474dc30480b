"""Imports point one way. Counts every import, also those inside functions and TYPE_CHECKING."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src"
ROOT = "notfallserver"

# A room may import itself and the rooms named here, nothing else of the project.
ALLOWED = {
    "wire": set(),
    "agent": {"wire"},
    "guest": {"wire"},
    "rescue": {"wire", "guest"},
    "server.host": {"wire"},
    "server.settings": {"wire"},
    "server.addresses": {"wire", "server.host", "server.settings"},
    "server.authority": {"wire", "server.host"},
    "server.agent_package": {"wire"},
    "server.records": {"wire", "server.host"},
    "server.pool": {"wire", "server.host"},
    "server.ready_pool": {"server.pool", "server.settings"},
    "server.vm": {"wire", "server.host"},
    "server.fence": {"wire", "server.host"},
    "server.foreign": {"wire", "server.host"},
    "server.media": {"wire", "server.host", "server.pool"},
    "server.offload": {"wire", "server.host", "server.pool"},
    "server.rescue_medium": {"wire", "guest", "rescue", "server.host"},
    "server.cycle": {
        "wire",
        "guest",
        "server.host",
        "server.records",
        "server.pool",
        "server.vm",
        "server.fence",
        "server.foreign",
        "server.media",
        "server.offload",
        "server.settings",
        "server.rescue_medium",
    },
    "server.health": {
        "wire",
        "server.records",
        "server.authority",
        "server.cycle",
        "server.offload",
        "server.rescue_medium",
    },
    "server.report": {
        "wire",
        "server.host",
        "server.records",
        "server.pool",
        "server.authority",
        "server.cycle",
        "server.health",
    },
    "server.metrics": {
        "wire",
        "server.records",
        "server.pool",
        "server.cycle",
        "server.health",
    },
    "server.tell": {"wire", "server.host", "server.records"},
}
LOW = {room for room in ALLOWED if room.startswith("server.")} | {"wire", "guest"}
ALLOWED["server.house"] = LOW
ALLOWED["server.web"] = LOW | {"server.house"}
ALLOWED["server.main"] = ALLOWED["server.web"] | {"server.web"}
ALLOWED["server.cli"] = ALLOWED["server.main"] | {"server.main"}

STDLIB_ONLY = {"wire", "agent", "guest", "rescue"}
OPTIONAL = {"zstandard", "hivex"}
PHASES = {
    "normal",
    "outage",
    "activation",
    "emergency",
    "recovery",
    "rehearsal",
    "handover",
    "offloads",
}


def room_of(module: str) -> str:
    parts = module.split(".")[1:]
    if not parts:
        return ""
    return ".".join(parts[:2]) if parts[0] == "server" and len(parts) > 1 else parts[0]


def imports_of(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {one.name for one in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found.add(node.module or "")
            found |= {f"{node.module}.{one.name}" for one in node.names}
    return found


def modules() -> list[Path]:
    return sorted((SOURCE / ROOT).rglob("*.py"))


def name_of(path: Path) -> str:
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_imports_point_one_way(path: Path) -> None:
    room = room_of(name_of(path))
    ours = {one for one in imports_of(path) if one.split(".")[0] == ROOT}
    reached = {room_of(one) for one in ours} - {room, "", "VERSION", "server"}
    assert reached <= ALLOWED.get(room, set()), f"{room} imports {reached}"


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_travelling_rooms_use_the_standard_library_only(path: Path) -> None:
    if room_of(name_of(path)) not in STDLIB_ONLY:
        return
    foreign = {one.split(".")[0] for one in imports_of(path)} - {ROOT} - OPTIONAL
    assert foreign <= set(sys.stdlib_module_names), foreign


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_phases_do_not_import_each_other(path: Path) -> None:
    parts = name_of(path).split(".")
    if parts[1:3] != ["server", "cycle"] or len(parts) < 4 or parts[3] not in PHASES:
        return
    others = {
        one.split(".")[3]
        for one in imports_of(path)
        if one.startswith("notfallserver.server.cycle.") and len(one.split(".")) > 3
    }
    assert not (others & PHASES) - {parts[3]}
    assert "conductor" not in others


def test_modules_stay_small() -> None:
    long = [name_of(one) for one in modules() if len(one.read_text().splitlines()) > 500]
    assert long == []
