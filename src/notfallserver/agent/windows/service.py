"""The agent as a service of Windows: its main function, and what the service manager asks.

The service manager calls the main function in a thread of its own, and the handler in the first
thread, which waits in the dispatcher. Asked to stop, or told that Windows goes down, the run under
way ends when it comes to ask, at most some seconds later, and lets go of its snapshots.
"""

from __future__ import annotations

import ctypes
import logging
import os
import sys
from ctypes import wintypes
from typing import Any, Callable

from notfallserver.agent.stop import Stop, Stopped

assert sys.platform == "win32"  # noqa: S101  (tells type checkers, too)

from notfallserver.agent.windows.manager import (  # noqa: E402
    LEAVING_MS,
    NAME,
    RUNNING,
    STARTING,
    STOPPED,
    STOPPING,
    Status,
    settle,
)

_OWN_PROCESS = 0x10
_STOP, _INTERROGATE, _SHUTDOWN, _BEFORE_SHUTDOWN = 1, 4, 5, 15
_ACCEPTS = 0x001 | 0x004 | 0x100
"""To stop, to shut down, and to hear before anything else is shut down, with time to leave."""
_NOT_IMPLEMENTED = 120
_SPECIFIC_ERROR = 1066
_NOT_BY_MANAGER = 1063

log = logging.getLogger("notfall-agent")


_Main = ctypes.WINFUNCTYPE(None, wintypes.DWORD, ctypes.POINTER(wintypes.LPWSTR))
_Handler = ctypes.WINFUNCTYPE(
    wintypes.DWORD, wintypes.DWORD, wintypes.DWORD, ctypes.c_void_p, ctypes.c_void_p
)


class _Entry(ctypes.Structure):
    _fields_ = [("name", wintypes.LPWSTR), ("main", _Main)]


_advapi32 = ctypes.WinDLL("advapi32", use_last_error=True)
_advapi32.RegisterServiceCtrlHandlerExW.restype = wintypes.HANDLE
_advapi32.RegisterServiceCtrlHandlerExW.argtypes = [wintypes.LPCWSTR, _Handler, ctypes.c_void_p]
_advapi32.SetServiceStatus.argtypes = [wintypes.HANDLE, ctypes.POINTER(Status)]
_advapi32.StartServiceCtrlDispatcherW.argtypes = [ctypes.POINTER(_Entry)]


class WindowsService:
    """``work`` is the agent's work; it leaves when the stop that it gets is asked."""

    def __init__(self, work: Callable[[Stop], None]) -> None:
        self._work = work
        self._stop = Stop()
        self._status = Status(kind=_OWN_PROCESS)
        self._handle: Any = None
        self._main = _Main(self._serve)  # kept: Windows calls them
        self._handler = _Handler(self._control)

    def run(self) -> None:
        """Returns when the service has stopped; :class:`OSError` if nobody started it as one."""
        table = (_Entry * 2)(_Entry(NAME, self._main))
        if not _advapi32.StartServiceCtrlDispatcherW(table):
            number = ctypes.get_last_error()
            if number == _NOT_BY_MANAGER:
                raise OSError("this is started by the service manager only; by hand: run")
            raise ctypes.WinError(number)

    def _serve(self, _count: int, _arguments: Any) -> None:
        self._handle = _advapi32.RegisterServiceCtrlHandlerExW(NAME, self._handler, None)
        if not self._handle:
            return
        self._tell(STARTING, wait_ms=LEAVING_MS)
        self._tell(RUNNING, accepts=_ACCEPTS)
        for one in settle():
            log.warning("Windows refuses the service %s", one)
        failed = False
        try:
            self._work(self._stop)
        except Stopped:
            log.info("the service is stopping")
        except BaseException:
            log.exception("the service ends by an error")
            failed = True  # then Windows starts it again
        logging.shutdown()
        self._tell(STOPPED, failed=failed)
        # Who has stopped it to replace the program, or to start it anew, finds no process any more.
        os._exit(1 if failed else 0)

    def _control(self, control: int, _kind: int, _data: Any, _context: Any) -> int:
        if control in (_STOP, _SHUTDOWN, _BEFORE_SHUTDOWN):
            self._tell(STOPPING, wait_ms=LEAVING_MS)
            self._stop.ask()
            return 0
        if control == _INTERROGATE:
            _advapi32.SetServiceStatus(self._handle, ctypes.byref(self._status))
            return 0
        return _NOT_IMPLEMENTED

    def _tell(self, state: int, accepts: int = 0, wait_ms: int = 0, failed: bool = False) -> None:
        self._status.state = state
        self._status.accepts = accepts
        self._status.exit_code = _SPECIFIC_ERROR if failed else 0
        self._status.own_exit_code = 1 if failed else 0
        self._status.wait_ms = wait_ms
        _advapi32.SetServiceStatus(self._handle, ctypes.byref(self._status))
