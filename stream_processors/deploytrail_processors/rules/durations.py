"""Durations as RFC 5545, 3.3.6 and ISO 8601 write them: P1D, PT8H, P2DT30M."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta

LONGEST_DAYS = 3660
_DURATION = re.compile(
    r"\+?P(?=[\dT])(?:(\d{1,4})W)?(?:(\d{1,4})D)?(?:T(?=\d)(?:(\d{1,5})H)?(?:(\d{1,7})M)?(?:(\d{1,9})S)?)?", re.ASCII
)


@dataclass(frozen=True, slots=True)
class Duration:
    """Days from one local time to the same one, and then an exact time."""

    days: int = 0
    exact: timedelta = timedelta(0)


def read_duration(text: str) -> Duration:
    """The duration of a text such as PT8H; ValueError for what is none, is nothing, or is above ten years."""
    match = _DURATION.fullmatch(text)
    weeks, days, hours, minutes, seconds = (int(part or 0) for part in match.groups()) if match else (0,) * 5
    found = Duration(weeks * 7 + days, timedelta(hours=hours, minutes=minutes, seconds=seconds))
    if not found.days and not found.exact:
        raise ValueError(f"is {text!r}; expected a duration such as PT8H or P1D")
    if timedelta(found.days) + found.exact > timedelta(LONGEST_DAYS):
        raise ValueError(f"is {text!r}; expected at most {LONGEST_DAYS} days")
    return found
