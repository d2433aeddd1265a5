"""Receipts of purges: what went, and whether the act that says so excuses it. Pure.

Whoever may write to the store can write a receipt, and one principal alone must not undo what two have to release.
So a receipt excuses a segment where a principal signed it, no hold was on the segment at that act, and the date that it
names was over then, and is. It may say the log's minimum index, too: bundles of entries below it may be gone then.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from deploytrail_sinks.archive.acts import Act
from deploytrail_sinks.archive.holds import Hold, active_on, holds_of
from deploytrail_sinks.archive.log.names import TILE_WIDTH
from deploytrail_sinks.archive.segment import gaps_in
from deploytrail_sinks.archive.store import is_date

PURGED = "purged"
MINIMUM = "minimum_index"  # what a receipt calls that of the log


@dataclass(frozen=True, slots=True)
class Gone:
    """A segment as a receipt names it. `retain_until`: the latest date that it was known to be kept until."""

    name: str
    sha256: str
    version: str
    first_offset: int
    last_offset: int
    records: int
    retain_until: str = ""
    gaps: str = ""  # as the segment wrote them: its entries in the log can be made again, all but those of records

    @property
    def folder(self) -> str:
        """The sequence that it is of."""
        return self.name.rpartition("/")[0]

    @property
    def entries(self) -> int:
        """How many it has in the log; 0 where nobody can tell."""
        try:
            return 1 + len(gaps_in(self.gaps)) + self.records
        except ValueError:
            return 0


@dataclass(frozen=True, slots=True)
class Minimum:
    """The log's minimum index: no bundle that ends at it or before need be there. `raised`: each index that receipts
    said, and when, ever higher. `why_not`: why a receipt that says more does not count."""

    raised: tuple[tuple[int, datetime], ...] = ()
    why_not: str = ""

    @property
    def index(self) -> int:
        """The highest of them."""
        return self.raised[-1][0] if self.raised else 0

    @property
    def bundles(self) -> int:
        """How many bundles, from the first on, need not be there."""
        return self.index // TILE_WIDTH

    def since(self, bundle: int) -> datetime:
        """Since when one of these need not be there: by the first receipt that says so, whatever later ones say."""
        return next(at for index, at in self.raised if bundle < index // TILE_WIDTH)


@dataclass(frozen=True, slots=True)
class Receipts:
    """`gone`: the segments that are excused; `void`: those that a receipt names and none excuses, and why not."""

    gone: tuple[Gone, ...] = ()
    void: Mapping[str, str] = field(default_factory=dict)
    minimum: Minimum = Minimum()


NO_RECEIPTS = Receipts()


def judge(acts: Iterable[Act], now: datetime) -> Receipts:
    """What the receipts among all acts, in order, excuse. `now`: an act of the future excuses no more than it does."""
    before: list[Act] = []
    gone: list[Gone] = []
    void: dict[str, str] = {}
    minimum = Minimum()
    for act in acts:
        if act.kind == PURGED:
            unsigned = _unsigned(act)
            minimum = _raised(minimum, act, unsigned, now)
            holds = [] if unsigned else list(holds_of(before).values())
            for item in _named(act):
                why = unsigned or _why_not(item, act, holds, now)
                if why:
                    void[item.name] = f"the receipt of act {act.number} does not excuse it: {why}"
                else:
                    gone.append(item)
        before.append(act)
    excused = {item.name for item in gone}
    return Receipts(tuple(gone), {name: why for name, why in void.items() if name not in excused}, minimum)


def _raised(before: Minimum, act: Act, unsigned: str, now: datetime) -> Minimum:
    """The minimum index behind a receipt: it only rises."""
    index = act.said.get(MINIMUM)
    if type(index) is not int or index <= before.index:
        return before
    if why := unsigned or ("" if is_date(act.at) else "it says no date that it is of"):
        return replace(before, why_not=f"the receipt of act {act.number} does not excuse it: {why}")
    return replace(before, raised=(*before.raised, (index, min(datetime.fromisoformat(act.at), now))))


def _unsigned(act: Act) -> str:
    if act.verified is None:
        return "nobody said whose receipts count (--principals FILE)"
    return "" if act.verified else "it is signed by no principal"


def _why_not(item: Gone, act: Act, holds: list[Hold], now: datetime) -> str:
    if held := active_on(item.name, holds):
        return f"{', '.join(held)} was on it"
    if not is_date(item.retain_until) or not is_date(act.at):
        return "it says no date that it was kept until, or none that it is of"
    at = min(datetime.fromisoformat(act.at), now)
    if datetime.fromisoformat(item.retain_until) > at:
        return f"it was kept until {item.retain_until}"
    return ""


def _named(act: Act) -> Iterator[Gone]:
    """The segments that a receipt names, as far as it says what went."""
    listed = act.said.get("segments")
    for item in listed if isinstance(listed, list) else ():
        try:
            yield Gone(
                str(item["name"]),
                str(item["sha256"]),
                str(item["version"]),
                int(item["first_offset"]),
                int(item["last_offset"]),
                int(item["records"]),
                str(item.get("retain_until", "")),
                str(item.get("gaps", "")),
            )
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
            continue
