"""What strace tells of a frozen moment."""

from __future__ import annotations

import pytest

from bench.parts import parts_of

THREAD = """\
1700000000.000000 ioctl(9, FIFREEZE) = 0 <0.500000>
1700000010.000000 preadv(5, [{iov_base="..."..., iov_len=65536}], 1, 4096) = 65536 <0.100000>
1700000020.000000 ioctl(9, FIFREEZE, 0) = 0 <0.020000>
1700000020.030000 ioctl(5, _IOC(_IOC_READ|_IOC_WRITE, 0x58, 0x3b, 0xc0), 0x7f) = 0 <0.001000>
1700000020.100000 ioctl(9, FITHAW, 0) = 0 <0.004000>
1700000020.110000 preadv(5, [{iov_base="..."..., iov_len=65536}], 1, 4096) = 65536 <0.100000>
+++ exited with 0 +++
"""
OTHER = """\
1700000020.040000 preadv(5, [{iov_base="..."..., iov_len=1048576}], 1, 0) = 1048576 <0.010000>
1700000020.050000 preadv(5, [{iov_base="..."..., iov_len=1048576}], 1, 99) = 1048576 <0.030000>
1700000020.090000 preadv(5,  <detached ...>
"""


def test_the_moment_is_taken_apart() -> None:
    parts = parts_of([*THREAD.splitlines(), *OTHER.splitlines()])
    assert parts.freeze == pytest.approx(20, abs=0.1)
    assert parts.prepare == pytest.approx(20, abs=0.1)
    assert parts.read == pytest.approx(40, abs=0.1)
    assert parts.end == pytest.approx(20, abs=0.1)
    assert parts.thaw == pytest.approx(4, abs=0.1)


def test_without_reading_all_before_the_thaw_is_preparing() -> None:
    parts = parts_of(THREAD.splitlines())
    assert (parts.read, parts.end) == (0, 0)
    assert parts.prepare == pytest.approx(80, abs=0.1)


def test_a_freeze_without_thaw_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="frozen moment"):
        parts_of(THREAD.splitlines()[:3])
