"""Which retention class a record belongs to, and until when it is kept. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Set
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import TypeAlias

from deploytrail_schemas.codec import DecodeError, decode_routing
from deploytrail_schemas.errors import ConfigurationError
from deploytrail_schemas.instants import EARLIEST, LATEST, from_micros

from deploytrail_sinks.archive.store import Lock

Policy: TypeAlias = "Mapping[RetentionClass, Keep]"


class RetentionClass(StrEnum):
    """Objects are locked and purged whole, so each class has objects of its own."""

    REGULATED = "production-regulated"
    PRODUCTION = "production"
    NON_PRODUCTION = "non-production"


_PRODUCTION = frozenset({"production", "prod", "prd", "live"})
_NOT_PRODUCTION = re.compile(r"(non|pre|not)[-_ ]?prod")
_UNNAMED = frozenset({"", "unknown"})
_MOST_DAYS = 100 * 366
# Seven years for what regimes such as SOX look at, with a margin (17 CFR 210.2-06).
KEEP = {
    RetentionClass.REGULATED: timedelta(days=7 * 366 + 30),
    RetentionClass.PRODUCTION: timedelta(days=3 * 366),
    RetentionClass.NON_PRODUCTION: timedelta(days=366),
}


_LOCKS = {lock.value: lock for lock in Lock}


@dataclass(frozen=True, slots=True)
class Keep:
    """How long and how firmly a class is kept. `lock` None: as the store does."""

    days: int
    lock: Lock | None = None
    tier: str = ""  # S3's storage class


DEFAULT_POLICY: Policy = {kept: Keep(period.days) for kept, period in KEEP.items()}


def read_policy(text: str) -> Policy:
    """The policy of DEPLOYTRAIL_ARCHIVE_RETENTION, `class=DAYS[:LOCK[:TIER]],…`; classes that it leaves out stay.

    ConfigurationError for what it cannot mean, and for regulated records that are kept for less than seven years.
    """
    policy = dict(DEFAULT_POLICY)
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, _, said = part.partition("=")
        days, _, rest = said.partition(":")
        lock, _, tier = rest.partition(":")
        try:
            kept = RetentionClass(name.strip())
            policy[kept] = Keep(int(days), _LOCKS[lock.lower()] if lock else None, tier)
        except (ValueError, KeyError):
            raise ConfigurationError(
                f"DEPLOYTRAIL_ARCHIVE_RETENTION has {part!r}; expected CLASS=DAYS[:LOCK[:TIER]] with a class of "
                f"{', '.join(RetentionClass)} and a lock of {', '.join(Lock)}"
            ) from None
        least = KEEP[kept].days if kept is RetentionClass.REGULATED else 1
        if not least <= policy[kept].days <= _MOST_DAYS:
            raise ConfigurationError(
                f"DEPLOYTRAIL_ARCHIVE_RETENTION keeps {kept} for {days} days; expected {least} to {_MOST_DAYS}"
            )
    return policy


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


def retain_until(kept: RetentionClass, newest_ms: int, policy: Policy | None = None) -> str:
    """Until when a segment is kept whose newest record is of `newest_ms`, to the day (RFC 3339).

    A producer's timestamp may be anything: one outside the years 2000 to 2100 counts as the nearer of them.
    """
    newest = min(max(newest_ms * 1000, EARLIEST), LATEST)
    day = from_micros(newest) + timedelta(days=(policy or DEFAULT_POLICY)[kept].days + 1)
    return day.strftime("%Y-%m-%dT00:00:00Z")
