"""What an INF says of a driver: for which Windows, for which hardware, and what starts it. Pure.

A package is an INF with its files. Of its sections of models Windows takes the one whose decoration
(``NTamd64.10.0...16299``: processor, version, kind, build) fits best; so does this.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Dict, FrozenSet, Iterator, List, Optional, Tuple

from notfallserver.guest.windows.inf import Inf
from notfallserver.guest.windows.registry import (
    BINARY,
    EXPANDED,
    TEXT,
    Value,
    number,
    text,
    texts,
)

SCSI = "{4D36E97B-E325-11CE-BFC1-08002BE10318}"
HDC = "{4D36E96A-E325-11CE-BFC1-08002BE10318}"
NET = "{4D36E972-E325-11CE-BFC1-08002BE10318}"
_CLASSES = {"scsiadapter": SCSI, "hdc": HDC, "net": NET}
STORAGE = (SCSI, HDC)

ANY = 0
WORKSTATION, DOMAIN_CONTROLLER, SERVER = 1, 2, 3
_DECORATION = re.compile(
    r"nt(?P<cpu>x86|amd64|arm64|arm|ia64)?"
    r"(?:\.(?P<major>\d*))?(?:\.(?P<minor>\d*))?(?:\.(?P<kind>\w*))?(?:\.\w*)?(?:\.(?P<build>\d*))?",
    re.IGNORECASE,
)
_ID = re.compile(r"[A-Z0-9*][A-Z0-9_&\\.{}*-]{2,199}")
_PARAMETER = re.compile(r"[\w .\\-]{0,200}")
_ASSOCIATED = 2
_LEGACY_CPU = "x86"
"""Models without a decoration are of the time when there was no other."""


@dataclass(frozen=True)
class Windows:
    """For which a driver is looked for; ``build`` 0 and ``architecture`` "" fit any."""

    version: Tuple[int, int]
    build: int = 0
    architecture: str = ""  # amd64 or x86
    server: bool = False

    def on(self, architecture: str) -> Windows:
        return replace(self, architecture=architecture)


@dataclass(frozen=True)
class Decoration:
    """For which Windows and newer; ``kind`` 0 for any."""

    cpu: str
    version: Tuple[int, int] = (0, 0)
    build: int = 0
    kind: int = ANY

    def fits(self, windows: Windows) -> bool:
        kinds = (SERVER, DOMAIN_CONTROLLER) if windows.server else (WORKSTATION,)
        return (
            (not windows.architecture or self.cpu == windows.architecture)
            and self.version <= windows.version
            and (self.version < windows.version or not windows.build or self.build <= windows.build)
            and self.kind in (ANY, *kinds)
        )


@dataclass(frozen=True)
class Parameter:
    """A value below the driver's own key of the registry."""

    key: str
    name: str
    value: Value


@dataclass(frozen=True)
class DriverService:
    """The driver itself; ``file`` is the name of its .sys."""

    name: str
    file: str
    group: str = ""
    error_control: int = 1
    parameters: Tuple[Parameter, ...] = ()


@dataclass(frozen=True)
class Model:
    """All hardware of one section; ``service`` is None where Windows brings what drives it."""

    decoration: Decoration
    ids: FrozenSet[str]  # PCI\VEN_1AF4&DEV_1001&..., upper case
    service: Optional[DriverService] = None


@dataclass(frozen=True)
class Description:
    """What an INF says; ``files`` are paths below its folder, as it writes them."""

    class_id: str
    provider: str
    version: str  # date and number, as they stand there
    catalogue: str
    models: Tuple[Model, ...]
    files: Tuple[str, ...]

    @property
    def is_storage(self) -> bool:
        return self.class_id in STORAGE

    @property
    def newness(self) -> Tuple[int, ...]:
        """To compare: date, then number."""
        date, _, numbers = self.version.partition(",")
        parts = [int(one) for one in re.findall(r"\d+", date)]
        day = (parts[2], parts[0], parts[1]) if len(parts) == 3 else (0, 0, 0)
        return (*day, *(int(one) for one in re.findall(r"\d+", numbers)))

    def for_windows(self, windows: Windows) -> Tuple[Model, ...]:
        """Those that this Windows would take: of each processor the best fitting ones."""
        fitting = [one for one in self.models if one.decoration.fits(windows)]
        best = {
            cpu: max(_rank(one.decoration) for one in fitting if one.decoration.cpu == cpu)
            for cpu in {one.decoration.cpu for one in fitting}
        }
        return tuple(one for one in fitting if _rank(one.decoration) == best[one.decoration.cpu])


def _rank(decoration: Decoration) -> Tuple[Tuple[int, int], int, bool]:
    return decoration.version, decoration.build, decoration.kind != ANY


def describe(inf: Inf) -> Optional[Description]:
    """None where it is of no class that is looked for here: disk controllers, network cards."""
    named = inf.value("version", "classguid").upper()
    class_id = named or _CLASSES.get(inf.value("version", "class").lower(), "")
    if class_id not in _CLASSES.values():
        return None
    models = tuple(_models(inf))
    return Description(
        class_id=class_id,
        provider=inf.value("version", "provider"),
        version=",".join(inf.all_values("version", "driverver")),
        catalogue=_catalogue(inf),
        models=models,
        files=tuple(dict.fromkeys(_files(inf))),
    )


def _catalogue(inf: Inf) -> str:
    keys = ("catalogfile", "catalogfile.nt", "catalogfile.ntamd64", "catalogfile.ntx86")
    return next((name for key in keys for name in [inf.value("version", key)] if name), "")


def read_decoration(told: str) -> Optional[Decoration]:
    """None for one that is not understood, and for processors that no image here has."""
    found = _DECORATION.fullmatch(told.strip())
    if found is None or (found["cpu"] or _LEGACY_CPU).lower() not in ("x86", "amd64"):
        return None

    numbers = {name: _number(found[name] or "") for name in ("major", "minor", "build", "kind")}
    return Decoration(
        (found["cpu"] or _LEGACY_CPU).lower(),
        (numbers["major"], numbers["minor"]),
        numbers["build"],
        numbers["kind"],
    )


def _models(inf: Inf) -> Iterator[Model]:
    for line in inf.lines("manufacturer"):
        told = line.values or line.fields
        if not told or not told[0]:
            continue
        sections = [(told[0], Decoration(_LEGACY_CPU))]
        for one in told[1:]:
            decoration = read_decoration(one)
            if decoration is not None:
                sections.append((f"{told[0]}.{one.strip()}", decoration))
        for section, decoration in sections:
            yield from _of_section(inf, section, decoration)


def _of_section(inf: Inf, section: str, decoration: Decoration) -> Iterator[Model]:
    """One for each way of installing."""
    by_install: Dict[str, List[str]] = {}
    for line in inf.lines(section):
        if not line.values:
            continue
        ids = [one.upper() for one in line.values[1:] if _ID.fullmatch(one.upper())]
        by_install.setdefault(line.values[0], []).extend(ids)
    for install, ids in by_install.items():
        if ids:
            yield Model(decoration, frozenset(ids), _service(inf, install, decoration.cpu))


def _service(inf: Inf, install: str, cpu: str) -> Optional[DriverService]:
    """What is installed as the driver of the device, not what comes beside it."""
    ends = (f".nt{cpu}.services", ".nt.services", ".services")
    section = next((install + one for one in ends if inf.has(install + one)), "")
    added = [one for one in inf.lines(section) if one.key.lower() == "addservice"]
    main = [one for one in added if len(one.values) > 2 and _number(one.values[1]) & _ASSOCIATED]
    if not main or not re.fullmatch(r"[\w.-]{1,60}", main[0].values[0]):
        return None
    name, _, details = main[0].values[:3]
    file = inf.value(details, "servicebinary").replace("/", "\\").rpartition("\\")[2]
    if _number(inf.value(details, "servicetype")) != 1 or not file.lower().endswith(".sys"):
        return None
    told = inf.value(details, "errorcontrol")
    parameters = tuple(
        one for added in inf.all_values(details, "addreg") for one in _parameters(inf, added)
    )
    group = inf.value(details, "loadordergroup")
    return DriverService(name, file, group, _number(told) if told else 1, parameters)


def _parameters(inf: Inf, section: str) -> Iterator[Parameter]:
    """Those of plain kinds, below the driver's own key."""
    for line in inf.lines(section):
        root, key, name, flags, *told = (*line.fields, "", "", "", "")
        value = _value(_number(flags), told[: max(0, len(line.fields) - 4)])
        own = root.upper() == "HKR" and _PARAMETER.fullmatch(key) and _PARAMETER.fullmatch(name)
        if own and name and value is not None:
            yield Parameter(key.strip("\\"), name, value)


def _value(flags: int, told: List[str]) -> Optional[Value]:
    """By the kinds of the directive AddReg."""
    kind = flags & ~0x4000  # it says of which registry of two
    first = told[0] if told else ""
    if kind == 0x10001:
        return number(_number(first) & 0xFFFFFFFF)
    if kind in (0, 0x20000):
        return text(first, EXPANDED if kind else TEXT)
    if kind == 0x10000:
        return texts(one for one in told if one)
    if kind == 1 and all(re.fullmatch("[0-9a-fA-F]{1,2}", one) for one in told):
        return Value(BINARY, bytes(int(one, 16) for one in told))
    return None


def _number(told: str) -> int:
    try:
        return int(told, 16 if told.lower().startswith("0x") else 10)
    except ValueError:
        return 0


def _files(inf: Inf) -> Iterator[str]:
    """Where they lie: the folder of their disk, then their own, then the name."""
    folders: Dict[str, str] = {}
    for section, end in _by_processor(inf, "sourcedisksnames"):
        for line in inf.lines(section):
            if line.key and len(line.values) > 3:
                folders[f"{end}{line.key}"] = line.values[3]
    for section, end in _by_processor(inf, "sourcedisksfiles"):
        for line in inf.lines(section):
            if not line.key or not line.values:
                continue
            disk = line.values[0]
            own = line.values[1] if len(line.values) > 1 else ""
            base = folders.get(f"{end}{disk}", folders.get(disk, ""))
            parts = (*base.split("\\"), *own.split("\\"), line.key)
            yield "/".join(one for one in parts if one not in ("", ".", ".."))


def _by_processor(inf: Inf, section: str) -> Iterator[Tuple[str, str]]:
    for end in ("", ".x86", ".amd64"):
        if inf.has(section + end):
            yield section + end, end
