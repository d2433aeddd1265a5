"""Does an event speak of places that somebody declared, at the grain that its service declared?

In: an event of the trail, the policies of its time. Out: findings, each said once a day and partition:
their subject is the name (or the service) and the day, whatever event it was seen on.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from deploytrail_schemas.instants import from_micros
from deploytrail_schemas.policies.scope import EVERYWHERE
from deploytrail_schemas.policies.service import GRAINS
from deploytrail_schemas.reasons import Reason

from deploytrail_processors.rules import aliases
from deploytrail_processors.rules.findings import Finding, finding
from deploytrail_processors.rules.keys import joined
from deploytrail_processors.rules.policies import Policies

UNMAPPED, GRAIN = "unmapped_name", "grain"
DAY = 86_400_000_000
_WORDS = {Reason.COARSER_THAN_DECLARED: "coarser than", Reason.FINER_THAN_DECLARED: "finer than"}


def reported_grain(event: Mapping[str, Any]) -> str:
    """What an event speaks of: an instance, a region, or a whole environment where its region means every one."""
    if event["instance"]:
        return "instance"
    return "environment" if event["region"].lower() in EVERYWHERE else "region"


def find_unmapped(
    event: Mapping[str, Any], policies: Policies, known_regions: frozenset[str], *, day: int
) -> list[Finding]:
    """Its environment where neither policies nor usual names know it; its region where policies and settings do not."""
    found = []
    region = aliases.region(event["region"], policies)
    if not region.by and region.name not in known_regions and region.name.lower() not in EVERYWHERE:
        found.append(_unmapped(event, "region", Reason.UNKNOWN_REGION, day))
    if not aliases.environment(event["environment"], policies).by:
        found.append(_unmapped(event, "environment", Reason.UNKNOWN_ENVIRONMENT, day))
    return found


def find_other_grain(event: Mapping[str, Any], policies: Policies, *, day: int) -> Finding | None:
    """That a service is reported at another grain than its policy declares."""
    declared = policies.service(event["service"]).grain
    seen = reported_grain(event)
    if not declared or seen == declared:
        return None
    coarser = GRAINS.index(seen) < GRAINS.index(declared)
    reason = Reason.COARSER_THAN_DECLARED if coarser else Reason.FINER_THAN_DECLARED
    return finding(
        GRAIN,
        "violation",
        reason,
        subject=joined(event["service"], event["environment"], str(day)),
        place=dict(event),
        occurred_at=event["corrected_at"],
        severity="info",
        explanation=f"{event['service']} is reported per {seen}, {_WORDS[reason]} the {declared} that it declares",
        evidence={"declared": declared, "reported": seen, "day": _date(day)},
        policy_version=policies.versions(("service", event["service"])),
        deployment_id=event["deployment_id"],
    )


def _unmapped(event: Mapping[str, Any], kind: str, reason: Reason, day: int) -> Finding:
    name = event[kind]
    return finding(
        UNMAPPED,
        "violation",
        reason,
        subject=joined(kind, name, event["region"], str(day)),
        place=dict(event),
        occurred_at=event["corrected_at"],
        severity="warning",
        explanation=f"no policy knows the {kind} {name!r}, which {event['service']} was reported in",
        evidence={kind: name, "day": _date(day)},
        deployment_id=event["deployment_id"],
    )


def _date(day: int) -> str:
    return from_micros(day * DAY).date().isoformat()
