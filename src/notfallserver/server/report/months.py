"""Calendar months where the server is, and for which of them a report is due. Pure but for
:func:`local_zone`."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from zoneinfo import ZoneInfo

from babel.localtime import get_localzone

from notfallserver.wire.errors import NotfallError

_MONTH = re.compile(r"(\d{4})-(\d{2})")
MOST_MADE_UP = 12
"""So many months are made up for after a long downtime."""


@dataclass(frozen=True, order=True)
class Month:
    """Written as ``2026-10``."""

    year: int
    number: int

    def __str__(self) -> str:
        return f"{self.year:04d}-{self.number:02d}"

    @property
    def next(self) -> Month:
        return Month(self.year + self.number // 12, self.number % 12 + 1)

    @property
    def before(self) -> Month:
        return Month(self.year - (self.number == 1), (self.number - 2) % 12 + 1)

    def begin(self, zone: tzinfo) -> datetime:
        """Its first moment in ``zone``, as UTC."""
        return datetime(self.year, self.number, 1, tzinfo=zone).astimezone(UTC)


def read_month(text: str) -> Month:
    found = _MONTH.fullmatch(text)
    if found and 1 <= int(found[2]) <= 12 and int(found[1]) >= 2000:
        return Month(int(found[1]), int(found[2]))
    raise NotfallError(
        "bad-month", f"'{text[:20]}' is no month.", "Write it as 2026-10.", status=422
    )


def month_of(moment: datetime, zone: tzinfo) -> Month:
    local = moment.astimezone(zone)
    return Month(local.year, local.month)


def local_zone() -> tuple[str, tzinfo]:
    """The time zone of this machine and its name; where it has none, the distance from UTC now."""
    try:
        zone = get_localzone()
    except LookupError:  # TZ holds a rule of its own in place of a name
        zone = None
    if isinstance(zone, ZoneInfo) and zone.key:
        return zone.key, zone
    distance = datetime.now().astimezone().utcoffset() or timedelta(0)
    fixed = timezone(distance)
    return str(fixed), fixed


def due_months(
    present: Month, first: Month | None, through: Month | None, there: Collection[Month]
) -> list[Month]:
    """Past months without their report, the oldest first.

    ``first``: in which the server began (None: nothing happened yet); ``through``: the last one
    whose report was made by itself. Without that only the last month is due: else an update would
    send out years.
    """
    found: list[Month] = []
    month = present.before
    if through and through > month:
        through = None  # a clock went wrong: months to come were reported
    earliest = through.next if through else month
    while month >= earliest and first and month >= first and len(found) < MOST_MADE_UP:
        if month not in there:
            found.append(month)
        month = month.before
    return sorted(found)
