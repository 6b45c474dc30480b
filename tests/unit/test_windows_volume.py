"""Whether an NTFS volume may be written to: by what the tools say of it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from notfallserver.guest.shell import Finished
from notfallserver.guest.windows import ntfs
from notfallserver.guest.windows.mounts import active_partition
from notfallserver.wire.errors import NotfallError


class Tools:
    """Exit codes of the probes in order, and of ntfsrecover."""

    def __init__(self, probes: Sequence[int], recover: int) -> None:
        self.probes, self.recover = list(probes), recover
        self.called: list[str] = []

    def run(self, line: Sequence[str], ok: Sequence[int] = (0,), timeout: float = 0) -> Finished:
        self.called.append(line[0])
        code = self.recover if line[0] == "ntfsrecover" else self.probes.pop(0)
        assert code in ok
        return Finished(code, "", "")


@pytest.mark.parametrize(
    ("probes", "recover", "told"),
    [
        ([0], 1, []),
        ([15, 0], 0, []),  # the journal was played back
        ([15, 0], 1, []),
        ([13, 0], 0, []),
        ([15, 15], 1, ["windows-unclean"]),
        ([14], 0, "windows-hibernated"),
        ([13, 13], 0, "windows-volume-damaged"),
        ([15, 13], 0, "windows-volume-damaged"),
    ],
)
def test_a_journal_is_played_back_before_it_would_be_lost(
    monkeypatch: pytest.MonkeyPatch, probes: list[int], recover: int, told: list[str] | str
) -> None:
    tools = Tools(probes, recover)
    monkeypatch.setattr(ntfs, "run", tools.run)
    if isinstance(told, str):
        with pytest.raises(NotfallError) as refused:
            ntfs.ready_volume("/dev/vda2")
        assert refused.value.code == told
        assert refused.value.remedy
    else:
        assert [one.code for one in ntfs.ready_volume("/dev/vda2")] == told
    assert tools.probes == []
    assert ("ntfsrecover" in tools.called) == (probes[0] not in (0, 14))


def test_the_active_partition() -> None:
    sector = bytearray(512)
    sector[510:] = b"\x55\xaa"
    sector[446 + 32] = 0x80
    assert active_partition(bytes(sector)) == 0, "without boot code nothing starts it"
    sector[0] = 0xEB
    assert active_partition(bytes(sector)) == 3
    sector[446 + 32] = 0
    assert active_partition(bytes(sector)) == 0
    assert active_partition(b"") == 0
