"""What a credential may say: of which services, in which places, by which verbs. Pure.

Names are compared as the intake app compares them: case and surrounding space never matter. In a
pattern `*` stands for any text. A scope that lists nothing allows nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Any

from deploytrail_schemas.json_values import Violation
from deploytrail_schemas.records import RecordType


class Verb(StrEnum):
    """What a credential may do."""

    REPORT = "report"  # events of deployments
    REGISTER = "register"  # registrations and requests for approval
    APPROVE = "approve"  # approvals, rejections, permits
    SIGNAL = "signal"  # alerts, incidents, health checks
    OBSERVE = "observe"  # what is seen to run
    RELAY = "relay"  # pass on what others said: the gateway's and the backfill's own


EVERY_KIND = frozenset(Verb) - {Verb.RELAY}
_LONGEST_NAME = 256
PLACES = ("service", "environment", "region")
_VERB_OF_KIND = {
    RecordType.DEPLOYMENT_EVENT: Verb.REPORT,
    RecordType.SIGNAL: Verb.SIGNAL,
    RecordType.OBSERVATION: Verb.OBSERVE,
    RecordType.APPROVAL: Verb.APPROVE,
}
_ONLY_ASKS = frozenset({"registered", "requested"})
# What claims say of who acts stands above what the payload says; an observation tells of something else.
_OVERRIDDEN = {
    RecordType.DEPLOYMENT_EVENT: {
        name: name
        for name in (
            *("team", "deployer", "deployer_type", "repository", "commit_sha", "ref"),
            *("build_system", "build_id", "build_number", "build_url", "pipeline"),
        )
    },
    RecordType.APPROVAL: {"approver": "deployer"},
}


@dataclass(frozen=True, slots=True)
class Scope:
    """The bounds of a credential: patterns of names, and verbs. `team`: whose it is; empty: nobody's in particular."""

    team: str = ""
    services: tuple[str, ...] = ()
    environments: tuple[str, ...] = ()
    regions: tuple[str, ...] = ()
    verbs: frozenset[Verb] = frozenset()

    def patterns(self, place: str) -> tuple[str, ...]:
        """The patterns of `service`, `environment` or `region`."""
        found: tuple[str, ...] = getattr(self, f"{place}s")
        return found

    def fixed(self, place: str) -> str:
        """The one name that a place can only have; empty where it can have several."""
        patterns = self.patterns(place)
        return patterns[0] if len(patterns) == 1 and "*" not in patterns[0] else ""


EVERYTHING = Scope("", ("*",), ("*",), ("*",), EVERY_KIND)


def verb_for(kind: RecordType, value: Mapping[str, Any]) -> Verb:
    """The verb that a record needs."""
    if kind is RecordType.APPROVAL and value.get("approval_type") in _ONLY_ASKS:
        return Verb.REGISTER
    return _VERB_OF_KIND[kind]


def completed(scope: Scope, value: Mapping[str, Any]) -> dict[str, Any]:
    """The value with the places that it leaves out and the scope fixes."""
    missing = [place for place in PLACES if not value.get(place)]
    if not missing:
        return value if type(value) is dict else dict(value)
    fixed = {place: scope.fixed(place) for place in missing if value.get(place) in (None, "")}
    return {**value, **{place: name for place, name in fixed.items() if name}}


def violations(scope: Scope, kind: RecordType, value: Mapping[str, Any], *, relayed: bool = False) -> list[Violation]:
    """Everything about a record that lies outside of a scope; `relayed`: it is passed on for somebody else."""
    if scope is EVERYTHING and not relayed and kind in _VERB_OF_KIND:
        return []
    found = []
    verb = Verb.RELAY if relayed else verb_for(kind, value)
    if verb not in scope.verbs:
        found.append(Violation("", f"needs the verb {verb}; the credential may {_listed(sorted(scope.verbs))}"))
    for place in PLACES:
        name, patterns = str(value.get(place, "")), scope.patterns(place)
        if not any(matches(pattern, name) for pattern in patterns):
            found.append(Violation(f"/{place}", f"is {name[:100]!r}; the credential may say {_listed(patterns)}"))
    return found


def overridden(scope: Scope, claims: Mapping[str, str], kind: RecordType, value: dict[str, Any]) -> dict[str, Any]:
    """The value with what the credential proves in the place of what the payload says.

    `claims`: fields of a DeploymentEvent by name. What the payload said otherwise stays in its tags
    as `claimed_<field>`.
    """
    if not claims and not scope.team:
        return value
    proven = {**claims, "team": scope.team} if scope.team else claims
    names = _OVERRIDDEN.get(kind, {})
    found = {name: proven[claim] for name, claim in names.items() if proven.get(claim)}
    if not found:
        return value
    pretended = {
        f"claimed_{name}": str(value[name])
        for name, text in found.items()
        if value.get(name) not in (None, "", "unknown") and not _same(str(value[name]), text)
    }
    return {**value, **found, "tags": {**value.get("tags", {}), **pretended}} if pretended else {**value, **found}


def covers(scope: Scope, service: str, environment: str) -> bool:
    """Whether a scope reaches a service in an environment, wherever that is."""
    places = ((scope.services, service), (scope.environments, environment))
    return all(any(matches(pattern, name) for pattern in patterns) for patterns, name in places)


def bounds(scope: Scope) -> str:
    """Of which services and environments a scope may speak, as the header `dt-scope` says it; empty: of all."""
    if scope.services == ("*",) and scope.environments == ("*",):
        return ""
    said = {"services": scope.services, "environments": scope.environments}
    return json.dumps(said, separators=(",", ":"))


def read_bounds(text: str) -> Scope | None:
    """The scope of `bounds`; None for an empty text, a scope that reaches nothing for one that is none."""
    if not text:
        return None
    try:
        said = json.loads(text)
        return Scope("", tuple(map(str, said["services"])), tuple(map(str, said["environments"])))
    except (ValueError, TypeError, KeyError, RecursionError):
        return Scope()


def matches(pattern: str, name: str) -> bool:
    """Whether a name fits a pattern, in which `*` stands for any text."""
    if pattern == "*":
        return True
    if len(name) > _LONGEST_NAME:  # several stars against a long text take long
        return False
    return _expression(pattern).fullmatch(name.strip().lower()) is not None


@lru_cache(1024)
def _expression(pattern: str) -> re.Pattern[str]:
    parts = (re.escape(part) for part in re.split(r"\*+", pattern.strip().lower()))
    return re.compile(".*".join(parts), re.DOTALL)


def _same(one: str, other: str) -> bool:
    return one.strip().lower().removesuffix(".git") == other.lower().removesuffix(".git")


def _listed(names: Any) -> str:
    return ", ".join(names) or "nothing"
