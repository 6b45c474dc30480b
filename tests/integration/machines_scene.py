"""A real server with a real libvirt of its own and the real rescue medium."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import mkdtemp

from server_process import ServerProcess

from notfall_lab.cache import base_directory
from notfall_lab.own_lab import own_lab
from notfallserver.server.rescue_medium import build_medium


@contextmanager
def server_with_machines(name: str, net: int) -> Iterator[ServerProcess]:
    """``name`` and ``net`` of its lab; its directory is short, because sockets lie below it."""
    folder = Path(mkdtemp(prefix="nfm-"))
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        uri = f"qemu+unix:///system?socket={folder}/lab/run/libvirt-sock"
        (folder / "server").mkdir()
        server = ServerProcess(folder / "server", {"libvirt_uri": uri, "accelerator": "tcg"})
        server.set_up()
        build_medium(server.data / "rescue", [server.url], server.ca, base_directory() / "rescue")
        stack.callback(server.put_away)
        server.start()  # before the lab: so its pool is mounted there as well
        (folder / "lab").mkdir()
        stack.enter_context(own_lab(name, folder / "lab", net=net))
        stack.callback(server.stop)
        yield server
