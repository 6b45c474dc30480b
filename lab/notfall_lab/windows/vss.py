"""IVssBackupComponents as a real table of methods in memory, with answers to choose.

Methods that the header has, but nobody ought to call, answer E_NOTIMPL and are noted.
"""

from __future__ import annotations

import ctypes
from ctypes import CFUNCTYPE, c_bool, c_int32, c_uint32, c_void_p
from typing import Any, Callable, Dict, List, Tuple

from notfallserver.agent.windows.com import Guid, Interface, wide
from notfallserver.agent.windows.vss import FINISHED, PENDING, Freeing

METHODS = """
QueryInterface AddRef Release GetWriterComponentsCount GetWriterComponents InitializeForBackup
SetBackupState InitializeForRestore SetRestoreState GatherWriterMetadata GetWriterMetadataCount
GetWriterMetadata FreeWriterMetadata AddComponent PrepareForBackup AbortBackup GatherWriterStatus
GetWriterStatusCount FreeWriterStatus GetWriterStatus SetBackupSucceeded SetBackupOptions
SetSelectedForRestore SetRestoreOptions SetAdditionalRestores SetPreviousBackupStamp SaveAsXML
BackupComplete AddAlternativeLocationMapping AddRestoreSubcomponent SetFileRestoreStatus
AddNewTarget SetRangesFilePath PreRestore PostRestore SetContext StartSnapshotSet AddToSnapshotSet
DoSnapshotSet DeleteSnapshots ImportSnapshots BreakSnapshotSet GetSnapshotProperties Query
IsVolumeSupported DisableWriterClasses EnableWriterClasses DisableWriterInstances ExposeSnapshot
RevertToSnapshot QueryRevertStatus
""".split()  # noqa: SIM905
"""In the order of vsbackup.h."""
ASYNC = ["QueryInterface", "AddRef", "Release", "Cancel", "Wait", "QueryStatus"]
MADE_AT = 133_500_000_000_000_000  # 2024-01-17T21:20:00Z


class Table:
    """An object in memory whose first field leads to its methods."""

    def __init__(self, methods: List[Any]) -> None:
        self._methods = methods
        self._table = (c_void_p * len(methods))(*[ctypes.cast(one, c_void_p) for one in methods])
        self._object = c_void_p(ctypes.addressof(self._table))

    @property
    def address(self) -> int:
        return ctypes.addressof(self._object)


class Vss:
    """One Windows' VSS: makes objects, and notes all calls in ``log``."""

    def __init__(self, writers: Tuple[Tuple[str, int, int], ...] = (("NTDS", 5, 0),)) -> None:
        self.log: List[Any] = []
        self.writers = writers
        self.results: Dict[str, int] = {}
        """What a method answers, or what comes of it if it is asynchronous."""
        self.pending = 1  # so often an asynchronous method is not yet done
        self.unsupported: List[str] = []
        self.released = 0
        self.freed_texts = self.freed_properties = 0
        self._kept: List[Any] = []
        self._volumes: List[str] = []

    def components(self) -> Interface:
        methods = [self._method(name) for name in METHODS]
        table = Table(methods)
        self._kept.append(table)
        self._volumes = []
        return Interface(table.address)

    def freeing(self) -> Freeing:
        def properties(_one: Any) -> None:
            self.freed_properties += 1

        def text(_address: int) -> None:
            self.freed_texts += 1

        return Freeing(properties, text)

    @property
    def names(self) -> List[str]:
        return [one[0] for one in self.log]

    def _method(self, name: str) -> Any:
        kinds, act = self._known().get(name, ((), lambda: 0x80004001))

        def called(_this: int, *values: Any) -> int:
            self.log.append((name, *values))
            if name in self.results and not name.startswith(("Gather", "Prepare", "Do", "Backup")):
                return self.results[name]
            return int(act(*values))

        made = CFUNCTYPE(c_uint32, c_void_p, *kinds)(called)
        self._kept.append(made)
        return made

    def _known(self) -> Dict[str, Tuple[Tuple[Any, ...], Callable[..., int]]]:
        return {
            "Release": ((), self._release),
            "InitializeForBackup": ((c_void_p,), lambda xml: 0 if xml is None else 0x80070057),
            "SetContext": ((c_int32,), lambda _context: 0),
            "SetBackupState": ((c_bool, c_bool, c_int32, c_bool), lambda *_: 0),
            "GatherWriterMetadata": ((c_void_p,), self._task("GatherWriterMetadata")),
            "FreeWriterMetadata": ((), lambda: 0),
            "StartSnapshotSet": ((c_void_p,), self._put_guid),
            "AddToSnapshotSet": ((c_void_p, Guid, c_void_p), self._add),
            "PrepareForBackup": ((c_void_p,), self._task("PrepareForBackup")),
            "GatherWriterStatus": ((c_void_p,), self._task("GatherWriterStatus")),
            "GetWriterStatusCount": ((c_void_p,), self._count),
            "GetWriterStatus": ((c_uint32, *[c_void_p] * 5), self._status),
            "FreeWriterStatus": ((), lambda: 0),
            "DoSnapshotSet": ((c_void_p,), self._task("DoSnapshotSet")),
            "GetSnapshotProperties": ((Guid, c_void_p), self._properties),
            "BackupComplete": ((c_void_p,), self._task("BackupComplete")),
            "AbortBackup": ((), lambda: 0),
        }

    def _release(self) -> int:
        self.released += 1
        return 0

    def _put_guid(self, where: int) -> int:
        Guid.from_address(where).first = 77
        return 0

    def _add(self, name: int, provider: Guid, where: int) -> int:
        volume = text(name)
        if bytes(provider) != bytes(16):
            return 0x80070057
        if volume in self.unsupported:
            return 0x8004230C
        self._volumes.append(volume)
        Guid.from_address(where).first = len(self._volumes)
        return 0

    def _count(self, where: int) -> int:
        c_uint32.from_address(where).value = len(self.writers)
        return 0

    def _status(self, number: int, _i: int, _w: int, name: int, state: int, failure: int) -> int:
        told, now, why = self.writers[number]
        memory = wide(told)
        self._kept.append(memory)
        c_void_p.from_address(name).value = ctypes.addressof(memory)
        c_int32.from_address(state).value = now
        c_uint32.from_address(failure).value = why
        return 0

    def _properties(self, identity: Guid, where: int) -> int:
        volume = self._volumes[identity.first - 1]
        device = wide(rf"\\?\GLOBALROOT\Device\HarddiskVolumeShadowCopy{identity.first + 6}")
        self._kept += [device, wide(volume)]
        # Offsets as the compiler of 64-bit Windows lays VSS_SNAPSHOT_PROP out.
        c_void_p.from_address(where + 40).value = ctypes.addressof(device)
        c_void_p.from_address(where + 48).value = ctypes.addressof(self._kept[-1])
        ctypes.c_int64.from_address(where + 112).value = MADE_AT
        return 0

    def _task(self, what: str) -> Callable[[int], int]:
        def begin(where: int) -> int:
            left = [self.pending]

            def wait(_this: int, milliseconds: int) -> int:
                assert milliseconds <= 1000
                return 0

            def query(_this: int, result: int, _reserved: int) -> int:
                done = not left[0]
                left[0] -= not done
                value = self.results.get(what, FINISHED) if done else PENDING
                c_uint32.from_address(result).value = value
                return 0

            def plain(name: str) -> Any:
                def called(_this: int) -> int:
                    self.log.append((f"{what}.{name}",))
                    return 0

                return CFUNCTYPE(c_uint32, c_void_p)(called)

            methods = [plain(name) for name in ASYNC]
            methods[4] = CFUNCTYPE(c_uint32, c_void_p, c_uint32)(wait)
            methods[5] = CFUNCTYPE(c_uint32, c_void_p, c_void_p, c_void_p)(query)
            table = Table(methods)
            self._kept += [table, methods]
            c_void_p.from_address(where).value = table.address
            return 0

        return begin


def text(address: int) -> str:
    found = b""
    while ctypes.string_at(address, 2) != b"\0\0":
        found += ctypes.string_at(address, 2)
        address += 2
    return found.decode("utf-16-le")
