"""Windows' own functions, through ctypes. Nothing is decided here, and only here Windows is asked.

Not importable elsewhere. Offsets, codes and meanings are in the modules that parse the answers.
"""

from __future__ import annotations

import ctypes
import logging
import os
import socket
import subprocess
import sys
import winreg
from contextlib import suppress
from ctypes import wintypes
from pathlib import Path
from typing import Any, Iterator, List, Optional, Sequence, Tuple, Union

from notfallserver.agent.windows.system import Answer, Handle, Label, Refused, System, Times, Value

assert sys.platform == "win32"  # noqa: S101  (tells type checkers, too)

log = logging.getLogger("notfall-agent")

_GENERIC_READ, _GENERIC_WRITE = 0x80000000, 0x40000000
_SHARED = 7
_OPEN_EXISTING = 3
_INVALID = ctypes.c_void_p(-1).value
_MORE, _TOO_SMALL, _OVERFLOW, _END = 234, 122, 111, 38
_NO_MORE_FILES = 18
_SMBIOS = int.from_bytes(b"RSMB", "big")
_ADAPTERS = 0x0002 | 0x0004 | 0x0008 | 0x0080
"""GetAdaptersAddresses without anycast, multicast, DNS servers; with gateways."""
_LISTENERS = 3
"""TCP_TABLE_OWNER_PID_LISTENER"""
_BELOW_NORMAL = 0x4000
"""And not the mode for background work, in which a process has 32 MiB of memory and pages the
rest, and which lets its reading wait: the longer a snapshot is read, the more of it is lost."""
_LONGEST_NAME = 1024
_NETSH_S, _PNPUTIL_S = 60, 180
_BOOT_KEY = r"SOFTWARE\Notfallserver\Agent\Boot"
"""In memory only: Windows' next start does not find it."""
_VOLATILE = 1
_BOOT_ACCESS = winreg.KEY_READ | winreg.KEY_WRITE | winreg.KEY_WOW64_64KEY

_kernel32 = ctypes.WinDLL("kernel32", use_last_error=True)
_iphlpapi = ctypes.WinDLL("iphlpapi", use_last_error=True)
_advapi32 = ctypes.WinDLL("advapi32", use_last_error=True)


class _Overlapped(ctypes.Structure):
    _fields_ = [
        ("internal", ctypes.c_void_p),
        ("internal_high", ctypes.c_void_p),
        ("offset", wintypes.DWORD),
        ("offset_high", wintypes.DWORD),
        ("event", wintypes.HANDLE),
    ]


class _MemoryStatus(ctypes.Structure):
    _fields_ = [
        ("length", wintypes.DWORD),
        ("load", wintypes.DWORD),
        ("total", ctypes.c_uint64),
        ("others", ctypes.c_uint64 * 6),
    ]


def _declare(library: Any, name: str, result: Any, *arguments: Any) -> Any:
    function = getattr(library, name)
    function.restype = result
    function.argtypes = list(arguments)
    return function


_P, _D, _H, _W = ctypes.c_void_p, wintypes.DWORD, wintypes.HANDLE, wintypes.LPCWSTR
_create_file = _declare(_kernel32, "CreateFileW", _H, _W, _D, _D, _P, _D, _D, _H)
_close_handle = _declare(_kernel32, "CloseHandle", wintypes.BOOL, _H)
_control = _declare(
    _kernel32, "DeviceIoControl", wintypes.BOOL, _H, _D, _P, _D, _P, _D, ctypes.POINTER(_D), _P
)
_read_file = _declare(
    _kernel32,
    "ReadFile",
    wintypes.BOOL,
    _H,
    _P,
    _D,
    ctypes.POINTER(_D),
    ctypes.POINTER(_Overlapped),
)
_flush = _declare(_kernel32, "FlushFileBuffers", wintypes.BOOL, _H)
_query_devices = _declare(_kernel32, "QueryDosDeviceW", _D, _W, _P, _D)
_first_volume = _declare(_kernel32, "FindFirstVolumeW", _H, _P, _D)
_next_volume = _declare(_kernel32, "FindNextVolumeW", wintypes.BOOL, _H, _P, _D)
_close_volumes = _declare(_kernel32, "FindVolumeClose", wintypes.BOOL, _H)
_drive_type = _declare(_kernel32, "GetDriveTypeW", wintypes.UINT, _W)
_volume_information = _declare(
    _kernel32, "GetVolumeInformationW", wintypes.BOOL, _W, _P, _D, _P, _P, _P, _P, _D
)
_volume_places = _declare(
    _kernel32,
    "GetVolumePathNamesForVolumeNameW",
    wintypes.BOOL,
    *(_W, _P, _D, ctypes.POINTER(_D)),
)
_firmware_table = _declare(_kernel32, "GetSystemFirmwareTable", wintypes.UINT, _D, _D, _P, _D)
_memory_status = _declare(_kernel32, "GlobalMemoryStatusEx", wintypes.BOOL, _P)
_system_times = _declare(_kernel32, "GetSystemTimes", wintypes.BOOL, _P, _P, _P)
_this_process = _declare(_kernel32, "GetCurrentProcess", _H)
_set_priority = _declare(_kernel32, "SetPriorityClass", wintypes.BOOL, _H, _D)
_adapters = _declare(
    _iphlpapi, "GetAdaptersAddresses", wintypes.ULONG, _D, _D, _P, _P, ctypes.POINTER(_D)
)
_tcp_table = _declare(
    _iphlpapi, "GetExtendedTcpTable", _D, _P, ctypes.POINTER(_D), wintypes.BOOL, _D, _D, _D
)

_create_key = _declare(
    _advapi32,
    "RegCreateKeyExW",
    wintypes.LONG,
    *(_H, _W, _D, _P, _D, _D, _P, ctypes.POINTER(wintypes.HKEY), _P),
)
_close_key = _declare(_advapi32, "RegCloseKey", wintypes.LONG, wintypes.HKEY)


def _refused(what: str) -> Refused:
    return Refused(ctypes.get_last_error(), what)


class NativeHandle(Handle):
    def __init__(self, path: str, write: bool) -> None:
        access = _GENERIC_READ | (_GENERIC_WRITE if write else 0)
        self._path = path
        self._handle = _create_file(path, access, _SHARED, None, _OPEN_EXISTING, 0, None)
        if self._handle in (None, _INVALID):
            self._handle = None
            raise _refused(path)

    def control(self, code: int, given: bytes = b"", size: int = 1024) -> Answer:
        answer = ctypes.create_string_buffer(size)
        told = wintypes.DWORD()
        done = _control(
            *(self._handle, code, given or None, len(given), answer, size),
            *(ctypes.byref(told), None),
        )
        if not done and ctypes.get_last_error() != _MORE:
            raise _refused(f"{self._path}: control code {code:#x}")
        return Answer(answer.raw[: told.value], bool(done))

    def read_into(self, view: memoryview, at: int) -> int:
        place = _Overlapped(offset=at & 0xFFFFFFFF, offset_high=at >> 32)
        memory = (ctypes.c_char * len(view)).from_buffer(view)
        told = wintypes.DWORD()
        try:
            done = _read_file(
                self._handle, memory, len(view), ctypes.byref(told), ctypes.byref(place)
            )
        finally:
            del memory  # else the caller could not release the view
        if not done:
            if ctypes.get_last_error() == _END:
                return 0
            raise _refused(f"{self._path} at {at}")
        return int(told.value)

    def flush(self) -> None:
        if not _flush(self._handle):
            raise _refused(f"{self._path}: FlushFileBuffers")

    def close(self) -> None:
        if self._handle is not None:
            _close_handle(self._handle)
            self._handle = None


class Native(System):
    """This very Windows."""

    def disks(self) -> List[int]:
        numbers = [name[13:] for name in _names() if name.lower().startswith("physicaldrive")]
        return sorted(int(one) for one in numbers if one.isdigit())

    def open(self, path: str, write: bool = False) -> Handle:
        return NativeHandle(path, write)

    def volumes(self) -> List[str]:
        return list(_volumes())

    def drive_kind(self, volume: str) -> int:
        return int(_drive_type(volume))

    def label(self, volume: str) -> Label:
        name = ctypes.create_unicode_buffer(_LONGEST_NAME)
        kind = ctypes.create_unicode_buffer(_LONGEST_NAME)
        if not _volume_information(
            *(volume, name, _LONGEST_NAME, None, None, None, kind, _LONGEST_NAME)
        ):
            raise _refused(volume)
        return Label(kind.value, name.value)

    def places(self, volume: str) -> List[str]:
        size = wintypes.DWORD(_LONGEST_NAME)
        while True:
            text = ctypes.create_unicode_buffer(size.value)
            if _volume_places(volume, text, size.value, ctypes.byref(size)):
                return [one for one in "".join(text[: size.value]).split("\0") if one]
            if ctypes.get_last_error() != _MORE:
                raise _refused(volume)

    def firmware(self) -> int:
        kind = ctypes.c_uint32()
        with suppress(AttributeError):  # before Windows 8
            if _kernel32.GetFirmwareType(ctypes.byref(kind)):
                return int(kind.value)
        return 0

    def smbios(self) -> bytes:
        size = _firmware_table(_SMBIOS, 0, None, 0)
        if not size:
            raise _refused("SMBIOS")
        table = ctypes.create_string_buffer(size)
        return table.raw[: _firmware_table(_SMBIOS, 0, table, size)]

    def adapters(self) -> Tuple[bytes, int]:
        size = wintypes.DWORD(1 << 16)
        while True:
            memory = ctypes.create_string_buffer(size.value)
            result = _adapters(0, _ADAPTERS, None, memory, ctypes.byref(size))
            if not result:
                return memory.raw, ctypes.addressof(memory)
            if result != _OVERFLOW:
                return b"", 0  # there is none (ERROR_NO_DATA)

    def listeners(self, family: int) -> bytes:
        size = wintypes.DWORD(1 << 14)
        while True:
            table = ctypes.create_string_buffer(size.value)
            result = _tcp_table(table, ctypes.byref(size), False, family, _LISTENERS, 0)
            if not result:
                return table.raw
            if result != _TOO_SMALL:
                raise Refused(result, "GetExtendedTcpTable")

    def memory(self) -> int:
        status = _MemoryStatus(ctypes.sizeof(_MemoryStatus))
        return int(status.total) if _memory_status(ctypes.byref(status)) else 0

    def processors(self) -> int:
        return os.cpu_count() or 1

    def times(self) -> Times:
        idle, kernel, user = ctypes.c_uint64(), ctypes.c_uint64(), ctypes.c_uint64()
        if not _system_times(ctypes.byref(idle), ctypes.byref(kernel), ctypes.byref(user)):
            raise _refused("GetSystemTimes")
        return Times(idle.value, kernel.value + user.value)  # the kernel's has what was idle

    def settle_down(self) -> None:
        if not _set_priority(_this_process(), _BELOW_NORMAL):
            raise _refused("SetPriorityClass")

    def hostname(self) -> str:
        return socket.gethostname()

    def setting(self, key: str, name: str) -> Optional[Union[str, int]]:
        with suppress(OSError), _opened(key) as opened:
            value, _kind = winreg.QueryValueEx(opened, name)
            return value if isinstance(value, (str, int)) else None
        return None

    def value(self, key: str, name: str) -> Optional[Value]:
        try:
            with _opened(key) as opened:
                content, kind = winreg.QueryValueEx(opened, name)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise Refused(error.winerror, f"{key}: {name}") from None
        return kind, content

    def set_value(self, key: str, name: str, value: Optional[Value]) -> None:
        # To flush it, a key must be open for reading as well.
        access = winreg.KEY_SET_VALUE | winreg.KEY_QUERY_VALUE | winreg.KEY_WOW64_64KEY
        try:
            with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, key, 0, access) as opened:
                if value is not None:
                    winreg.SetValueEx(opened, name, 0, value[0], value[1])
                else:
                    with suppress(FileNotFoundError):
                        winreg.DeleteValue(opened, name)
                winreg.FlushKey(opened)
        except OSError as error:
            raise Refused(error.winerror, f"{key}: {name}") from None

    def boot_mark(self) -> str:
        made = wintypes.HKEY()
        result = _create_key(
            *(winreg.HKEY_LOCAL_MACHINE, _BOOT_KEY, 0, None, _VOLATILE, _BOOT_ACCESS, None),
            *(ctypes.byref(made), None),
        )
        if result:
            raise Refused(result, _BOOT_KEY)
        try:
            with suppress(FileNotFoundError):
                return str(winreg.QueryValueEx(int(made.value or 0), "Mark")[0])
            mark = os.urandom(16).hex()
            winreg.SetValueEx(int(made.value or 0), "Mark", 0, winreg.REG_SZ, mark)
            return mark
        finally:
            _close_key(made)

    def netsh(self, *arguments: str) -> None:
        code, said = _told_by("netsh.exe", arguments, _NETSH_S)
        if code:
            raise Refused(code, f"netsh {' '.join(arguments)}: {said}")

    def pnputil(self, *arguments: str) -> int:
        code, said = _told_by("pnputil.exe", arguments, _PNPUTIL_S)
        log.debug("pnputil %s: %d %s", " ".join(arguments), code, said)
        return code

    def settings_below(self, key: str) -> List[str]:
        with suppress(OSError), _opened(key) as opened:
            return [winreg.EnumKey(opened, at) for at in range(winreg.QueryInfoKey(opened)[0])]
        return []


def _told_by(name: str, arguments: Sequence[str], timeout: float) -> Tuple[int, str]:
    """What one of Windows' own tools ends with: its exit code, and the end of what it says."""
    program = Path(os.environ.get("SYSTEMROOT", r"C:\Windows")) / "System32" / name
    try:
        done = subprocess.run(
            [program, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=timeout,
            check=False,
            creationflags=subprocess.CREATE_NO_WINDOW,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Refused(0, f"{name} {' '.join(arguments)}: {error}") from None
    return done.returncode & 0xFFFFFFFF, done.stdout.decode("oem", "replace").strip()[:200]


def _opened(key: str) -> winreg.HKEYType:
    access = winreg.KEY_READ | winreg.KEY_WOW64_64KEY
    return winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, key, 0, access)


def _names() -> List[str]:
    """All names of devices."""
    size = 1 << 15
    while True:
        text = ctypes.create_unicode_buffer(size)
        length = _query_devices(None, text, size)
        if length:
            return [one for one in "".join(text[:length]).split("\0") if one]
        if ctypes.get_last_error() != _TOO_SMALL:
            raise _refused("QueryDosDevice")
        size *= 2


def _volumes() -> Iterator[str]:
    name = ctypes.create_unicode_buffer(_LONGEST_NAME)
    search = _first_volume(name, _LONGEST_NAME)
    if search in (None, _INVALID):
        if ctypes.get_last_error() == _NO_MORE_FILES:
            return
        raise _refused("FindFirstVolume")
    try:
        yield name.value
        while _next_volume(search, name, _LONGEST_NAME):
            yield name.value
    finally:
        _close_volumes(search)
