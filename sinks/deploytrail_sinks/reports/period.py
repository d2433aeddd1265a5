"""The time that a report is about: a month or a quarter in a time zone."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from deploytrail_schemas.errors import ConfigurationError
from deploytrail_schemas.instants import check_range, format_instant, to_micros

_MONTH = re.compile(r"(\d{4})-(0[1-9]|1[0-2])")
_QUARTER = re.compile(r"(\d{4})-[Qq]([1-4])")


@dataclass(frozen=True, slots=True)
class Period:
    """From `start` to before `end`, µs since the epoch. `label`: as it was asked for."""

    label: str
    zone: str
    start: int
    end: int

    def __str__(self) -> str:
        return f"{self.label} ({format_instant(self.start)} to before {format_instant(self.end)}, {self.zone})"


def month(text: str, zone: str = "UTC") -> Period:
    """The period of `2026-10`; ConfigurationError for anything else."""
    found = _MONTH.fullmatch(text)
    if found is None:
        raise ConfigurationError(f"{text!r} is no month; expected one such as 2026-10")
    return _period(text, zone, int(found[1]), int(found[2]), 1)


def quarter(text: str, zone: str = "UTC") -> Period:
    """The period of `2026-Q4`; ConfigurationError for anything else."""
    found = _QUARTER.fullmatch(text)
    if found is None:
        raise ConfigurationError(f"{text!r} is no quarter; expected one such as 2026-Q4")
    return _period(text, zone, int(found[1]), int(found[2]) * 3 - 2, 3)


def zone_of(name: str) -> tzinfo:
    """The time zone of a name; ConfigurationError."""
    try:
        return UTC if name == "UTC" else ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ConfigurationError(f"{name!r} is no IANA time zone; expected one such as Europe/Berlin") from None


def _period(label: str, zone: str, year: int, first: int, months: int) -> Period:
    where = zone_of(zone)
    behind = year * 12 + first - 1 + months
    begins, ends = datetime(year, first, 1, tzinfo=where), datetime(behind // 12, behind % 12 + 1, 1, tzinfo=where)
    try:
        return Period(label, zone, check_range(to_micros(begins)), check_range(to_micros(ends)))
    except ValueError:
        raise ConfigurationError(f"{label!r} lies outside the years 2000 to 2099") from None
