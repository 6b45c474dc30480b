"""Calling a COM object through its table of methods.

On 64-bit Windows there is one calling convention, which ctypes' plain functions have; so the same
code calls an object that a test has made on another system. Texts are UTF-16 whatever the
system's wchar_t is.
"""

from __future__ import annotations

import ctypes
from typing import Any, List, Tuple

S_OK = 0
_RELEASE = 2


class Guid(ctypes.Structure):
    """16 bytes; passed by value."""

    _fields_ = [
        ("first", ctypes.c_uint32),
        ("second", ctypes.c_uint16),
        ("third", ctypes.c_uint16),
        ("rest", ctypes.c_uint8 * 8),
    ]


class ComError(Exception):
    """``number`` is the HRESULT as Windows prints it (unsigned)."""

    def __init__(self, what: str, number: int) -> None:
        super().__init__(f"{what}: {number:#010x}")
        self.what = what
        self.number = number


class Interface:
    """One object, known by its address; the caller releases it."""

    def __init__(self, address: int) -> None:
        self.address = address

    def call(self, what: str, slot: int, *arguments: Tuple[Any, Any]) -> int:
        """Call a method with (type, value) pairs; a failure is a :class:`ComError`.

        Returns the HRESULT, because some say by it what came of the call.
        """
        number = self.try_call(slot, *arguments)
        if number & 0x80000000:
            raise ComError(what, number)
        return number

    def try_call(self, slot: int, *arguments: Tuple[Any, Any]) -> int:
        """The same, and a failure is only returned."""
        kinds: List[Any] = [kind for kind, _ in arguments]
        values: List[Any] = [value for _, value in arguments]
        table = ctypes.cast(self.address, ctypes.POINTER(ctypes.c_void_p))[0]
        method = ctypes.cast(table, ctypes.POINTER(ctypes.c_void_p))[slot]
        kind = ctypes.CFUNCTYPE(ctypes.c_uint32, ctypes.c_void_p, *kinds)
        return int(kind(method or 0)(self.address, *values))

    def release(self) -> None:
        if self.address:
            self.try_call(_RELEASE)
            self.address = 0


def out(value: Any) -> Tuple[Any, Any]:
    """An argument through which ``value`` (a ctypes object, kept alive by the caller) is filled."""
    return ctypes.c_void_p, ctypes.addressof(value)


def wide(text: str) -> Any:
    """Memory that holds a text and its end; keep it as long as its address is used."""
    return ctypes.create_string_buffer(text.encode("utf-16-le") + b"\0\0")


def text_at(address: int) -> str:
    """The text at an address; empty for none."""
    if not address:
        return ""
    letters = ctypes.cast(address, ctypes.POINTER(ctypes.c_uint16))
    length = 0
    while letters[length]:
        length += 1
    return ctypes.string_at(address, 2 * length).decode("utf-16-le", "replace")
