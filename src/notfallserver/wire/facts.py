"""What a machine tells about itself: hardware, disks, partitions, networks.

The agent reports a :class:`Machine` with each replication, a target reports one when it registers;
the server keeps it in each version's manifest. Everything read from the network is checked here:
unknown fields are ignored, strings and lists are bounded, numbers are non-negative.
Sizes and starts are in bytes.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import Any, Dict, List, Mapping, Optional, Tuple, Type, TypeVar

from notfallserver.wire.errors import NotfallError

TEXT_LIMIT = 512
LIST_LIMIT = 512

T = TypeVar("T")


def _bad(what: str) -> NotfallError:
    return NotfallError(
        "bad-facts",
        f"The description of the machine is broken: {what}.",
        "Update agent and server to the same version.",
    )


@dataclass(frozen=True)
class Partition:
    """One partition, or (number 0) a filesystem directly on the disk."""

    number: int
    start: int
    size: int
    kind: str = ""  # MBR type (0x83) or GPT type GUID
    filesystem: str = ""  # ext4, vfat, swap, ...; empty when unknown
    uuid: str = ""  # of the filesystem
    label: str = ""
    part_uuid: str = ""
    mountpoint: str = ""
    encrypted: str = ""  # by what, on the disk itself (BitLocker); the filesystem tells of the copy


@dataclass(frozen=True)
class Disk:
    """One whole disk, in the order in which the machine counts them."""

    name: str  # vda, sda, nvme0n1
    size: int
    sector: int = 512  # logical sector size
    serial: str = ""
    model: str = ""
    driver: str = ""  # virtio_blk, ahci, nvme, ...
    table: str = ""  # dos, gpt or empty
    partitions: List[Partition] = field(default_factory=list)


@dataclass(frozen=True)
class Nic:
    """One network card with the addresses it has now."""

    name: str
    mac: str
    driver: str = ""
    addresses: List[str] = field(default_factory=list)  # with prefix length, IPv4 and IPv6
    leased: List[str] = field(default_factory=list)  # those of them that the network gave


REBOOT_PENDING = "reboot-pending"
FAST_START = "fast-start"
OEM_LICENCE = "oem-licence"
DOMAIN_CONTROLLER = "domain-controller"


@dataclass(frozen=True)
class Machine:
    """A whole machine."""

    hostname: str
    system: str = ""  # PRETTY_NAME of os-release
    kernel: str = ""
    firmware: str = "bios"  # bios or uefi
    smbios_uuid: str = ""
    smbios_serial: str = ""
    vendor: str = ""
    product: str = ""
    cpus: int = 1
    memory: int = 0  # bytes
    gateway: str = ""
    ports: List[int] = field(default_factory=list)  # TCP ports that the machine serves
    disks: List[Disk] = field(default_factory=list)
    nics: List[Nic] = field(default_factory=list)
    outside: List[str] = field(default_factory=list)  # where data is mounted from elsewhere
    licence_keys: List[str] = field(default_factory=list)  # USB devices that software is bound to
    systemd: str = ""  # its state there: running, degraded, ...; empty: there is none, or not told
    failed_units: List[str] = field(default_factory=list)
    logins: List[str] = field(default_factory=list)  # units where somebody could log in
    conditions: List[str] = field(default_factory=list)  # of a Windows: REBOOT_PENDING, ...

    def to_json(self) -> Dict[str, Any]:
        return asdict(self)

    @property
    def windows(self) -> Tuple[int, int]:
        """Version of its Windows; (0, 0) for every other system.

        As Windows counts: 10.0 is 10, 11, Server 2016 and newer.
        """
        if not self.system.startswith("Windows"):
            return 0, 0
        told = [int(one) for one in self.kernel.split(".")[:2] if one.isdigit()]
        return (told[0], told[1]) if len(told) == 2 else (10, 0)

    def addresses(self) -> List[str]:
        """All addresses without prefix length, link-local ones left out."""
        plain = [one.split("/")[0] for nic in self.nics for one in nic.addresses]
        return [one for one in plain if not one.lower().startswith("fe80:")]


def _read(kind: Type[T], body: Any, nested: Optional[Mapping[str, Any]] = None) -> T:
    if not isinstance(body, Mapping):
        raise _bad(f"{kind.__name__.lower()} is not an object")
    values: Dict[str, Any] = {}
    for one in fields(kind):  # type: ignore[arg-type]
        if one.name not in body:
            continue
        value = body[one.name]
        if nested and one.name in nested:
            if not isinstance(value, list) or len(value) > LIST_LIMIT:
                raise _bad(f"{one.name} is not a list, or too long")
            values[one.name] = [nested[one.name](item) for item in value]
        elif one.type in ("int", int):
            if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 63:
                raise _bad(f"{one.name} is not a whole number")
            values[one.name] = value
        else:
            values[one.name] = _text(value)
    try:
        return kind(**values)
    except TypeError as error:
        raise _bad(str(error)) from None


def _text(value: Any) -> str:
    if not isinstance(value, str) or len(value) > TEXT_LIMIT or "\0" in value:
        raise _bad("a text is missing or too long")
    try:
        value.encode()
    except UnicodeEncodeError:  # a lone surrogate, which JSON can carry
        raise _bad("a text is no Unicode") from None
    return value


def _port(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < 65536:
        raise _bad("a port is no port number")
    return value


def _read_disk(body: Any) -> Disk:
    return _read(Disk, body, {"partitions": lambda item: _read(Partition, item)})


def _read_nic(body: Any) -> Nic:
    return _read(Nic, body, {"addresses": _text, "leased": _text})


_LISTS = ("outside", "licence_keys", "failed_units", "logins", "conditions")


def read_machine(body: Any) -> Machine:
    """Check and read what came over the network."""
    nested = {"disks": _read_disk, "nics": _read_nic, "ports": _port}
    texts = dict.fromkeys(_LISTS, _text)
    machine = _read(Machine, body, {**nested, **texts})
    if machine.firmware not in ("bios", "uefi"):
        raise _bad("firmware is neither bios nor uefi")
    return machine
