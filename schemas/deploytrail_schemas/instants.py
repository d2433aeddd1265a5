"""Instants: microseconds since the epoch (UTC) on the wire, aware datetimes in rules."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
# Instants are accepted from 2000 to 2100: outside lies a wrong unit, not a wrong clock.
EARLIEST = 946_684_800_000_000
LATEST = 4_102_444_800_000_000
_RFC_3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:[0-5]\d)", re.ASCII)


def to_micros(at: datetime) -> int:
    """Microseconds since the epoch of an aware datetime; ValueError for a naive one."""
    if at.tzinfo is None:
        raise ValueError(f"{at!r} has no time zone; instants are aware datetimes")
    return (at - EPOCH) // _MICROSECOND


def from_micros(micros: int) -> datetime:
    """The aware UTC datetime of microseconds since the epoch."""
    return EPOCH + timedelta(microseconds=micros)


def parse_instant(text: str) -> int:
    """Microseconds since the epoch of an RFC 3339 date-time such as 2026-11-02T09:30:00Z.

    ValueError, saying what is wrong, for anything else, for a time without offset and for a
    year outside 2000 to 2100.
    """
    # fromisoformat alone reads more than RFC 3339: bare dates, week dates, times without offset.
    if not _RFC_3339.fullmatch(text):
        raise ValueError(f"{text!r} is not an RFC 3339 date-time such as 2026-11-02T09:30:00Z")
    try:
        at = datetime.fromisoformat(text.upper())
    except ValueError as error:
        raise ValueError(f"{text!r} is not an RFC 3339 date-time: {error}") from None
    return check_range(to_micros(at))


def check_range(micros: int) -> int:
    """The same instant; ValueError where its unit must be wrong."""
    if not EARLIEST <= micros < LATEST:
        raise ValueError(f"{micros} is not an instant in microseconds between the years 2000 and 2100")
    return micros


def format_instant(micros: int) -> str:
    """RFC 3339 text of microseconds since the epoch, in UTC with a Z."""
    return from_micros(micros).isoformat(timespec="microseconds").replace("+00:00", "Z")
