"""What a policy applies to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from deploytrail_schemas.policies.reader import Reader

SCOPE_FIELDS = ("services", "teams", "environments", "regions", "tiers", "kinds")


@dataclass(frozen=True, slots=True)
class Scope:
    """What a policy applies to; an empty list means all."""

    services: tuple[str, ...] = ()
    teams: tuple[str, ...] = ()
    environments: tuple[str, ...] = ()
    regions: tuple[str, ...] = ()
    tiers: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()

    def covers(self, subject: Mapping[str, str]) -> bool:
        """Whether it applies to a subject with `service`, `team`, `environment`, `region`, `tier`, `kind`."""
        return all(
            not allowed or subject.get(name.removesuffix("s"), "") in allowed
            for name, allowed in ((name, getattr(self, name)) for name in SCOPE_FIELDS)
        )


def read_scope(reader: Reader) -> Scope:
    inner = reader.inner("scope", about="What it applies to; left out: everything.")
    scope = Scope(**{name: inner.texts(name, about=f"Only these {name}; left out: all.") for name in SCOPE_FIELDS})
    reader.problems.extend(inner.finish())
    return scope


def scope_or_all(raw: dict[str, Any]) -> Scope:
    """The scope of a spec that may be wrong elsewhere."""
    reader = Reader(raw, "spec")
    scope = read_scope(reader)
    # A scope that cannot be read does not excuse anything from the policy.
    return Scope() if reader.problems else scope


def narrowness(scope: Scope) -> int:
    """How many fields of a scope say something: of two policies the narrower one counts."""
    return sum(1 for name in SCOPE_FIELDS if getattr(scope, name))
