"""What is proved of a copy, in plain words. Pure."""

from __future__ import annotations

from notfallserver.server.pool.proof import Grade
from notfallserver.server.web.words.situation import Light

GRADES: dict[Grade, str] = {
    Grade.NONE: "",
    Grade.PREPARED: "",
    Grade.CHECKED: "its file systems are sound",
    Grade.STARTED: "started in a rehearsal",
    Grade.SERVING: "started in a rehearsal, and its services answered",
}
"""What is worth a word beside "ready to start"."""
FAILED: dict[Grade, str] = {
    Grade.CHECKED: "a file system in it is damaged",
    Grade.STARTED: "did not start in a rehearsal",
    Grade.SERVING: "started in a rehearsal, but not all its services answered",
}
TEXTS = tuple(text for text in (*GRADES.values(), *FAILED.values()) if text)


def proof_words(grade: Grade, failed_step: Grade | None) -> tuple[Light, str]:
    """A light and a few words; no words where nothing was found out."""
    if failed_step is not None:
        return Light.WARN, FAILED[failed_step]
    return Light.GOOD, GRADES[grade]
