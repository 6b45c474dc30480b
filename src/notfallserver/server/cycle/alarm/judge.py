"""Is a new version suspicious? Pure; ``docs/architecture.md`` has the formulas beside each other.

Five signs, each enough by itself, all bounded below so that a few odd blocks or files say nothing:

- *scrambled*: of the watched files that are found again, 8 % (and 4) lost their kind or look random
  and did not, against the version before or one up to a week older;
- *renamed*: 25 % (and 8) have a new extension, most of them the same one, or the 8 % with it;
- *strange*: 25 points more of all watched files (and 8 more) look random and say to be nothing, and
  blocks show something, too (0.2 % and 8 turned or moved): a new backup repository only adds;
- *turned*: blocks that held something and hold random bytes now: 1 % of those in use (and 2 MiB)
  within a day, or 3 % within a week; counted only of versions in which 25 % of what was rewritten
  turned so;
- *moved*: as many random blocks appeared as blocks with content vanished (half to double): 8 %
  within a day, or 15 % within a week. So works an archive that replaces what it holds, therefore
  the higher bounds.

Where nearly all is random anyway (an encrypted volume below a filesystem), blocks say nothing and
only the *rate* of change is left: 40 % of all, more than the median of what was before plus eight
times its deviation (MAD), and half as much again as ever before.

What a person called well raises the bounds of blocks to half as much again as was reached then, and
files are compared only with versions since.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from statistics import median

from notfallserver.server.pool.layout import stamp_time
from notfallserver.server.pool.measures import Alarm, Answer, Measures, Reason

DAY, WEEK = timedelta(days=1), timedelta(days=7)
HIT_SHARE, HITS = 0.08, 4
RENAMED_SHARE, RENAMED = 0.25, 8
STRANGE_SHARE, STRANGE = 0.25, 8
AGREES, AGREES_BLOCKS = 0.002, 8
TURNED = {DAY: 0.01, WEEK: 0.03}
TURNED_BLOCKS, TURNED_OF_REWRITTEN = 32, 0.25
MOVED = {DAY: 0.08, WEEK: 0.15}
MOVED_BLOCKS, BALANCE = 64, 2.0
DARK_SHARE, DARK_READ = 0.8, 20
RATE, RATE_HISTORY, DEVIATIONS, MORE_THAN_EVER = 0.4, 7, 8.0, 1.5
ACCEPTED = 1.5
LULL, LULL_WIDE = 2, timedelta(hours=26)
TRACE = 3
_MAD = 1.4826  # makes it the standard deviation of what is spread normally


@dataclass(frozen=True)
class Measured:
    """A version and what it shows."""

    stamp: str
    measures: Measures


@dataclass(frozen=True)
class Verdict:
    """Calm without reasons. ``clean``: the last version before its first trace, if there is
    one; ``levels``: what the signs of blocks reached, as shares of what is in use."""

    reasons: tuple[Reason, ...] = ()
    clean: str = ""
    levels: Mapping[str, float] = field(default_factory=dict)

    @property
    def suspicious(self) -> bool:
        return bool(self.reasons)


def turned_blocks(one: Measures) -> float:
    """Blocks that held something and are random now, by the sample; 0 below the noise."""
    share = one.turned / one.rewritten_read if one.rewritten_read else 0.0
    return one.rewritten * share if share >= TURNED_OF_REWRITTEN else 0.0


def moved_blocks(one: Measures) -> float:
    """Blocks whose content vanished while as many random ones appeared; 0 where that is not so."""
    came = one.fresh * one.fresh_random / one.fresh_read if one.fresh_read else 0.0
    went = one.emptied * one.content_gone / one.emptied_read if one.emptied_read else 0.0
    if not came or not went or max(came, went) > BALANCE * min(came, went):
        return 0.0
    return min(came, went)


def is_dark(one: Measures) -> bool:
    """What was rewritten was random before nearly everywhere: blocks say nothing."""
    return one.rewritten_read >= DARK_READ and one.dark >= DARK_SHARE * one.rewritten_read


def usual_rate(history: Sequence[Measures]) -> float | None:
    """The share of changed blocks above which a version is unusual; None while too little is
    known."""
    rates = [one.change_rate for one in history if one.used]
    if len(rates) < RATE_HISTORY:
        return None
    middle = median(rates)
    spread = median(abs(one - middle) for one in rates) * _MAD
    return max(middle + DEVIATIONS * spread, MORE_THAN_EVER * max(rates))


def leaves_trace(one: Measures) -> bool:
    """Whether it may belong to what an alarm was raised about, however little it shows."""
    return bool(
        one.turned >= TRACE
        or moved_blocks(one) >= TRACE
        or one.files.hit >= 2
        or one.files.strange >= one.files.strange_before + HITS
    )


def judge(
    this: Measured, earlier: Sequence[Measured], alarms: Sequence[Alarm], there: Sequence[str]
) -> Verdict:
    """``earlier``: what is known of versions before, the oldest first; ``there``: the stamps of
    those that still exist."""
    since = max((one.until for one in alarms if one.until), default="")
    accepted = _accepted(alarms)
    known = [one for one in earlier if since < one.stamp < this.stamp]
    reasons = list(_of_files(this.measures))
    levels: dict[str, float] = {}
    wide = False
    for sign, count, limits, least in (
        ("turned", turned_blocks, TURNED, TURNED_BLOCKS),
        ("moved", moved_blocks, MOVED, MOVED_BLOCKS),
    ):
        if not count(this.measures):
            continue
        for span, limit in limits.items():
            blocks = sum(count(one.measures) for one in (*_within(known, this, span), this))
            share = blocks / this.measures.used if this.measures.used else 0.0
            levels[sign] = max(levels.get(sign, 0.0), share)
            if blocks < least or share < max(limit, ACCEPTED * accepted.get(sign, 0.0)):
                continue
            if not any(one.key == sign for one in reasons):
                wide = wide or count(this.measures) < blocks / 2
                reasons.append(_of_blocks(sign, this.measures, blocks, share, span))
    rate = this.measures.change_rate
    limit_of_rate = usual_rate([one.measures for one in known])
    if is_dark(this.measures) and limit_of_rate is not None:
        levels["rate"] = rate
        if rate >= max(RATE, limit_of_rate, ACCEPTED * accepted.get("rate", 0.0)):
            usual = median(one.measures.change_rate for one in known if one.measures.used)
            values = {"percent": _percent(rate), "usual": _percent(usual)}
            reasons.append(Reason("rate", values))
    if not reasons:
        return Verdict(levels=levels)
    files = this.measures.files
    wide = wide or bool(files.since and files.since != this.measures.base)
    return Verdict(tuple(reasons), _clean(this, earlier, there, wide), levels)


def _of_files(measures: Measures) -> list[Reason]:
    found, files = [], measures.files
    examples = "; ".join(files.examples)
    told = {"compared": files.compared, "examples": examples}
    if files.scrambled >= max(HITS, HIT_SHARE * files.compared):
        found.append(Reason("scrambled", {"count": files.scrambled, **told}))
    enough = files.alike >= max(RENAMED, RENAMED_SHARE * files.compared)
    both = files.hit >= max(HITS, HIT_SHARE * files.compared) and files.scrambled >= files.hit / 2
    if enough or (both and files.renamed >= HITS):
        values = {"count": files.renamed, "extension": files.extension, **told}
        found.append(Reason("renamed", values))
    if files.seen and files.seen_before:
        before, now = files.strange_before / files.seen_before, files.strange / files.seen
        more = files.strange - files.strange_before
        if now - before >= STRANGE_SHARE and more >= STRANGE and _blocks_agree(measures):
            found.append(Reason("strange", {"count": files.strange, "seen": files.seen}))
    return found


def _blocks_agree(one: Measures) -> bool:
    """Whether something became random, not only came; what is dark can't tell."""
    least = max(AGREES_BLOCKS, AGREES * one.used)
    return is_dark(one) or turned_blocks(one) + moved_blocks(one) >= least


def _of_blocks(sign: str, one: Measures, blocks: float, share: float, span: timedelta) -> Reason:
    values = {
        "mib": round(blocks / 16),
        "percent": _percent(share),
        "days": span.days,
        "of_changed": _percent(one.turned / one.rewritten_read if one.rewritten_read else 0.0),
    }
    return Reason(sign, values)


def _within(known: Sequence[Measured], this: Measured, span: timedelta) -> list[Measured]:
    begin = stamp_time(this.stamp) - span
    return [one for one in known if stamp_time(one.stamp) > begin]


def _accepted(alarms: Sequence[Alarm]) -> dict[str, float]:
    found: dict[str, float] = {}
    for one in alarms:
        if one.answer is Answer.WELL:
            for sign, level in one.levels.items():
                found[sign] = max(found.get(sign, 0.0), level)
    return found


def _clean(this: Measured, earlier: Sequence[Measured], there: Sequence[str], wide: bool) -> str:
    """The newest before the first of the traces that lead up to this version. A lull of two
    versions does not end them, and of a day where it came little by little (``wide``)."""
    begin, lull = this.stamp, 0
    before = [one for one in earlier if one.stamp < this.stamp]
    for one in reversed(_within(before, this, WEEK)):
        if leaves_trace(one.measures):
            begin, lull = one.stamp, 0
            continue
        lull += 1
        if lull > LULL and not (wide and stamp_time(begin) - stamp_time(one.stamp) < LULL_WIDE):
            break
    return max((one for one in there if one < begin), default="")


def _percent(share: float) -> float:
    return round(100 * share, 1)
