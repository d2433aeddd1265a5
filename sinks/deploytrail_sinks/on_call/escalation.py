"""Who is told of an incident, and who next while nobody acknowledges it: pure, state as plain JSON.

In: an incident, the policies of its time, who deployed. Out: the steps of the policy that covers it, of which the
ledger takes one after the other: each level in order, so many rounds, each once its predecessor has had its time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from deploytrail_schemas.policies.escalation import DEPLOYER, TEAM, escalation_for
from deploytrail_schemas.policies.in_force import InForce

MINUTE = 60_000_000


@dataclass(frozen=True, slots=True)
class Step:
    """Who is told together, and how long they have to acknowledge, microseconds."""

    notify: tuple[str, ...]
    lasts: int


@dataclass(frozen=True, slots=True)
class Plan:
    """The steps of one round, gone through `rounds` times; by which policy (kind/name/version), for which severity."""

    policy: str
    severity: str
    levels: tuple[Step, ...]
    rounds: int

    @property
    def steps(self) -> int:
        """How many there are in all rounds."""
        return len(self.levels) * self.rounds

    def step(self, number: int) -> Step:
        """A step by its number, from 1."""
        return self.levels[(number - 1) % len(self.levels)]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return asdict(self)

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Plan:
        """The plan of `to_json`."""
        levels = tuple(Step(tuple(level["notify"]), level["lasts"]) for level in row["levels"])
        return cls(row["policy"], row["severity"], levels, row["rounds"])


def plan_for(about: Mapping[str, str], severity: str, policies: InForce) -> Plan | None:
    """The plan of the policy that covers an incident; None where none does, and it is told once to whom the receiver
    tells. `about`: what is known of service, environment, region, team, tier, kind and deployer.

    A level that names the deployer, who is not known, tells the team; a team that is not known is left out.
    """
    subject = _subject(about, policies)
    found = escalation_for(subject, severity, policies)
    if found is None:
        return None
    document, escalation = found
    known = {DEPLOYER: about.get("deployer") or subject["team"], TEAM: subject["team"]}
    levels = []
    for level in escalation.levels:
        told = dict.fromkeys(known.get(name, name) for name in level.notify)
        levels.append(Step(tuple(filter(None, told)), int(level.acknowledge_minutes * MINUTE)))
    return Plan(document.key, severity, tuple(levels), escalation.rounds)


def misses_deployer(about: Mapping[str, str], severity: str, policies: InForce) -> bool:
    """Whether a level names the deployer of an incident, who is not known yet."""
    if about.get("deployer"):
        return False
    found = escalation_for(_subject(about, policies), severity, policies)
    return found is not None and any(DEPLOYER in level.notify for level in found[1].levels)


def _subject(about: Mapping[str, str], policies: InForce) -> dict[str, str]:
    service = policies.service(about.get("service", ""))
    return {
        **{name: about.get(name, "") for name in ("service", "environment", "region", "kind")},
        "team": service.team or about.get("team", ""),
        "tier": service.tier or about.get("tier", ""),
    }
