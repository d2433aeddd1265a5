"""Which retention class a record belongs to, and until when it is kept. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Set
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import TypeAlias

from deploytrail_schemas.codec import DecodeError, decode, decode_routing
from deploytrail_schemas.errors import ConfigurationError
from deploytrail_schemas.instants import EARLIEST, LATEST, from_micros
from deploytrail_schemas.policies.alias import Aliases
from deploytrail_schemas.policies.in_force import InForce
from deploytrail_schemas.policies.retention import Retention, retention_for

from deploytrail_sinks.archive.store import Lock, Terms, firmer

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
_MOST_PLACES = 20_000  # whose class is remembered
# Seven years for what regimes such as SOX look at, with a margin (17 CFR 210.2-06).
KEEP = {
    RetentionClass.REGULATED: timedelta(days=7 * 366 + 30),
    RetentionClass.PRODUCTION: timedelta(days=3 * 366),
    RetentionClass.NON_PRODUCTION: timedelta(days=366),
}


_LOCKS = {lock.value: lock for lock in Lock}


@dataclass(frozen=True, slots=True)
class Keep:
    """How long and how firmly a class is kept. `lock` None: as the store does; `at_least` as firmly as that, too."""

    days: int
    lock: Lock | None = None
    tier: str = ""  # S3's storage class
    at_least: Lock = Lock.NONE

    @property
    def terms(self) -> Terms:
        """What the store is told beside the date."""
        return Terms(self.lock, self.tier, self.at_least)

    @property
    def floor(self) -> Keep:
        """This as what is asked beside another one."""
        return Keep(self.days, at_least=firmer(self.lock or Lock.NONE, self.at_least))

    def and_more(self, asked: Keep | None) -> Keep:
        """This with what a policy asks beside it: whichever is longer and firmer. The storage class is the policy's
        where it keeps at least as long and names one."""
        if asked is None:
            return self
        tier = asked.tier if asked.tier and asked.days >= self.days else self.tier
        return Keep(max(self.days, asked.days), self.lock, tier, firmer(self.at_least, asked.at_least))


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


def regulated_services(listed: str) -> frozenset[str]:
    """The services of DEPLOYTRAIL_REGULATED, as `Judge` knows them."""
    return frozenset(filter(None, (name.strip().lower() for name in listed.split(","))))


def classify(value: bytes | None, regulated: Set[str]) -> RetentionClass:
    """The class of a record by its names alone. What cannot be read, and what names no environment, is kept as
    production."""
    return Judge(regulated).judge(value, InForce())[0]


class Judge:
    """Which class a record belongs to, and what policy asks for it beside what the class has.

    A policy may lift a record into a class that is kept longer, and keep it longer and more firmly than the setting
    says; it never does the opposite, since whoever may apply policies need not be who answers for the archive.
    """

    def __init__(self, regulated: Set[str]) -> None:
        self._regulated = regulated
        self._policies = InForce()
        self._known: dict[tuple[str, ...], tuple[RetentionClass, Keep | None]] = {}
        self._asks_kind = False

    def judge(self, value: bytes | None, policies: InForce) -> tuple[RetentionClass, Keep | None]:
        """By the policies of the record's time. What cannot be read is kept as production."""
        if policies is not self._policies:
            specs = [d.spec for d in policies.of_kind("retention")]
            self._policies, self._known = policies, {}
            self._asks_kind = any(isinstance(spec, Retention) and spec.scope.kinds for spec in specs)
        try:
            _, said = decode(value) if self._asks_kind else decode_routing(value)
        except DecodeError:
            return RetentionClass.PRODUCTION, None
        place = tuple(str(said.get(name, "")).strip() for name in ("environment", "service", "region", "kind"))
        if place not in self._known:
            if len(self._known) >= _MOST_PLACES:
                self._known.clear()
            self._known[place] = self._judge(*place)
        return self._known[place]

    def _judge(self, environment: str, service: str, region: str, kind: str) -> tuple[RetentionClass, Keep | None]:
        policies = self._policies
        where = _canonical(environment, policies.environments)
        what = _canonical(service, policies.services)
        named = environment.lower()
        in_production = named in _UNNAMED or is_production(named) or where in policies.production
        usual = RetentionClass.PRODUCTION if in_production else RetentionClass.NON_PRODUCTION
        if in_production and self._regulated & {service.lower(), what.lower()}:
            usual = RetentionClass.REGULATED
        owner = policies.service(what)
        subject = {
            "service": what,
            "environment": policies.environment(environment),  # as scopes are read
            "region": _canonical(region, policies.regions),
            "kind": kind,
            "team": owner.team,
            "tier": owner.tier,
        }
        found = retention_for(subject, policies)
        if found is None:
            return usual, None
        spec = found[1]
        asked = Keep(spec.days, tier=spec.tier, at_least=_LOCKS.get(spec.lock, Lock.NONE))
        # The longest kept come first.
        return min(usual, RetentionClass(spec.retention_class), key=list(RetentionClass).index), asked


def _canonical(reported: str, names: Aliases) -> str:
    """What the intake topic calls as it was reported, by the name that policy gives it."""
    found = names.find(reported)
    return found.name if found is not None else reported


def retain_until(kept: RetentionClass, newest_ms: int, policy: Policy | None = None) -> str:
    """Until when a segment is kept whose newest record is of `newest_ms`, to the day (RFC 3339).

    A producer's timestamp may be anything: one outside the years 2000 to 2100 counts as the nearer of them.
    """
    newest = min(max(newest_ms * 1000, EARLIEST), LATEST)
    day = from_micros(newest) + timedelta(days=(policy or DEFAULT_POLICY)[kept].days + 1)
    return day.strftime("%Y-%m-%dT00:00:00Z")
