"""What the figures are to reach; the page tells of each whether it is reached."""

from __future__ import annotations

from dataclasses import dataclass

SLOWER_THAN_DD = 1.15
FASTER_LATER = 10
MORE_BYTES = 1.05
FREEZE_MS = 1000
LOAD_MS = 200
OWN_S = 3
EIGHT_S = 60


@dataclass(frozen=True)
class Goal:
    """``least`` or ``most`` is the bound of the figure ``key``; ``told`` says it in words."""

    what: str
    key: str
    told: str
    least: float = float("-inf")
    most: float = float("inf")

    def met(self, value: float) -> bool:
        return self.least <= value <= self.most


GOALS = (
    Goal(
        "full copy against dd of the same blocks",
        "full_vs_dd",
        f"at most {SLOWER_THAN_DD} x its time: at least {1 / SLOWER_THAN_DD:.2f}",
        least=1 / SLOWER_THAN_DD,
    ),
    *(
        Goal(f"full copy against {tool}", f"full_vs_{tool}", "faster: above 1", least=1)
        for tool in ("rsync", "bdsync", "borg", "restic", "nbdcopy", "nbdcopy_tls")
    ),
    *(
        Goal(
            f"1 % changed, 40 GiB, 100,000 files, against {tool}",
            f"incremental_vs_{tool}_40gib",
            f"at least {FASTER_LATER} x faster",
            least=FASTER_LATER,
        )
        for tool in ("rsync", "bdsync", "borg", "restic", "nbdcopy")
    ),
    Goal(
        "sent, against the changed blocks packed by zlib",
        "incremental_sent_vs_packed_ideal",
        f"at most {MORE_BYTES}",
        most=MORE_BYTES,
    ),
    *(
        Goal(
            f"freeze, 1,000,000 files, {filesystem}, under load, ms",
            f"freeze_ms_1m_files_{filesystem.lower()}",
            f"at most {FREEZE_MS}",
            most=FREEZE_MS,
        )
        for filesystem in ("ext4", "XFS")
    ),
    *(
        Goal(
            f"activation's own part, image of {told}, s",
            f"activation_own_s_{size}",
            f"at most {OWN_S}",
            most=OWN_S,
        )
        for size, told in (("1gib", "1 GiB"), ("4tib", "4 TiB"))
    ),
    Goal(
        "8 stand-ins at once, until the last one boots, s",
        "activation_own_s_8_at_once",
        f"at most {EIGHT_S}",
        most=EIGHT_S,
    ),
    *(
        Goal(
            f"{page} with 200 servers, 100,000 entries, in a browser, ms",
            f"page_load_ms_{page}",
            f"at most {LOAD_MS}",
            most=LOAD_MS,
        )
        for page in ("home", "primary", "journal", "jobs")
    ),
)
