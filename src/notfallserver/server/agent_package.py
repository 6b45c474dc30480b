"""agent.pyz: the agent as one file that any Python >= 3.9 runs.

The same sources give the same bytes, so an agent can tell by the hash whether it is up to date.
"""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import notfallserver

ROOMS = ("wire", "agent")
_START = b"""import runpy
runpy.run_module("notfallserver.agent.main", run_name="__main__", alter_sys=True)
"""
_THEN = (2000, 1, 1, 0, 0, 0)


def pack_agent() -> bytes:
    """The agent's program as the bytes of a zip that starts itself."""
    root = Path(notfallserver.__file__).parent
    files = [root / "__init__.py"]
    for room in ROOMS:
        files += sorted(path for path in (root / room).rglob("*.py"))
    packed = io.BytesIO(b"#!/usr/bin/env python3\n")
    packed.seek(0, io.SEEK_END)
    with zipfile.ZipFile(packed, "a", zipfile.ZIP_DEFLATED) as package:
        _add(package, "__main__.py", _START)
        for path in files:
            name = f"notfallserver/{path.relative_to(root).as_posix()}"
            _add(package, name, path.read_bytes())
    return packed.getvalue()


def _add(package: zipfile.ZipFile, name: str, content: bytes) -> None:
    info = zipfile.ZipInfo(name, _THEN)
    info.create_system = 3  # the same bytes wherever it is packed
    info.external_attr = 0o644 << 16
    info.compress_type = zipfile.ZIP_DEFLATED
    package.writestr(info, content)
