"""A server's documents are encrypted by somebody who broke in, between two steps of a cycle.

The encryption is real: AES-256 in counter mode by the guest's own OpenSSL, file by file in place,
each with a new extension, as such programs do it. No document is spared and no key is kept.
"""

from __future__ import annotations

import time
from typing import Any

from notfall_lab.cycle import Play

DOCUMENTS = "/srv/documents"
COUNT = 600
LOCKED = "locked"
MEASURED_S = 120.0
_LIST = "/root/documents.sums"

_BRING = f"""
set -e
mkdir -p {DOCUMENTS}
find /usr/share/doc /usr/lib/python3* /usr/share/perl* -type f -size +2k 2>/dev/null |
    grep -E '[.](py|pm|gz|txt)$|copyright$' | sort | head -{COUNT} > /tmp/documents
xargs -a /tmp/documents cp --parents -t {DOCUMENTS}
cd {DOCUMENTS}
sed 's|^/||' /tmp/documents | xargs sha256sum > {_LIST}
sync
wc -l < {_LIST}
"""

_ENCRYPT = f"""
import ctypes, os
crypto = ctypes.CDLL("libcrypto.so.3")
crypto.EVP_CIPHER_CTX_new.restype = crypto.EVP_aes_256_ctr.restype = ctypes.c_void_p
way = ctypes.c_void_p(crypto.EVP_aes_256_ctr())
for folder, _, names in os.walk("{DOCUMENTS}"):
    for name in names:
        path = os.path.join(folder, name)
        with open(path, "r+b") as file:
            content = file.read()
            into, done = ctypes.create_string_buffer(len(content)), ctypes.c_int()
            box = ctypes.c_void_p(crypto.EVP_CIPHER_CTX_new())
            assert crypto.EVP_EncryptInit_ex(box, way, None, os.urandom(32), os.urandom(16))
            assert crypto.EVP_EncryptUpdate(box, into, ctypes.byref(done), content, len(content))
            crypto.EVP_CIPHER_CTX_free(box)
            file.seek(0)
            file.write(into.raw)
        os.rename(path, path + ".{LOCKED}")
os.sync()
"""

_COUNT = f"""
cd {DOCUMENTS}
sha256sum --quiet --check {_LIST} | wc -l
find . -name '*.{LOCKED}' | wc -l
"""


def bring_documents(play: Play) -> None:
    """People's files, which are there before the first replication."""
    count = int(play.shell.run(_BRING, timeout=180).out)
    play.timeline.check("it holds documents", count == COUNT, f"{count}")


def encrypt(play: Play) -> None:
    """All documents, then the next replication: it is noticed, and the version before is held."""
    clean = play.world.ask(f"/primaries/{play.name}/versions")[0]["stamp"]
    with play.timeline.step("all documents are encrypted by somebody"):
        play.shell.run(f"python3 - <<'END'\n{_ENCRYPT}END\n", timeout=180)
    readable, locked = documents(play)
    play.timeline.check("not one can be read", (readable, locked) == (0, COUNT), f"{readable}")
    with play.timeline.step("the replication after it") as step:
        stamp = play.hands.replicate(play.name)["version"]
        standing = _wait_alarm(play)
        step.detail = "; ".join(sorted(one["key"] for one in standing["reasons"]))
    check = play.timeline.check
    check("the alarm is raised about it", standing["since"] == stamp, standing["since"])
    check("the version before is held", standing["clean"] == clean, standing["clean"])
    marked = [
        one["stamp"] for one in play.world.ask(f"/primaries/{play.name}/versions") if one["suspect"]
    ]
    check("what came after is marked", marked == [stamp], ", ".join(marked))


def _wait_alarm(play: Play) -> dict[str, Any]:
    until = time.monotonic() + MEASURED_S
    while True:
        told = play.world.ask(f"/primaries/{play.name}/alarm")
        if told["standing"]:
            standing: dict[str, Any] = told["standing"]
            return standing
        if time.monotonic() > until:
            raise TimeoutError(f"no alarm about {play.name}: {told['measured'][:2]}")
        time.sleep(1)


def check_documents(play: Play) -> None:
    """What works now was made of the version that was held."""
    readable, locked = documents(play)
    play.timeline.check(
        "every document can be read again", (readable, locked) == (COUNT, 0), f"{readable}"
    )


def clear(play: Play) -> None:
    """Nothing of the attack is in the versions of the stand-in and since; somebody says so."""
    versions = play.world.ask(f"/primaries/{play.name}/versions")
    marked = [one["stamp"] for one in versions if one["suspect"]]
    play.timeline.check(
        "what the stand-in and its successor wrote is not marked",
        not versions[0]["suspect"] and len(marked) <= 1,
        ", ".join(marked),
    )
    play.world.notfall("alarm", "confirm", play.name, "--reason", "somebody broke in")
    play.world.notfall("alarm", "clear", play.name, "--reason", "a new machine")
    standing = play.world.ask(f"/primaries/{play.name}/alarm")["standing"]
    play.timeline.check("the alarm is over", standing is None, f"{standing}")


def documents(play: Play) -> tuple[int, int]:
    """How many are as they were, by their hashes, and how many are locked."""
    damaged, locked = play.shell.run(_COUNT, timeout=180).out.split()
    return COUNT - int(damaged), int(locked)
