"""A receiver that also gives a seed's secret, and makes a version of a seed as the server does."""

from __future__ import annotations

import json
from pathlib import Path

from agent_receiver import Receiver

from notfallserver.server.pool.version import Version
from notfallserver.wire.frames import readable_codecs
from notfallserver.wire.seed import Seed

SECRET = "what both sides know"
NOW_MS = 1_700_000_000_000


class SeedReceiver(Receiver):
    """``stamp``: under which version the agent said that the seed is whole."""

    stamp = ""

    def answer(self, path: str, body: bytes) -> bytes:
        parts = path.split("/")[3:]
        if parts == ["seeds"]:
            told = {"seed": "5eed" * 8, "secret": SECRET, "now_ms": NOW_MS, "name": "shop"}
            return json.dumps({**told, "codecs": readable_codecs()}).encode()
        if parts[0] == "seeds":
            self.stamp = str(json.loads(body)["stamp"])
            return b"{}"
        return super().answer(path, body)

    def take(self, directory: Path) -> Version:
        """The version that the seed is."""
        seed = Seed(directory)
        seed.check(SECRET)
        body = seed.told["seal"]
        machine = {"machine": body["machine"], "codecs": readable_codecs()}
        run = str(self.runs.begin(self.uuid, "test", machine)["run"])
        for _, frame in seed.frames(SECRET):
            if frame.startswith(b"NFH1"):
                self.runs.punch(self.uuid, run, frame)
            else:
                self.runs.receive(self.uuid, run, frame)
        found = self.runs.seal(self.uuid, run, body).version
        assert found is not None
        return found
