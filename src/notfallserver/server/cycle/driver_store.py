"""The customer's drivers for Windows: makers' folders below ``drivers/windows`` in the data
directory.

Each folder there is a set; a person may put one there by hand as well. Of a set that is added only
what is of use is kept: signed packages of disk controllers and network cards. An adaptation gets
what fits its Windows and its new hardware, never the whole.
"""

from __future__ import annotations

import logging
import re
import shutil
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from notfallserver.guest.facts import read_hardware
from notfallserver.guest.windows.facts import Generation
from notfallserver.guest.windows.inf import read_inf
from notfallserver.guest.windows.laid_down import wanted_ids
from notfallserver.guest.windows.packages import NET, Windows, describe
from notfallserver.guest.windows.parcel import pack_parcel
from notfallserver.guest.windows.supplied import Folder, Package, choose_packages, read_folder
from notfallserver.server.host.files import discard_tree, rename_durably, sweep_discarded
from notfallserver.server.host.run import run
from notfallserver.server.settings import Settings
from notfallserver.wire.errors import NotfallError
from notfallserver.wire.facts import Machine

log = logging.getLogger(__name__)

ISO_LIMIT_S = 300.0
IDS_LIMIT = 1000
REFUSED_LIMIT = 200
_ODD = re.compile(r"""['"\\\n]|/\.\.?(/|$)""")
"""What no path in an ISO of drivers has."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_MARKETED = {
    (0, 0): "all",
    (5, 1): "XP",
    (5, 2): "Server 2003",
    (6, 0): "Vista, Server 2008",
    (6, 1): "7, Server 2008 R2",
    (6, 2): "8, Server 2012",
    (6, 3): "8.1, Server 2012 R2",
    (10, 0): "10, Server 2016",
}


@dataclass(frozen=True)
class Driver:
    """A package in the words of a list. ``systems``: from which Windows on, and the processor."""

    name: str  # of its set
    path: str  # of its INF in the set
    kind: str  # storage or network
    maker: str
    version: str
    systems: tuple[str, ...]
    hardware: tuple[str, ...]
    size: int


@dataclass(frozen=True)
class Listed:
    """``refused``: INFs that are no use, by path, and why."""

    drivers: tuple[Driver, ...]
    refused: tuple[tuple[str, str], ...]


def drivers_dir(settings: Settings) -> Path:
    return settings.data_dir / "drivers" / "windows"


class DriverStore:
    """``root`` need not exist."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def list(self) -> Listed:
        found = self._read()
        drivers = tuple(_described(one) for one in found.packages)
        return Listed(drivers, found.refused[:REFUSED_LIMIT])

    def _read(self) -> Folder:
        """Without what a crash left half made, or half removed."""
        found = read_folder(self.root)
        return Folder(
            tuple(one for one in found.packages if _is_whole(one.path)),
            tuple(one for one in found.refused if _is_whole(one[0])),
        )

    def add(self, source: Path, name: str = "") -> Listed:
        """Take over what is of use in a folder, or in an ISO; a set of this name is replaced."""
        name = name or re.sub(r"[^A-Za-z0-9._-]+", "-", source.stem).strip("-._")
        _require_name(name)
        if not source.is_absolute() or not source.exists():
            raise NotfallError(
                "drivers-not-there",
                f"There is no folder or file '{source}' on the emergency server.",
                "Give the whole path of a maker's folder, unpacked, or of an ISO file.",
                status=404,
            )
        with _opened(source) as folder:
            found = read_folder(folder)
            if not found.packages:
                raise _nothing(source, found)
            self._keep(name, folder, found)
        return Listed(
            tuple(one for one in self.list().drivers if one.name == name),
            found.refused[:REFUSED_LIMIT],
        )

    def _keep(self, name: str, folder: Path, found: Folder) -> None:
        """At once: a reader sees the old set or the new one."""
        self.root.mkdir(parents=True, exist_ok=True)
        sweep_discarded(self.root)
        for left in self.root.glob(".*.new"):
            shutil.rmtree(left)
        new = self.root / f".{name}.new"
        for one in found.packages:
            for file in one.files:
                place = (Path(one.folder) / file).relative_to(folder)
                target = new / place
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(folder / place, target)
        target = self.root / name
        if target.exists():
            discard_tree(target)
        rename_durably(new, target)

    def remove(self, name: str) -> None:
        _require_name(name)
        if not (self.root / name).is_dir():
            raise NotfallError(
                "drivers-unknown",
                f"There are no drivers named '{name}'.",
                "See 'notfall drivers list'.",
                status=404,
            )
        discard_tree(self.root / name)

    def parcel(self, windows: Windows, ids: Collection[str]) -> bytes:
        """What fits, packed; empty where nothing does."""
        cpus = [windows.architecture] if windows.architecture else ["amd64", "x86"]
        try:
            packages = self._read().packages
            chosen = {
                one.package.path: one.package
                for cpu in cpus
                for one in choose_packages(packages, windows.on(cpu), ids)
            }
            packed = pack_parcel(list(chosen.values()))
        except FileNotFoundError:
            raise NotfallError(
                "drivers-changed",
                "The drivers for Windows were changed at this very moment.",
                "Try again.",
                retry=True,
                status=503,
            ) from None
        if chosen:
            log.info("drivers for Windows %s: %s", windows, sorted(chosen))
        return packed

    def parcel_for(self, machine: Machine, hardware: Mapping[str, Any]) -> bytes:
        """For the image of ``machine`` that starts on ``hardware`` (``standin.hardware_of``)."""
        if not any(machine.windows) or not self.root.is_dir():
            return b""
        windows = windows_of(machine)
        ids = wanted_ids(read_hardware(hardware), _generation(windows.version))
        return self.parcel(windows, ids) if ids else b""

    def parcel_asked(self, body: Mapping[str, Any]) -> bytes:
        """For what a target tells of the Windows and of itself (``rescue/supply.py``)."""
        try:
            major, minor = (int(one) for one in body["version"])
            windows = Windows(
                (major, minor),
                int(body["build"]),
                str(body["architecture"])[:16],
                body["server"] is True,
            )
            ids = [str(one)[:200] for one in body["ids"]][:IDS_LIMIT]
        except (KeyError, TypeError, ValueError):
            raise NotfallError(
                "drivers-bad-question",
                "What drivers are wanted for is not understood.",
                "Build the rescue medium anew, so that it fits the server.",
            ) from None
        return self.parcel(windows, ids)


def windows_of(machine: Machine) -> Windows:
    """As the agent, or a look into the image, told it; of any processor."""
    numbers = [int(one) for one in machine.kernel.split(".") if one.isdigit()]
    build = numbers[2] if len(numbers) > 2 else 0
    return Windows(machine.windows, build, "", "server" in machine.system.lower())


def _generation(version: tuple[int, int]) -> Generation:
    if version < (6, 0):
        return Generation.XP
    return Generation.VISTA if version < (6, 2) else Generation.EIGHT


def _described(package: Package) -> Driver:
    description = package.description
    name, _, path = package.path.partition("/")
    places = sorted({(one.decoration.version, one.decoration.cpu) for one in description.models})
    ids = sorted({one for model in description.models for one in model.ids})
    bits = {"amd64": "64 bit", "x86": "32 bit"}
    return Driver(
        name=name if path else "",
        path=path or package.path,
        kind="network" if description.class_id == NET else "storage",
        maker=description.provider,
        version=description.version.replace(",", " "),
        systems=tuple(
            f"{_MARKETED.get(version, '.'.join(str(one) for one in version))} ({bits[cpu]})"
            for version, cpu in places
        ),
        hardware=tuple(ids),
        size=package.size,
    )


def _is_whole(path: str) -> bool:
    top = path.partition("/")[0]
    return not top.startswith(".") and not top.endswith(".discarded")


def _require_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise NotfallError(
            "drivers-bad-name",
            f"'{name}' can't be the name of a set of drivers.",
            "Use letters, digits, points, dashes and underscores.",
        )


def _nothing(source: Path, found: Folder) -> NotfallError:
    why = f" {found.refused[0][0]}: {found.refused[0][1]}." if found.refused else ""
    return NotfallError(
        "drivers-none",
        f"In '{source}' there is no driver of a disk controller or network card that Windows "
        f"would take.{why}",
        "Give the folder in which the maker's files end in .inf, .sys and .cat; unpack a set-up "
        "program (.exe) first, as its maker says.",
    )


@contextmanager
def _opened(source: Path) -> Iterator[Path]:
    """The folder itself, or what is of use of an ISO, unpacked."""
    if source.is_dir():
        yield source
        return
    with TemporaryDirectory(prefix="drivers-") as folder:
        _unpack_iso(source, Path(folder))
        yield Path(folder)


def _unpack_iso(iso: Path, folder: Path) -> None:
    """First the INFs, then what those name that count: an ISO has hundreds of MiB of others.

    No kernel opens it: xorriso reads it as a file.
    """
    listed = run(
        ["xorriso", "-indev", iso, "-find", "/", "-type", "f", "--"],
        timeout=ISO_LIMIT_S,
        ok=range(256),
    )
    quoted = [line[1:-1] for line in listed.out.splitlines() if re.fullmatch("'/.*'", line)]
    files = [one for one in quoted if not _ODD.search(one)]
    if listed.exit_code != 0 or not files:
        raise NotfallError(
            "drivers-no-iso",
            f"'{iso}' is no ISO image that can be read.",
            "Give an ISO file, or a folder with the maker's unpacked files.",
        )
    infs = [one for one in files if one.lower().endswith(".inf")]
    _extract(iso, folder, infs)
    wanted = {name for one in infs for name in _named_by(one, folder)}
    _extract(iso, folder, [one for one in files if one.lower() in wanted])


def _named_by(inf: str, folder: Path) -> Iterator[str]:
    """Whole paths in lower case."""
    try:
        description = describe(read_inf((folder / inf.lstrip("/")).read_bytes()))
    except (ValueError, OSError):
        return
    if description is None:
        return
    services = [one.service.file for one in description.models if one.service]
    for name in (description.catalogue, *description.files, *services):
        yield f"{inf.rpartition('/')[0]}/{name}".lower()


def _extract(iso: Path, folder: Path, files: Collection[str]) -> None:
    if not files:
        return
    for one in files:
        (folder / one.lstrip("/")).parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix="drivers-") as beside:
        orders = Path(beside) / "orders"
        orders.write_text("".join(f'-extract "{one}" "{folder}{one}"\n' for one in files))
        run(
            ["xorriso", "-osirrox", "on", "-indev", iso, "-options_from_file", orders],
            timeout=ISO_LIMIT_S,
        )
    for made in folder.rglob("*"):
        made.chmod(0o700 if made.is_dir() else 0o600)  # an ISO's are read only
