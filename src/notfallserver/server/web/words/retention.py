"""Why copies stay or go, in plain words (pure)."""

from __future__ import annotations

from notfallserver.server.cycle.retention.in_use import Use
from notfallserver.server.cycle.retention.plan import Keep

KEEPS = {
    Keep.NEWEST: "the newest",
    Keep.NEWEST_SOUND: "the newest that is sound",
    Keep.NEWEST_PROVEN: "the newest that is proven to start",
    Keep.PROVEN: "proven to start",
    Keep.PINNED: "pinned",
    Keep.IN_USE: "in use just now",
    Keep.FLOOR: "the last of its day, stays even when space runs out",
    Keep.ALL: "of the last hours",
    Keep.HOURLY: "the last of its hour",
    Keep.DAILY: "the last of its day",
    Keep.WEEKLY: "the last of its week",
    Keep.MONTHLY: "the last of its month",
    Keep.YEARLY: "the last of its year",
    Keep.NOT_NORMAL: "nothing is removed while the server is not at work",
    Keep.CLOCK: "nothing is removed while the clock can't be believed",
}
USES = {
    Use.STANDIN: "by the stand-in",
    Use.RUN: "by a copy that is being made",
    Use.WISH: "by a start, a return or a trial period",
    Use.TARGET: "by a machine that is being brought back",
    Use.JOB: "by something that is under way",
    Use.FILES: "by somebody who looks at its files",
}
RULES = (
    ("all_hours", "Every copy of the last hours"),
    ("hourly", "Hours of which the last copy stays"),
    ("daily", "Days of which the last copy stays"),
    ("weekly", "Weeks of which the last copy stays"),
    ("monthly", "Months of which the last copy stays"),
    ("yearly", "Years of which the last copy stays"),
    ("proven", "Copies proven to start that stay at least"),
    ("floor_days", "Days of which the last copy stays even when space runs out"),
)
"""As they stand in forms."""
RETENTION = {
    "bad-rules": (
        "These rules make no sense.",
        "At least one proven copy and the last copy of one day must stay.",
    ),
    "version-must-stay": (
        "This copy must stay.",
        "The newest copy, the newest sound one and the newest that is proven to start can't be "
        "deleted, nor one that is pinned.",
    ),
    "version-pinned": ("This copy is pinned.", "Unpin it first, if it is really not needed."),
    "pins-unreadable": (
        "It can't be read which copies are pinned, so nothing is removed.",
        "Call whoever looks after the emergency server.",
    ),
    "no-reason": (
        "A pinned copy needs a reason.",
        "Say why it must stay, so that others know when it may go.",
    ),
    "not-pinned": ("This copy is not pinned.", "Look at the list again."),
    "no-deletion": ("This copy is not to be deleted.", "Look at the list again."),
    "same-person": (
        "You ordered this deletion yourself.",
        "Another administrator has to confirm it.",
    ),
}
TEXTS = (*KEEPS.values(), *USES.values(), *(text for _, text in RULES))
