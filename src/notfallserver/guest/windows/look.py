"""What the Windows of an image says of its machine, for images that no agent describes.

Writes nothing: the registry is made whole in a folder outside the image.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Dict, Sequence

from notfallserver.guest.facts import Volume
from notfallserver.guest.windows.adapt import read_system
from notfallserver.guest.windows.facts import WindowsSystem
from notfallserver.guest.windows.mounts import mounted_windows


def look_windows(
    windows: Volume, volumes: Sequence[Volume], disks: Sequence[str]
) -> Dict[str, Any]:
    """In the words of a machine's description (``wire.facts``)."""
    with (
        mounted_windows(windows, volumes, disks, writable=False) as mounted,
        TemporaryDirectory(prefix="hives-") as folder,
    ):
        return describe_windows(read_system(mounted, Path(folder)))


def describe_windows(system: WindowsSystem) -> Dict[str, Any]:
    """Which card an address was on is not told by the registry: each interface counts as a card."""
    connections = [one for one in system.interfaces if one.addresses]
    gateways = [gate for one in connections for gate in one.gateways if ":" not in gate]
    return {
        "hostname": system.hostname,
        "system": system.name if system.name.startswith("Windows") else f"Windows {system.name}",
        "kernel": ".".join(str(one) for one in (*system.version, system.build)),
        "gateway": (gateways or [""])[0],
        "nics": [
            {"name": f"Ethernet {number}", "mac": "", "addresses": list(one.addresses)}
            for number, one in enumerate(connections, 1)
        ],
        "disks": "",
    }
