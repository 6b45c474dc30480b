"""What a sample of files is, on each system: its bounds, and how a file is told with a version."""

from __future__ import annotations

from typing import Any, Dict

FILES = 20
LARGEST = 1 << 20
AT_REST_S = 86400.0
"""Nobody has changed a file for so long."""
WITHIN_S = 3.0


def told(filesystem: str, inside: str, size: int, sha256: str) -> Dict[str, Any]:
    """``filesystem`` is its UUID as blkid tells it, ``inside`` the path from its own root."""
    return {"filesystem": filesystem, "path": inside, "size": size, "sha256": sha256}
