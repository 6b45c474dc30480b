"""The agent's log as entries of Windows' event log: Application, source NotfallAgent.

Texts are shown through the message table of Windows' own EventCreate.exe, which has a message
"%1" for each number up to 1000; the package registers it for the source.
"""

from __future__ import annotations

import ctypes
import logging
import sys
from ctypes import wintypes

assert sys.platform == "win32"  # noqa: S101  (tells type checkers, too)

SOURCE = "NotfallAgent"
_ERROR, _WARNING, _INFORMATION = 1, 2, 4
NUMBERS = {_INFORMATION: 100, _WARNING: 200, _ERROR: 300}
_LONGEST = 30000
"""Of an entry's text, in characters."""

_advapi32 = ctypes.WinDLL("advapi32", use_last_error=True)
_advapi32.RegisterEventSourceW.restype = wintypes.HANDLE
_advapi32.RegisterEventSourceW.argtypes = [wintypes.LPCWSTR, wintypes.LPCWSTR]
_advapi32.ReportEventW.argtypes = [
    *(wintypes.HANDLE, wintypes.WORD, wintypes.WORD, wintypes.DWORD, ctypes.c_void_p),
    *(wintypes.WORD, wintypes.DWORD, ctypes.POINTER(wintypes.LPCWSTR), ctypes.c_void_p),
]


class EventLog(logging.Handler):
    """Entries that can't be written are lost: the agent goes on."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self._source = _advapi32.RegisterEventSourceW(None, SOURCE)

    def emit(self, record: logging.LogRecord) -> None:
        kind = _INFORMATION
        if record.levelno >= logging.ERROR:
            kind = _ERROR
        elif record.levelno >= logging.WARNING:
            kind = _WARNING
        texts = (wintypes.LPCWSTR * 1)(self.format(record)[:_LONGEST])
        _advapi32.ReportEventW(self._source, kind, 0, NUMBERS[kind], None, 1, 0, texts, None)
