"""Files of a version: its volumes appear read-only in a directory, and ``cp`` works.

The disks are cloned, the appliance mounts the clones and serves SFTP over a virtio-serial port,
sshfs presents that in the directory. The server's kernel never reads a guest's filesystem. When the
directory is unmounted, sshfs ends, the appliance powers off and the clones are deleted.
"""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from hashlib import sha256
from pathlib import Path

from notfallserver.server.cycle.means import Means
from notfallserver.server.host.run import run
from notfallserver.server.pool.store import PrimaryStore
from notfallserver.server.pool.version import Version
from notfallserver.server.rescue_medium import find_medium
from notfallserver.server.vm.appliance import Serving, serving_files
from notfallserver.server.vm.spec import Accelerator
from notfallserver.wire.errors import NotfallError

log = logging.getLogger(__name__)

MOUNT_LIMIT_S = 60.0


class FileAccess:
    """Mounted versions by directory. Thread-safe."""

    def __init__(self, means: Means) -> None:
        self._means = means
        self._lock = threading.Lock()
        self._open: dict[Path, ExitStack] = {}
        self._shown: dict[Path, tuple[str, str]] = {}

    def shown(self, primary: str) -> list[str]:
        """The versions of a primary that are mounted or being mounted."""
        with self._lock:
            return [stamp for uuid, stamp in self._shown.values() if uuid == primary]

    def mount(self, store: PrimaryStore, version: Version, directory: Path) -> None:
        """Returns when the files are there."""
        medium = find_medium(self._means.rescue_dir)
        if medium is None:
            raise NotfallError(
                "no-rescue-medium",
                "The rescue system, which opens images, is not built yet.",
                "Run 'notfall rescue build' first.",
                status=409,
            )
        _refuse_used(directory)
        purpose = f"files-{sha256(str(directory).encode()).hexdigest()[:12]}"
        accelerator = Accelerator(self._means.settings.accelerator)
        sectors = [one.sector for one in version.manifest.machine.disks]
        with ExitStack() as stack:
            stack.enter_context(self._showing(directory, store.uuid, version.stamp))
            clones = stack.enter_context(store.working_clones(version, purpose))
            served = stack.enter_context(
                serving_files(self._means.hypervisor, medium, clones.disks, accelerator, sectors)
            )
            for warning in served.warnings:
                log.warning("files of %s: %s", version.stamp, warning.get("text"))
            process = present(served, directory)
            stack.callback(_end, process, directory)
            with self._lock:
                self._open[directory] = stack.pop_all()
        threading.Thread(
            target=self._clean_up_after, args=(process, directory), daemon=True
        ).start()

    @contextmanager
    def _showing(self, directory: Path, primary: str, stamp: str) -> Iterator[None]:
        with self._lock:
            self._shown[directory] = (primary, stamp)
        try:
            yield
        finally:
            with self._lock:
                self._shown.pop(directory, None)

    def unmount(self, directory: Path) -> None:
        """End the access; an unknown directory is one from before a restart of the server."""
        with self._lock:
            stack = self._open.pop(directory, None)
        if stack is not None:
            stack.close()
        elif os.path.ismount(directory):
            run(["fusermount3", "-u", directory])
        else:
            raise NotfallError(
                "not-mounted", f"No version is shown at {directory}.", "Check the path.", status=404
            )

    def close(self) -> None:
        """End all; at the server's own end."""
        with self._lock:
            stacks, self._open = list(self._open.values()), {}
        for stack in stacks:
            stack.close()

    def _clean_up_after(self, process: subprocess.Popen[bytes], directory: Path) -> None:
        """Somebody may unmount with umount(8): then appliance and clones go too."""
        process.wait()
        with self._lock:
            stack = self._open.pop(directory, None)
        if stack is not None:
            stack.close()


def present(served: Serving, directory: Path) -> subprocess.Popen[bytes]:
    """Start sshfs on the appliance's socket; returns when the directory shows the volumes."""
    directory.mkdir(parents=True, exist_ok=True)
    with socket.socket(socket.AF_UNIX) as line:
        line.connect(str(served.socket))
        # stays in the foreground as our child: its end is how we hear of an unmount
        process = subprocess.Popen(
            [
                "sshfs",
                "-f",
                "-o",
                "passive,ro,fsname=notfallserver",
                "appliance:/volumes",
                directory,
            ],
            stdin=line.fileno(),
            stdout=line.fileno(),
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    until = time.monotonic() + MOUNT_LIMIT_S
    while not os.path.ismount(directory):
        if process.poll() is not None or time.monotonic() > until:
            process.kill()
            process.wait()
            raise NotfallError(
                "files-not-shown",
                f"The files could not be shown at {directory}.",
                "Install sshfs and check that the directory is empty and yours.",
                status=500,
            )
        time.sleep(0.05)
    return process


def _end(process: subprocess.Popen[bytes], directory: Path) -> None:
    if os.path.ismount(directory):
        run(["fusermount3", "-u", "-z", directory], ok=(0, 1))
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _refuse_used(directory: Path) -> None:
    if os.path.ismount(directory) or (directory.exists() and any(directory.iterdir())):
        raise NotfallError(
            "directory-used", f"{directory} is not empty.", "Name an empty or new directory."
        )
