"""Encryption by the program ``age`` (Debian's package of that name), so that anybody can decrypt
what we wrote. Recipients are public keys; the identity that opens them never lies on this server.
"""

from __future__ import annotations

import re
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path

from notfallserver.server.host.run import ENVIRONMENT, run
from notfallserver.wire.errors import NotfallError

_RECIPIENT = re.compile(r"age1[0-9a-z]{58}")


def check_recipients(recipients: Sequence[str]) -> tuple[str, ...]:
    for one in recipients:
        if not _RECIPIENT.fullmatch(one):
            raise NotfallError(
                "bad-recipient",
                f"'{one[:80]}' is no public key of age.",
                "It looks like age1... and is made by: notfall tape key",
            )
    return tuple(recipients)


def new_key() -> tuple[str, str]:
    """The secret line, and the public key that belongs to it."""
    told = run(["age-keygen"])
    secret = next(line for line in told.out.splitlines() if line.startswith("AGE-SECRET-KEY-"))
    public = re.search(_RECIPIENT, told.out + told.err)
    if public is None:
        raise NotfallError("internal", "age-keygen told no public key.", status=500)
    return secret, public[0]


def encrypt(parts: Sequence[bytes], recipients: Sequence[str]) -> bytes:
    line = ["age"]
    for one in recipients:
        line += ["-r", one]
    done, words = _through(line, parts)
    if words is not None:
        raise NotfallError(
            "encryption-failed",
            f"age could not encrypt: {words}",
            "See the server's log.",
            status=500,
        )
    return done


def decrypt(data: bytes, identity: Path) -> tuple[bytes, str]:
    """What could be decrypted, and what age says where that is not all (empty: it is)."""
    done, words = _through(["age", "-d", "-i", str(identity)], [data])
    return done, words or ""


def _through(line: Sequence[str], parts: Sequence[bytes]) -> tuple[bytes, str | None]:
    try:
        process = subprocess.Popen(
            line,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=ENVIRONMENT,
        )
    except FileNotFoundError:
        raise NotfallError(
            "command-missing",
            "The program 'age' is not installed.",
            "Install it with the distribution's package manager (package age).",
            status=500,
        ) from None
    stdin, stdout, stderr = process.stdin, process.stdout, process.stderr
    if stdin is None or stdout is None or stderr is None:
        raise NotfallError("internal", "age has no pipes.", status=500)
    words: list[bytes] = []

    def feed() -> None:
        try:
            for one in parts:
                stdin.write(one)
            stdin.close()
        except BrokenPipeError:
            pass  # its words tell why

    feeder = threading.Thread(target=feed, daemon=True)
    hearer = threading.Thread(target=lambda: words.append(stderr.read()), daemon=True)
    feeder.start()
    hearer.start()
    out = stdout.read()
    feeder.join()
    hearer.join()
    code = process.wait()
    for pipe in (stdout, stderr):
        pipe.close()
    return out, (b"".join(words).decode(errors="replace").strip() or "?") if code else None
