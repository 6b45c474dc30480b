"""The peers whose two halves talk over the network: here over TCP on loopback.

None has TLS of its own but NBD, which is measured with it and without.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from shlex import quote

from bench.ours import free_port
from bench.peers import LIMIT, IntoFile
from bench.sample import Sample
from notfallserver.server.authority import create_authority
from notfallserver.server.host.run import run
from notfallserver.wire.blocks import BLOCK

HOST = "127.0.0.1"


class Nbdcopy(IntoFile):
    """``nbdcopy`` from ``nbdkit``, which serves the image below the device; skips its holes.

    It knows no earlier state: a later run is a full copy again, into a new file.
    """

    name = "nbdcopy"

    def full(self) -> None:
        self.again()

    def again(self) -> None:
        self._copy([], f"nbd://{HOST}:$port")

    def _copy(self, protected: Sequence[str | Path], uri: str) -> None:
        # nbdkit ends when what it runs has ended, with the same exit code.
        serve = ["nbdkit", "--readonly", f"--ipaddr={HOST}", f"--port={free_port()}", *protected]
        copy = f'exec nbdcopy --flush "{uri}" {quote(str(self._target))}'
        run([*serve, "file", self._source, "fadvise=sequential", "--run", copy], timeout=LIMIT)


class NbdcopyTls(Nbdcopy):
    """The same over TLS with a certificate on each side, as ours: the same work for the line."""

    name = "nbdcopy_tls"

    def prepare(self) -> None:
        super().prepare()
        self._certificates = self._directory / "certificates"
        made = create_authority(self._certificates)
        made.ensure_server_certificate([HOST])
        client = made.issue_client(self.name)
        for name, text in (
            ("ca-cert.pem", made.ca_pem),
            ("server-cert.pem", made.server_certificate.read_text()),
            ("server-key.pem", made.server_key.read_text()),
            ("client-cert.pem", client.certificate),
            ("client-key.pem", client.key),
        ):
            (self._certificates / name).write_text(text)

    def again(self) -> None:
        own = f"--tls-certificates={self._certificates}"
        uri = f"nbds://{HOST}:$port/?tls-certificates={self._certificates}"
        self._copy(["--tls=require", "--tls-verify-peer", own], uri)


class Bdsync(IntoFile):
    """``bdsync`` compares hashes of blocks of both sides, reading both; a patch is piped to itself.

    The side of the pool asks, so one connection does: ``--remdata`` fetches what differs.
    """

    name = "bdsync"

    def __init__(self, sample: Sample, directory: Path, program: Path) -> None:
        super().__init__(sample, directory)
        self._program = quote(str(program))

    def prepare(self) -> None:
        super().prepare()
        with self._target.open("wb") as stream:
            stream.truncate(self._source.stat().st_size)

    def full(self) -> None:
        self.again()

    def again(self) -> None:
        target, port = quote(str(self._target)), free_port()
        listen = f"TCP-LISTEN:{port},bind={HOST},reuseaddr,nodelay"
        connect = f"socat -t0.05 -b262144 - TCP:{HOST}:{port},nodelay,retry=100,interval=0.05"
        script = f"""
            set -eo pipefail
            socat -t0.05 -b262144 {listen} EXEC:"{self._program} --server" &
            served=$!
            trap 'kill $served' EXIT
            {self._program} --remdata --zeroblocks --blocksize={BLOCK} {quote(connect)} \\
                {target} {quote(str(self._source))} |
                {self._program} --patch={target}
            wait $served
            trap - EXIT
            sync {target}
        """
        run(["bash"], text_in=script, timeout=LIMIT)


def find_bdsync(named: str | None) -> Path | None:
    """The program that was named, by option or by BDSYNC; else what is on the path, if anything.

    What was named and is not there is an error: figures without it would surprise.
    """
    wish = named or os.environ.get("BDSYNC")
    if wish:
        found = shutil.which(wish)
        if not found:
            raise SystemExit(f"bdsync: there is no program at {wish}; docs/benchmarks.md says how.")
        return Path(found)
    found = shutil.which("bdsync")
    return Path(found) if found else None
