"""Is a service as healthy after a change as it was before?

In: health checks of one place, by series. Out: whether the last three of each series are in the band of the time before
the change: the median of their values within the median ± 3 standard deviations, those estimated from the median
absolute deviation (x 1.4826, Rousseeuw and Croux 1993), and never narrower than 5 % of the median; without values, all
three are healthy, unless half and more were not before either.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import isfinite
from statistics import median
from typing import Any

from deploytrail_schemas.reasons import Reason

MINUTE = 60_000_000
_LAST = 3
_LEAST_FOR_A_BAND = 5
_MAD_TO_SIGMA, _SIGMAS, _LEAST_WIDTH = 1.4826, 3.0, 0.05
# A health check: `at` and `width` (µs), `id`, `series`, `healthy`, `value`.
Seen = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Check:
    """One check: whether it holds (None: cannot be told), why not, and what was seen."""

    holds: bool | None
    reason: Reason | None
    words: str


def between(seen: Iterable[Seen], begin: int, end: int) -> list[Seen]:
    """What was surely seen from a time on, up to another, in order."""
    inside = [one for one in seen if one["at"] - one["width"] >= begin and one["at"] <= end]
    return sorted(inside, key=lambda one: (one["at"], one["id"]))


def usual_health(health: Iterable[Seen], broke: int | None, baseline_minutes: float, end: int, deadline: int) -> Check:
    """Whether health from `end` to `deadline` (µs) is that of so many minutes before `broke`; None: that is unknown."""
    health = list(health)
    series: dict[str, list[Seen]] = defaultdict(list)
    for one in between(health, end, deadline):
        series[one["series"]].append(one)
    earlier: dict[str, list[Seen]] = defaultdict(list)
    if broke is not None:
        for one in health:
            if broke - baseline_minutes * MINUTE <= one["at"] and one["at"] + one["width"] < broke:
                earlier[one["series"]].append(one)
    found = {name: _in_band(seen[-_LAST:], earlier[name]) for name, seen in sorted(series.items())}
    out = [words for holds, words in found.values() if holds is False]
    held = [words for holds, words in found.values() if holds is True]
    if out:
        return Check(False, Reason.HEALTH_OUT_OF_BAND, out[0])
    return Check(True, None, held[0]) if held else Check(None, Reason.NO_HEALTH_SEEN, "no health check after it")


def _in_band(last: list[Seen], before: list[Seen]) -> tuple[bool | None, str]:
    usual, values = _values(before), _values(last)
    if values and len(usual) >= _LEAST_FOR_A_BAND:
        middle = median(usual)
        deviation = median(abs(value - middle) for value in usual)
        width = max(_SIGMAS * _MAD_TO_SIGMA * deviation, _LEAST_WIDTH * abs(middle))
        now = median(values)
        return abs(now - middle) <= width, f"{now:g} in {middle - width:g} to {middle + width:g} before"
    told = [one["healthy"] for one in last if one["healthy"] is not None]
    if not told:
        return None, "no word of health"
    was = [one["healthy"] for one in before if one["healthy"] is not None]
    sick = bool(was) and sum(was) <= len(was) / 2
    return sick or all(told), f"{sum(told)} of the last {len(told)} healthy, {sum(was)} of {len(was)} before"


def _values(seen: list[Seen]) -> list[float]:
    """What was measured; a trail of an earlier version may hold numbers that are none."""
    return [one["value"] for one in seen if one["value"] is not None and isfinite(one["value"])]
