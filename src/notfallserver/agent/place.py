"""Where an agent keeps what lasts until the next boot: ``/run/notfall-agent/KEY``.

KEY stands for the directory of its configuration, so that several agents on one machine share
nothing. One agent that replicates to two servers has a place for each, and shares only what belongs
to the frozen moment (``frozen``, ``applications``, ``stopped``), in the first one's place. ``/run``
is in memory: nothing here is ever written to a frozen filesystem, and nothing is left after a
reboot.

    KEY/frozen    mount points that a killed agent may have left frozen (freeze/linux.py)
    KEY/applications  what commands hold still (applications/leftovers.py)
    KEY/stopped   what was shut down for a planned handover (handover/note.py)
    KEY/state     what is known of the newest version (changes/state.py)
    KEY/files.*   how all files were, where there is no tracker (changes/rule.py)
    KEY/lock      held by the one process that works with state and pins
    bpf/KEY/      the pinned write tracker (changes/pins.py)

Only what must outlive a reboot is in ``/var/lib/notfall-agent``: ``KEY/`` (changes/kept.py) and
``KEY.network``, this machine's addresses (fence/own.py).
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Iterator, Optional

ROOT = Path("/run/notfall-agent")
KEPT = Path("/var/lib/notfall-agent")


def boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def take_lock(path: Path, wait: bool = False) -> int:
    """The descriptor that holds the lock until it is closed; :class:`OSError` if another has it."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        os.close(handle)
        raise OSError("another agent with the same configuration is running") from None
    except BaseException:
        os.close(handle)
        raise
    return handle


def _key(configuration: Path) -> str:
    return hashlib.blake2b(os.fsencode(configuration.resolve()), digest_size=8).hexdigest()


class Place:
    """The place of the agent with this configuration, which is part of that of ``machine``."""

    def __init__(self, configuration: Path, machine: Optional[Path] = None) -> None:
        self.key = _key(configuration)
        self.directory = ROOT / self.key
        self.common = ROOT / _key(machine or configuration)
        self.note = self.common / "frozen"
        self.stopped = self.common / "stopped"
        self.state = self.directory / "state"
        self.lock = self.directory / "lock"
        self.filesystem = ROOT / "bpf"
        self.pins = self.filesystem / self.key
        self.kept = KEPT / self.key
        self.network = KEPT / f"{self.key}.network"

    def make(self) -> None:
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """No other agent of this machine changes what they share."""
        handle = take_lock(ROOT / "lock", wait=True)
        try:
            yield
        finally:
            os.close(handle)

    def remove(self) -> None:
        """Only the files; nothing is left of the root either if this was the last agent."""
        shutil.rmtree(self.directory, ignore_errors=True)
        shutil.rmtree(self.kept, ignore_errors=True)
        self.network.unlink(missing_ok=True)
        with suppress(OSError):
            KEPT.rmdir()
        with suppress(OSError):
            if not any(one.is_dir() for one in ROOT.iterdir()):
                shutil.rmtree(ROOT)
