"""What a policy applies to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from deploytrail_schemas.policies.alias import plain
from deploytrail_schemas.policies.reader import Reader

SCOPE_FIELDS = ("services", "teams", "environments", "regions", "tiers", "kinds")
# Regions that reporters write where they mean all of them.
EVERYWHERE = frozenset({"global", "all", "any", "multi", "*"})
# Kinds of change, as the schema of deployment events lists them (a test holds both to one list).
CHANGES = (
    *("release", "hotfix", "configuration_change", "database_migration", "infrastructure", "feature_flag"),
    *("rollback", "unknown"),
)


@dataclass(frozen=True, slots=True)
class Scope:
    """What a policy applies to; an empty list means all. Case and surrounding space of names never matter."""

    services: tuple[str, ...] = ()
    teams: tuple[str, ...] = ()
    environments: tuple[str, ...] = ()
    regions: tuple[str, ...] = ()
    tiers: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()

    def covers(self, subject: Mapping[str, str]) -> bool:
        """Whether it applies to a subject with `service`, `team`, `environment`, `region`, `tier`, `kind`."""
        return all(
            not allowed or plain(subject.get(name.removesuffix("s"), "")) in map(plain, allowed)
            for name, allowed in ((name, getattr(self, name)) for name in SCOPE_FIELDS)
        )

    def restricts(self, subject: Mapping[str, str]) -> bool:
        """Whether a policy that forbids or asks for something holds for a subject: it covers a place of it."""
        return any(self.covers(place) for place in places_of(subject, [self]))


def places_of(subject: Mapping[str, str], scopes: Iterable[Scope]) -> Iterator[Mapping[str, str]]:
    """A subject as it is, and of what is changed everywhere that in each region which scopes name: it is held to the
    rules of each of them, and lets none pass."""
    yield subject
    if plain(subject.get("region", "")) in EVERYWHERE:
        for region in sorted({plain(region) for scope in scopes for region in scope.regions}):
            yield {**subject, "region": region}


def read_scope(reader: Reader) -> Scope:
    inner = reader.inner("scope", about="What it applies to; left out: everything.")
    about = {name: f"Only these {name}; left out: all." for name in SCOPE_FIELDS}
    scope = Scope(
        services=inner.names("services", about=about["services"]),
        teams=inner.texts("teams", about=about["teams"]),
        environments=inner.names("environments", about=about["environments"]),
        regions=inner.names("regions", about=about["regions"]),
        tiers=inner.texts("tiers", about=about["tiers"]),
        # A kind that does not exist would cover nothing: a freeze that freezes nothing.
        kinds=inner.choices("kinds", CHANGES, about=about["kinds"]),
    )
    # A field that cannot be read does not excuse anything from the policy.
    unread: dict[str, tuple[str, ...]] = {name: () for name in SCOPE_FIELDS if inner.is_wrong(name)}
    reader.problems.extend(inner.finish())
    return replace(scope, **unread)


def scope_or_all(raw: dict[str, Any]) -> Scope:
    """The scope of a spec that may be wrong elsewhere."""
    reader = Reader(raw, "spec")
    scope = read_scope(reader)
    # A scope that cannot be read does not excuse anything from the policy.
    return Scope() if reader.problems else scope


def narrowness(scope: Scope) -> int:
    """How many fields of a scope say something: of two policies the narrower one counts."""
    return sum(1 for name in SCOPE_FIELDS if getattr(scope, name))
