"""Runs QEMU's tools where they see an image's files and nothing else of this server.

Images come from elsewhere and their formats are intricate. So whatever reads them has no network,
no capability but to read its files, an empty file system around it, and ends with us.
"""

from __future__ import annotations

import json
import logging
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile

from notfallserver.server.foreign.chain import Layer, option_tree
from notfallserver.server.host.run import ENVIRONMENT, paste_line
from notfallserver.wire.errors import NotfallError

log = logging.getLogger(__name__)

IMAGES = Path("/images")
ROOM = Path("/room")
MEMORY = 8 << 30
"""Bytes of address space: more is asked for only by an image that lies about its tables."""
TICK_S = 0.2
_SYSTEM = ("/usr", "/lib", "/lib64", "/bin", "/sbin")
_TAIL = 4000


def image_option(layer: Layer) -> str:
    """How the tools are told of an image in the enclosure."""
    return "json:" + json.dumps(option_tree(layer, IMAGES))


def enclosed(files: Sequence[Path], command: Sequence[str], room: Path | None = None) -> list[str]:
    """The command line; ``room`` is a directory that is theirs and ours."""
    line = ["bwrap", "--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts"]
    line += ["--die-with-parent", "--new-session", "--cap-drop", "ALL"]
    line += ["--cap-add", "CAP_DAC_READ_SEARCH", "--proc", "/proc", "--dev", "/dev"]
    for name in _SYSTEM:
        path = Path(name)
        if path.is_symlink():
            line += ["--symlink", str(path.readlink()), name]
        elif path.is_dir():
            line += ["--ro-bind", name, name]
    for file in files:
        line += ["--ro-bind", str(file), str(IMAGES / file.name)]
    if room is not None:
        line += ["--bind", str(room), str(ROOM)]
    return [*line, "prlimit", f"--as={MEMORY}", "--core=0", *command]


@contextmanager
def started(line: Sequence[str]) -> Iterator[tuple[subprocess.Popen[bytes], Callable[[], str]]]:
    """The running command, and what it has said so far; it is over after the block."""
    log.debug("run %s", paste_line(line))
    with TemporaryFile() as told:
        try:
            process = subprocess.Popen(
                line, stdin=subprocess.DEVNULL, stdout=told, stderr=told, env=ENVIRONMENT
            )
        except FileNotFoundError:
            raise NotfallError(
                "command-missing",
                f"The program '{line[0]}' is not installed.",
                "Install it with the distribution's package manager (package bubblewrap).",
                status=500,
            ) from None

        def words() -> str:
            size = told.seek(0, 2)
            told.seek(max(0, size - _TAIL))
            return told.read().decode(errors="replace").strip()

        try:
            yield process, words
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()


def check_image(layer: Layer, check: Callable[[], None]) -> None:
    """Refuse an image whose own tables are damaged, or whose end is missing.

    A read of what a cut file lacks gives zeros, so nothing else would tell. ``check`` raises to
    give up. Formats that have no check (raw, VHD) are looked at by their sizes before.
    """
    files = [path for path, _ in layer.files()]
    for one in layer.layers():
        alone = option_tree(one, IMAGES)
        if "backing" in alone:
            alone["backing"] = None
        line = ["qemu-img", "check", "json:" + json.dumps(alone)]
        with started(enclosed(files, line)) as (process, words):
            while process.poll() is None:
                check()
                try:
                    process.wait(TICK_S)
                except subprocess.TimeoutExpired:
                    continue
            if process.returncode not in (_SOUND, _ONLY_LEAKS, _NO_CHECK):
                raise image_error(one.path.name, words())


_SOUND, _ONLY_LEAKS, _NO_CHECK = 0, 3, 63


def image_error(name: str, words: str) -> NotfallError:
    """By what QEMU's tools say."""
    tail = " ".join(words.splitlines()[-3:])[-600:]
    if "lock" in tail and "Failed to get" in tail:
        return NotfallError(
            "image-in-use",
            f"{name} is in use by a machine on this server.",
            "Shut that machine down, or copy the image first.",
            status=409,
        )
    return NotfallError(
        "image-damaged", f"The image file {name} can't be read: {tail}", "Copy or export it again."
    )
