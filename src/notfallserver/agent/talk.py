"""What a run says to its server and hears from it: begin, progress, failure, seal.

One per run, on a line of its own; used by the run's own thread.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, Tuple

from notfallserver.agent.line import Line
from notfallserver.agent.pace import Pace
from notfallserver.agent.stop import Stop
from notfallserver.wire.allowance import read_allowance
from notfallserver.wire.errors import NotfallError


@dataclass(frozen=True)
class Begun:
    """What the server says at a run's beginning.

    ``base``: the version that what arrives is put on, empty if there is none. ``empty``: nothing
    is there that an offer could be compared with.
    """

    base: str
    codec: int
    codecs: Tuple[int, ...]
    empty: bool


class Talk:
    """:class:`NotfallError` where the server refuses, or can't be reached for a minute."""

    def __init__(self, line: Line, pace: Pace, stop: Stop) -> None:
        self._line = line
        self._pace = pace
        self._stop = stop
        self.path = ""
        """Of the run, as soon as the server knows it: then it also hears how the run ends."""

    def begin(self, body: Dict[str, Any]) -> Begun:
        answer = self._line.call("/agent/v1/runs", body)
        self._pace.allow(read_allowance(answer.get("allowance")))
        self._pace.expect(answer.get("line_rate"))
        self.path = f"/agent/v1/runs/{answer.get('run', '')}"
        base, told = str(answer.get("base", "")), answer.get("codecs")
        codecs = [one for one in told if isinstance(one, int)] if isinstance(told, list) else []
        empty = not base and answer.get("resumed") is False
        return Begun(base, int(answer.get("codec", 0)), tuple(codecs), empty)

    def progress(self, phase: str, number: int, done: int, total: int) -> None:
        """Tell how far pass ``number`` is, in bytes; leave when asked to."""
        self._stop.check()
        held = self._pace.watch(phase == "hot")
        body = {
            "phase": f"paused: {held}" if held else phase,
            "pass": number,
            "done": done,
            "total": total,
        }
        answer = self._line.call(f"{self.path}/progress", body)
        self._pace.allow(read_allowance(answer.get("allowance")))
        if answer.get("cancelled") is True:
            raise NotfallError("cancelled", "The replication was cancelled.", status=409)

    def fail(self, error: NotfallError) -> None:
        """Tell why the run ends; one try."""
        try:
            self._line.call(f"{self.path}/fail", error.to_json(), timeout=10, patience=0)
        except NotfallError:
            pass  # it is in the agent's log; the server notices the silence

    def seal(self, path: str, body: Dict[str, Any]) -> str:
        """The version that came of a run; an empty ``body`` only asks."""
        return str(self._line.call(f"{path}/seal", body, timeout=600).get("version", ""))

    def close(self) -> None:
        self._line.close()
