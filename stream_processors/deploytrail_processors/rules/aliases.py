"""Names: what reporters call a place or a service, and its one name here.

In: a reported name and the policies of that time. Out: the canonical name.
"""

from __future__ import annotations

from dataclasses import dataclass

from deploytrail_processors.rules.policies import Policies

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


def canonical(reported: Names, policies: Policies) -> Names:
    """The names to use. Case and surrounding space of a name never matter, nor digits behind `qa`."""
    return Names(
        _by_alias(reported.region, policies.region_aliases),
        _environment(reported.environment, policies),
        _by_alias(reported.service, policies.service_aliases),
    )


def _by_alias(name: str, aliases: dict[str, str]) -> str:
    return aliases.get(_plain(name), name.strip())


def _environment(name: str, policies: Policies) -> str:
    plain = _plain(name)
    if plain in policies.environment_aliases:
        return policies.environment_aliases[plain]
    return ENVIRONMENTS.get(plain) or ENVIRONMENTS.get(plain.rstrip("0123456789")) or plain


def _plain(name: str) -> str:
    return name.strip().lower()
