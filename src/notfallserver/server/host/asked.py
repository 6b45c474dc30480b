"""Asking a filesystem for what not every one has: an ioctl that may be refused."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

_CANNOT = (errno.ENOTTY, errno.EOPNOTSUPP, errno.EPERM, errno.EACCES, errno.EINVAL, errno.ENOSYS)


@dataclass
class Asked:
    """``granted`` is known after the block; False where there is nothing of that kind, or we may
    not ask for it."""

    granted: bool = False


@contextmanager
def asked() -> Iterator[Asked]:
    """A refusal ends the block and is no error; other errors are."""
    answer = Asked()
    try:
        yield answer
        answer.granted = True
    except OSError as error:
        if error.errno not in _CANNOT:
            raise
