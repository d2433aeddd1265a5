"""Which retention class a record belongs to, and until when it is kept. Pure."""

from __future__ import annotations

import re
from collections.abc import Set
from datetime import timedelta
from enum import StrEnum

from deploytrail_schemas.codec import DecodeError, decode_routing
from deploytrail_schemas.instants import EARLIEST, LATEST, from_micros


class RetentionClass(StrEnum):
    """Objects are locked and purged whole, so each class has objects of its own."""

    REGULATED = "production-regulated"
    PRODUCTION = "production"
    NON_PRODUCTION = "non-production"


_PRODUCTION = frozenset({"production", "prod", "prd", "live"})
_NOT_PRODUCTION = re.compile(r"(non|pre|not)[-_ ]?prod")
_UNNAMED = frozenset({"", "unknown"})
# Seven years for what regimes such as SOX look at, with a margin (17 CFR 210.2-06).
KEEP = {
    RetentionClass.REGULATED: timedelta(days=7 * 366 + 30),
    RetentionClass.PRODUCTION: timedelta(days=3 * 366),
    RetentionClass.NON_PRODUCTION: timedelta(days=366),
}


def is_production(environment: str) -> bool:
    """Whether an environment's name says that it is one of production: prod, eu-production, live …"""
    return environment in _PRODUCTION or ("prod" in environment and not _NOT_PRODUCTION.search(environment))


def classify(value: bytes | None, regulated: Set[str]) -> RetentionClass:
    """The class of a record. What cannot be read, and what names no environment, is kept as production."""
    try:
        _, routing = decode_routing(value)
    except DecodeError:
        return RetentionClass.PRODUCTION
    environment = str(routing.get("environment", "")).strip().lower()
    if environment not in _UNNAMED and not is_production(environment):
        return RetentionClass.NON_PRODUCTION
    service = str(routing.get("service", "")).strip().lower()
    return RetentionClass.REGULATED if service in regulated else RetentionClass.PRODUCTION


def retain_until(kept: RetentionClass, newest_ms: int) -> str:
    """Until when a segment is kept whose newest record is of `newest_ms`, to the day (RFC 3339).

    A producer's timestamp may be anything: one outside the years 2000 to 2100 counts as the nearer of them.
    """
    newest = min(max(newest_ms * 1000, EARLIEST), LATEST)
    day = from_micros(newest) + KEEP[kept] + timedelta(days=1)
    return day.strftime("%Y-%m-%dT00:00:00Z")
