"""Names: what reporters call a place or a service, and its one name here.

In: a reported name and the policies of that time. Out: the canonical name.
"""

from __future__ import annotations

from dataclasses import dataclass

from deploytrail_schemas.policies.alias import is_pattern, plain

from deploytrail_processors.rules.policies import Aliases, Policies

# What every company says; policies win over these.
ENVIRONMENTS = {
    "prod": "production",
    "prd": "production",
    "live": "production",
    "stg": "staging",
    "stage": "staging",
    "preprod": "staging",
    "pre-production": "staging",
    "uat": "staging",
    "qa": "test",
    "testing": "test",
    "dev": "development",
    "develop": "development",
}


@dataclass(frozen=True, slots=True)
class Names:
    """Region, environment and service of a record."""

    region: str
    environment: str
    service: str


@dataclass(frozen=True, slots=True)
class Mapped:
    """The canonical name of a reported one, and what says so: `by` is empty where nothing does."""

    name: str
    by: str = ""


def canonical(reported: Names, policies: Policies) -> Names:
    """The names to use. Case and surrounding space of a name never matter, nor digits behind `qa`."""
    return Names(
        region(reported.region, policies).name,
        environment(reported.environment, policies).name,
        service(reported.service, policies).name,
    )


def region(reported: str, policies: Policies) -> Mapped:
    """The region of a reported name."""
    return _by_policy("region", reported, policies.regions) or Mapped(reported.strip())


def service(reported: str, policies: Policies) -> Mapped:
    """The service of a reported name."""
    return _by_policy("service", reported, policies.services) or Mapped(reported.strip())


def environment(reported: str, policies: Policies) -> Mapped:
    """The environment of a reported name: by policy, else by what every company says."""
    found = _by_policy("environment", reported, policies.environments)
    if found is not None:
        return found
    name = plain(reported)
    for usual in (name, name.rstrip("0123456789")):
        if usual in ENVIRONMENTS:
            return Mapped(ENVIRONMENTS[usual], f"usual name {usual}")
    return Mapped(name, "usual name" if name in ENVIRONMENTS.values() else "")


def _by_policy(kind: str, reported: str, aliases: Aliases) -> Mapped | None:
    found = aliases.find(reported)
    if found is None:
        return None
    what = "name" if found.alias == plain(found.name) else "pattern" if is_pattern(found.alias) else "alias"
    return Mapped(found.name, f"{what} {found.alias} of {kind}/{found.name}")
