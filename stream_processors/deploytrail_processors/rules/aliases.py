"""Names: what reporters call a place or a service, and its one name here.

In: a reported name and the policies of that time. Out: the canonical name.
"""

from __future__ import annotations

from dataclasses import dataclass

from deploytrail_schemas.policies.alias import is_pattern, plain, usual_environment

from deploytrail_processors.rules.policies import Aliases, Policies


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
    usual = usual_environment(reported)
    if usual is None:
        return Mapped(plain(reported))
    return Mapped(usual.name, "usual name" if usual.alias == usual.name else f"usual name {usual.alias}")


def _by_policy(kind: str, reported: str, aliases: Aliases) -> Mapped | None:
    found = aliases.find(reported)
    if found is None:
        return None
    what = "name" if found.alias == plain(found.name) else "pattern" if is_pattern(found.alias) else "alias"
    return Mapped(found.name, f"{what} {found.alias} of {kind}/{found.name}")
