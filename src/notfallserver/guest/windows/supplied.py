"""Picks from a folder of the customer's the signed drivers that fit a Windows and its hardware.

The folder is laid out as makers do it, one folder for each driver, or for each Windows as
virtio-win does. What is damaged, unsigned or of another kind is no driver: it is passed over, and
:func:`read_folder` says why.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Collection, Dict, Iterable, List, Optional, Sequence, Tuple

from notfallserver.guest.windows.inf import MOST, read_inf
from notfallserver.guest.windows.packages import Description, DriverService, Windows, describe
from notfallserver.guest.windows.pe import HEAD, has_signature

PACKAGE_LIMIT = 64 << 20
"""Bytes of one package; drivers of disk controllers and network cards have a few MiB."""
FILES_LIMIT = 20_000
"""So many files of a folder are looked at."""

_CLIENTS: Tuple[Tuple[str, Tuple[int, int], int], ...] = (
    ("w11", (10, 0), 22000),
    ("w10", (10, 0), 0),
    ("w8.1", (6, 3), 0),
    ("w8", (6, 2), 0),
    ("w7", (6, 1), 0),
    ("2k8", (6, 0), 0),
    ("xp", (5, 1), 0),
)
_SERVERS: Tuple[Tuple[str, Tuple[int, int], int], ...] = (
    ("2k25", (10, 0), 26100),
    ("2k22", (10, 0), 20348),
    ("2k19", (10, 0), 17763),
    ("2k16", (10, 0), 0),
    ("2k12r2", (6, 3), 0),
    ("2k12", (6, 2), 0),
    ("2k8r2", (6, 1), 0),
    ("2k8", (6, 0), 0),
    ("2k3", (5, 2), 0),
)
"""How virtio-win calls the folders of each Windows, the newest first, with the version and the
build from which on they are meant. Its INFs do not always tell the Windows apart."""
_FOLDERS = frozenset(name for name, _, _ in (*_CLIENTS, *_SERVERS))


@dataclass(frozen=True)
class Package:
    """One INF with its files, all of them there. ``path`` is the INF below the folder; ``files``
    are paths below the INF's own folder, among them the INF and its catalogue."""

    folder: str  # of the INF, outside the image
    path: str
    description: Description
    files: Tuple[str, ...]
    size: int = 0

    @property
    def name(self) -> str:
        """Of the INF, without its end, in lower case."""
        return self.path.rpartition("/")[2].lower()[: -len(".inf")]

    @property
    def title(self) -> str:
        """For people."""
        maker = self.description.provider.strip()
        number = self.description.version.partition(",")[2].strip()
        return " ".join(one for one in (f"{self.name}.inf", number, f"({maker})") if one != "()")


@dataclass(frozen=True)
class Chosen:
    """A package for one Windows and its hardware; ``service`` drives a controller."""

    package: Package
    ids: Tuple[str, ...]  # all that it serves, in order
    since: Tuple[int, int] = (0, 0)  # for this Windows and newer
    service: Optional[DriverService] = None
    mark: str = ""  # of its contents
    signed: bool = True
    """The driver carries a signature of its own, besides that of the package's catalogue."""

    @property
    def is_storage(self) -> bool:
        return self.package.description.is_storage

    def serves(self, ids: Collection[str]) -> bool:
        return not set(self.ids).isdisjoint(ids)


@dataclass(frozen=True)
class Folder:
    """``refused``: why an INF is no package, by its path."""

    packages: Tuple[Package, ...] = ()
    refused: Tuple[Tuple[str, str], ...] = ()


def read_folder(folder: Path) -> Folder:
    """All packages below it; of classes that are not looked for nothing is said."""
    packages: List[Package] = []
    refused: List[Tuple[str, str]] = []
    files = _files_below(folder)
    for path in sorted(files):
        if not path.lower().endswith(".inf"):
            continue
        try:
            package = _package(folder, path, files)
        except (ValueError, OSError) as error:
            refused.append((path, str(error)))
            continue
        if package is not None:
            packages.append(package)
    if len(files) >= FILES_LIMIT:
        why = f"there are more than {FILES_LIMIT} files: not all of them were looked at"
        refused.insert(0, ("*", why))
    return Folder(tuple(packages), tuple(refused))


def _files_below(folder: Path) -> Dict[str, int]:
    """Size by relative path; links are not followed."""
    found: Dict[str, int] = {}
    for one in sorted(folder.rglob("*")) if folder.is_dir() else ():
        if len(found) >= FILES_LIMIT:
            break
        if one.is_file() and not one.is_symlink():
            found[one.relative_to(folder).as_posix()] = one.stat().st_size
    return found


def _package(folder: Path, path: str, files: Dict[str, int]) -> Optional[Package]:
    if files[path] > MOST:
        raise ValueError("it is larger than any driver's description")
    description = describe(read_inf((folder / path).read_bytes()))
    if description is None:
        return None
    if not description.models:
        raise ValueError("it names no hardware for processors that are known here")
    base, _, inf = path.rpartition("/")
    there = _names_below(base, files)
    if not description.catalogue or description.catalogue.lower() not in there:
        raise ValueError("its catalogue of signatures is missing: Windows would not take it")
    wanted = [inf, description.catalogue, *description.files]
    names = {there[one.lower()] for one in wanted if one.lower() in there}
    services = {one.service.file for one in description.models if one.service}
    # makers' lists of files are not always right
    names |= {there[one.lower()] for one in services if one.lower() in there}
    have = {one.rpartition("/")[2].lower() for one in names}
    if services and not any(one.lower() in have for one in services):
        raise ValueError(f"its driver {sorted(services)[0]} is missing")
    size = sum(files[f"{base}/{one}" if base else one] for one in names)
    if size > PACKAGE_LIMIT:
        raise ValueError(f"its files have {size >> 20} MiB, too much for a driver")
    return Package(str(folder / base), path, description, tuple(sorted(names)), size)


def _names_below(base: str, files: Iterable[str]) -> Dict[str, str]:
    start = f"{base}/" if base else ""
    return {one[len(start) :].lower(): one[len(start) :] for one in files if one.startswith(start)}


def choose_packages(
    packages: Sequence[Package], windows: Windows, ids: Collection[str]
) -> Tuple[Chosen, ...]:
    """Those that fit this Windows and serve some of the hardware; of several of one name the one
    that is meant for it most closely: by its folder, by its decoration, then the newest."""
    best: Dict[str, Tuple[Tuple[int, Tuple[int, int], Tuple[int, ...]], Chosen]] = {}
    for package in packages:
        place = _meant_for(package.path, windows)
        chosen = _chosen(package, windows, ids)
        if place is None or chosen is None:
            continue
        rank = (-place, chosen.since, package.description.newness)
        if package.name not in best or rank > best[package.name][0]:
            best[package.name] = (rank, chosen)
    return tuple(best[name][1] for name in sorted(best))


def _chosen(package: Package, windows: Windows, ids: Collection[str]) -> Optional[Chosen]:
    """One INF may install several drivers: the one counts that serves the hardware."""
    wanted, there = set(ids), {one.rpartition("/")[2].lower() for one in package.files}
    models = package.description.for_windows(windows)
    for first in models:
        if first.ids.isdisjoint(wanted):
            continue
        service = first.service
        if service is not None and service.file.lower() not in there:
            service = None
        if service is None and package.description.is_storage:
            continue
        mine = [one.ids for one in models if one.service == first.service]
        ids_served = tuple(sorted(set().union(*mine)))
        return Chosen(package, ids_served, first.decoration.version, service)
    return None


def _meant_for(path: str, windows: Windows) -> Optional[int]:
    """How far its folder is from this Windows, 0 for its very own or where no folder tells; None
    for another's."""
    parents = [one.lower() for one in path.split("/")[:-1]]
    cpu = {"amd64": "x86", "x86": "amd64"}.get(windows.architecture, "")
    if "arm64" in parents or cpu in parents:
        return None
    if not _FOLDERS & set(parents):
        return 0
    table = _SERVERS if windows.server else _CLIENTS
    fitting = [
        name
        for name, version, build in table
        if version == windows.version and (not windows.build or build <= windows.build)
    ]
    places = [fitting.index(one) for one in parents if one in fitting]
    return min(places) if places else None


def supplied_drivers(folder: Path, windows: Windows, ids: Collection[str]) -> Tuple[Chosen, ...]:
    """From the folder, with the marks of their contents."""
    chosen = choose_packages(read_folder(folder).packages, windows, ids)
    return tuple(
        replace(one, mark=fingerprint(one.package), signed=_is_signed(one)) for one in chosen
    )


def _is_signed(chosen: Chosen) -> bool:
    if chosen.service is None:
        return True
    with open(source_of(chosen.package, chosen.service.file), "rb") as file:
        return has_signature(file.read(HEAD))


def fingerprint(package: Package) -> str:
    """Of all its files: names and contents."""
    digest = hashlib.sha256()
    for one in package.files:
        content = (Path(package.folder) / one).read_bytes()
        digest.update(f"{one}\0{len(content)}\0".encode("utf-8", "surrogateescape") + content)
    return digest.hexdigest()


def source_of(package: Package, file: str) -> str:
    """Where a file of the package lies, whatever the case of its name."""
    name = next(one for one in package.files if one.rpartition("/")[2].lower() == file.lower())
    return str(Path(package.folder) / name)
