"""What the agent asks of Windows. ``native.py`` asks it; tests answer with recorded bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import List, Optional, Tuple, Union

from notfallserver.wire.errors import NotfallError

DRIVE_FIXED = 3
UEFI = 2
"""Of GetFirmwareType."""

Value = Tuple[int, Union[str, int, List[str]]]
"""Of the registry: its kind and content; a text, a number, or several texts."""
TEXT, NUMBER, TEXTS = 1, 4, 7
"""REG_SZ, REG_DWORD, REG_MULTI_SZ"""


class Refused(Exception):
    """Windows said no; ``number`` is its error number (GetLastError)."""

    def __init__(self, number: int, what: str) -> None:
        super().__init__(f"{what}: Windows error {number}")
        self.number = number


@dataclass(frozen=True)
class Answer:
    content: bytes
    whole: bool = True  # false: there is more than the asked size could take (ERROR_MORE_DATA)


@dataclass(frozen=True)
class Label:
    """What Windows says of a mounted volume."""

    filesystem: str  # NTFS, FAT32, ReFS, CSVFS, ...
    name: str


@dataclass(frozen=True)
class Times:
    """Of all processors together, in 100 ns since Windows started."""

    idle: int
    passed: int  # as often as there are processors


class Handle:
    """An open disk, volume or snapshot. Safe from several threads.

    Places and lengths are multiples of the sector size.
    """

    def control(self, code: int, given: bytes = b"", size: int = 1024) -> Answer:
        """DeviceIoControl; ``size`` is that of the memory for the answer."""
        raise NotImplementedError

    def read_into(self, view: memoryview, at: int) -> int:
        """How many bytes were read; fewer than asked for only at the end."""
        raise NotImplementedError

    def flush(self) -> None:
        """Write out what the volume's filesystem has in memory; needs a handle for writing."""
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError

    def read(self, at: int, length: int) -> bytes:
        buffer = bytearray(length)
        with memoryview(buffer) as view:
            return bytes(buffer[: self.read_into(view, at)])


class System:
    """One Windows. Everything may raise :class:`Refused`."""

    def disks(self) -> List[int]:
        """The numbers of all disks, ascending."""
        raise NotImplementedError

    def open(self, path: str, write: bool = False) -> Handle:
        """Such as ``\\\\.\\PhysicalDrive0``, or a volume without the backslash at its end."""
        raise NotImplementedError

    def volumes(self) -> List[str]:
        r"""Names such as ``\\?\Volume{…}\``."""
        raise NotImplementedError

    def drive_kind(self, volume: str) -> int:
        """GetDriveType."""
        raise NotImplementedError

    def label(self, volume: str) -> Label:
        raise NotImplementedError

    def places(self, volume: str) -> List[str]:
        r"""Where it is mounted: ``C:\``, ``D:\data\``."""
        raise NotImplementedError

    def firmware(self) -> int:
        """1 BIOS, 2 UEFI, 0 unknown."""
        raise NotImplementedError

    def smbios(self) -> bytes:
        raise NotImplementedError

    def adapters(self) -> Tuple[bytes, int]:
        """What GetAdaptersAddresses wrote, and the address at which it wrote it."""
        raise NotImplementedError

    def listeners(self, family: int) -> bytes:
        raise NotImplementedError

    def memory(self) -> int:
        raise NotImplementedError

    def processors(self) -> int:
        raise NotImplementedError

    def times(self) -> Times:
        raise NotImplementedError

    def settle_down(self) -> None:
        """Give this process a lower priority."""
        raise NotImplementedError

    def hostname(self) -> str:
        raise NotImplementedError

    def setting(self, key: str, name: str) -> Optional[Union[str, int]]:
        """A value of HKEY_LOCAL_MACHINE; None if there is none."""
        raise NotImplementedError

    def netsh(self, *arguments: str) -> None:
        """Change the network's settings."""
        raise NotImplementedError

    def pnputil(self, *arguments: str) -> int:
        """Windows' tool for drivers; its exit code, which is no error by itself."""
        raise NotImplementedError

    def value(self, key: str, name: str) -> Optional[Value]:
        """Of HKEY_LOCAL_MACHINE, as it is to be written again; None if there is none."""
        raise NotImplementedError

    def set_value(self, key: str, name: str, value: Optional[Value]) -> None:
        """Write it, or take it away; the key is there."""
        raise NotImplementedError

    def boot_mark(self) -> str:
        """The same text until Windows is started anew, and never again afterwards."""
        raise NotImplementedError

    def settings_below(self, key: str) -> List[str]:
        """The names of its subkeys; none if there is no such key."""
        raise NotImplementedError


def asked(handle: Handle, code: int, given: bytes = b"", size: int = 1024) -> bytes:
    """A whole answer, with as much memory as it takes."""
    while True:
        try:
            answer = handle.control(code, given, size)
            if answer.whole:
                return answer.content
        except Refused as error:
            if error.number not in (122, 234):  # too small, more data
                raise
        size *= 4
        if size > 16 << 20:
            raise Refused(122, f"control code {code:#x}")


def disk_path(number: int) -> str:
    return rf"\\.\PhysicalDrive{number}"


def failed(what: str, error: Exception) -> NotfallError:
    """Something that must be known could not be asked."""
    return NotfallError(
        "windows-refused",
        f"{what} cannot be read ({error}).",
        "Run the agent as its service or as administrator; if it stays, check the disk.",
        retry=True,
    )
