r"""Where the agent keeps its configuration on Windows: ``%ProgramData%\Notfallserver\Agent``.

There are the certificates and their key, so only the system and administrators may read there; the
directory is made so, and refused if somebody else has made it, because everybody may make
directories in ``%ProgramData%``. The package does not know of it: an upgrade keeps it.
"""

from __future__ import annotations

import ctypes
import shutil
import sys
import uuid
from contextlib import suppress
from ctypes import wintypes
from pathlib import Path

from notfallserver.agent.windows.com import Guid
from notfallserver.wire.errors import NotfallError

assert sys.platform == "win32"  # noqa: S101  (tells type checkers, too)

_RIGHTS = "O:BAG:BAD:P(A;OICI;FA;;;SY)(A;OICI;FA;;;BA)"
"""Owner: administrators. Nothing is inherited; full access for the system and administrators."""
_REVISION = 1
_OWNER, _FILE_OBJECT = 1, 1
_EXISTS = 183
_SYSTEM, _ADMINISTRATORS = "S-1-5-18", "S-1-5-32-544"

_PROGRAM_DATA = Guid.from_buffer_copy(uuid.UUID("62ab5d82-fdc1-4dc3-a9dd-070d1d495d97").bytes_le)

_advapi32 = ctypes.WinDLL("advapi32", use_last_error=True)
_kernel32 = ctypes.WinDLL("kernel32", use_last_error=True)
_shell32, _ole32 = ctypes.WinDLL("shell32"), ctypes.WinDLL("ole32")
_kernel32.LocalFree.argtypes = [ctypes.c_void_p]
_advapi32.ConvertStringSecurityDescriptorToSecurityDescriptorW.argtypes = [
    *(wintypes.LPCWSTR, wintypes.DWORD, ctypes.c_void_p, ctypes.c_void_p)
]
_advapi32.GetNamedSecurityInfoW.argtypes = [
    *(wintypes.LPCWSTR, ctypes.c_int, wintypes.DWORD, ctypes.c_void_p),
    *(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p),
]
_advapi32.ConvertSidToStringSidW.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
_shell32.SHGetKnownFolderPath.argtypes = [
    *(ctypes.c_void_p, wintypes.DWORD, wintypes.HANDLE, ctypes.c_void_p),
]
_ole32.CoTaskMemFree.argtypes = [ctypes.c_void_p]
_ole32.CoTaskMemFree.restype = None
_kernel32.CreateDirectoryW.argtypes = [wintypes.LPCWSTR, ctypes.c_void_p]


class _Attributes(ctypes.Structure):
    _fields_ = [
        ("length", wintypes.DWORD),
        ("descriptor", ctypes.c_void_p),
        ("inherit", wintypes.BOOL),
    ]


def directory() -> Path:
    """Asked of Windows: a service's environment may name another one, which everybody may read."""
    found = ctypes.c_void_p()
    result = _shell32.SHGetKnownFolderPath(
        ctypes.byref(_PROGRAM_DATA), 0, None, ctypes.byref(found)
    )
    try:
        if result or not found.value:
            raise OSError(f"Windows does not tell where ProgramData is ({result & 0xFFFFFFFF:#x})")
        return Path(ctypes.wstring_at(found.value)) / "Notfallserver" / "Agent"
    finally:
        _ole32.CoTaskMemFree(found)


def make_directory(path: Path) -> None:
    """Make it and the one above it, for administrators only."""
    for one in (path.parent, path):
        if not _made(one) and _owner(one) not in (_SYSTEM, _ADMINISTRATORS):
            raise NotfallError(
                "foreign-directory",
                f"{one} was made by somebody who is no administrator.",
                "Look what is in it, remove it, and install again.",
            )


def remove_directory(path: Path) -> None:
    """With all that is in it; the one above it only if it is empty then."""
    shutil.rmtree(path, ignore_errors=True)
    with suppress(OSError):
        path.parent.rmdir()


def _made(path: Path) -> bool:
    """False if it was there."""
    descriptor = ctypes.c_void_p()
    if not _advapi32.ConvertStringSecurityDescriptorToSecurityDescriptorW(
        _RIGHTS, _REVISION, ctypes.byref(descriptor), None
    ):
        raise ctypes.WinError(ctypes.get_last_error())
    try:
        attributes = _Attributes(ctypes.sizeof(_Attributes), descriptor.value, False)
        if _kernel32.CreateDirectoryW(str(path), ctypes.byref(attributes)):
            return True
        if ctypes.get_last_error() != _EXISTS:
            raise ctypes.WinError(ctypes.get_last_error())
        return False
    finally:
        _kernel32.LocalFree(descriptor)


def _owner(path: Path) -> str:
    """Its SID as text."""
    owner, descriptor = ctypes.c_void_p(), ctypes.c_void_p()
    number = _advapi32.GetNamedSecurityInfoW(
        *(str(path), _FILE_OBJECT, _OWNER, ctypes.byref(owner)),
        *(None, None, None, ctypes.byref(descriptor)),
    )
    if number:
        raise ctypes.WinError(number)
    try:
        text = ctypes.c_void_p()
        if not _advapi32.ConvertSidToStringSidW(owner, ctypes.byref(text)):
            raise ctypes.WinError(ctypes.get_last_error())
        try:
            return ctypes.wstring_at(text.value or 0)
        finally:
            _kernel32.LocalFree(text)
    finally:
        _kernel32.LocalFree(descriptor)
