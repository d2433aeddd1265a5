"""What could a deployment hurt, at most?

In: a deployment's record, the weights of its cohorts, the policies of the time when it began. Out: its blast radius:
every service that needed the deployed one by then, at first hand or by way of others, how much hangs on them (tiers),
and which share of what they ask of it can be hurt: the weights of the cohorts that have begun. What is not known
makes it larger, never smaller: a cohort without a weight counts as everything.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from deploytrail_schemas.instants import from_micros
from deploytrail_schemas.policies.in_force import is_production
from deploytrail_schemas.reasons import Reason

from deploytrail_processors.rules.findings import Finding, finding
from deploytrail_processors.rules.graph import Reached
from deploytrail_processors.rules.policies import Policies

RULE = "impact"
# So many of the services and cohorts are named, however many there are; the numbers count all.
MOST_NAMED = 20
_NOT_BEGUN = frozenset({"registered", "queued", "unknown"})
_TIMES = ("started_at", "queued_at", "registered_at", "finished_at", "last_event_at")
Content = Mapping[str, Any]


def time_of(content: Content) -> int:
    """When a deployment began, or will as far as anybody knows: the time whose graph counts."""
    return next((int(content[name]) for name in _TIMES if content[name] is not None), 0)


def find_impact(
    content: Content, weights: Mapping[str, float], policies: Policies, standing: Finding | None = None
) -> Finding | None:
    """The blast radius. None for what is not in production, unless another answer stands: then it is taken back.

    `weights`: of the cohorts, where they are known; `policies`: those of `time_of`.
    """
    why = _nothing(content, policies)
    if why is not None:
        if standing is None:
            return None
        reason, words = why
        return _finding(content, "ok", reason, f"{_what(content)} could hurt nothing: {words}", {}, policies)
    service = content["service"]
    reached = policies.graph.stand_on(service)
    share, cohorts = share_of(content, weights)
    document = policies.document("service", service)
    unreadable = policies.unreadable_services
    evidence = {
        "services": str(len(reached)),
        "direct": str(sum(one.depth == 1 for one in reached)),
        "depth": str(max((one.depth for one in reached), default=0)),
        "tiers": _tiers(reached, policies),
        "named": "; ".join(_named(one, policies) for one in reached[:MOST_NAMED]),
        "share": f"{share:g}",
        "cohorts": ", ".join(cohorts[:MOST_NAMED]),
        "own_tier": policies.service(service).tier,
        "in_a_cycle": "yes" if policies.graph.is_in_a_cycle(service) else "",
        "unreadable_policies": ", ".join(unreadable[:MOST_NAMED]),
    }
    reason, verdict = Reason.SERVICES_DEPEND_ON_IT, "ok"
    if not reached:
        known = document is not None and document.spec is not None
        reason = Reason.NOTHING_DEPENDS_ON_IT if known else Reason.DEPENDENCIES_UNKNOWN
    if reason is Reason.DEPENDENCIES_UNKNOWN or unreadable:
        verdict = "inconclusive"
    words = _words(content, reached, evidence, reason, share, cohorts)
    return _finding(content, verdict, reason, words, {k: v for k, v in evidence.items() if v}, policies)


def _nothing(content: Content, policies: Policies) -> tuple[Reason, str] | None:
    """Why a deployment has no blast radius of its own; None where it has."""
    if content["state"] == "voided":
        return Reason.DEPLOYMENT_VOIDED, "it was taken back"
    if content["state"] == "merged":
        return Reason.ANOTHER_NAME_OF_ONE, f"it is another name of {content['merged_into']}"
    if not is_production(content["environment"], policies):
        return Reason.NOT_A_PRODUCTION_DEPLOYMENT, "it is not in production"
    return None


def share_of(content: Content, weights: Mapping[str, float]) -> tuple[float, list[str]]:
    """Which share of the service's work what has begun can hurt, and the cohorts that have begun, in words."""
    begun = [name for name, state in sorted(content["cohorts"].items()) if state not in _NOT_BEGUN]
    named = [f"{name} {weights[name]:g}" if name in weights else name for name in begun]
    if not begun or any(name not in weights for name in begun):
        return 1.0, named
    # Each cohort is a part of its own: what has begun is their sum, and never more than everything.
    return min(1.0, round(sum(max(0.0, weights[name]) for name in begun), 6)), named


def _tiers(reached: Sequence[Reached], policies: Policies) -> str:
    count = Counter(policies.service(one.service).tier or "none" for one in reached)
    ranked = sorted(count.items())
    more = f", and {len(ranked) - MOST_NAMED} more" if len(ranked) > MOST_NAMED else ""
    return ", ".join(f"{tier}: {number}" for tier, number in ranked[:MOST_NAMED]) + more


def _named(one: Reached, policies: Policies) -> str:
    tier = policies.service(one.service).tier
    about = [f"tier {tier}"] if tier else []
    about += [f"by way of {one.way}"] if one.depth > 1 else []
    return f"{one.service} ({', '.join(about)})" if about else one.service


def _what(content: Content) -> str:
    return f"{content['service']} {content['version']}".strip()


def _words(
    content: Content,
    reached: Sequence[Reached],
    evidence: dict[str, str],
    reason: Reason,
    share: float,
    cohorts: list[str],
) -> str:
    if reason is Reason.DEPENDENCIES_UNKNOWN:
        return f"nobody knows what {_what(content)} could hurt: no policy describes the service"
    if not reached:
        return f"{_what(content)} could hurt itself alone: no service declares to depend on it"
    count, direct = len(reached), int(evidence["direct"])
    by_way = f", {count - direct} by way of others" if count > direct else ""
    words = f"{_what(content)} could hurt {count} service{'s' if count > 1 else ''}: {direct} at first hand{by_way}"
    words += f" (tiers: {evidence['tiers']})"
    if share < 1.0:
        words += f"; at most {share:.1%} of what is asked of it, since only {', '.join(cohorts[:MOST_NAMED])} began"
    if evidence.get("unreadable_policies"):
        words += "; perhaps more, some policies of services cannot be read"
    return words


def _finding(
    content: Content, verdict: str, reason: Reason, words: str, evidence: dict[str, str], policies: Policies
) -> Finding:
    document = policies.document("service", content["service"])
    return finding(
        RULE,
        verdict,
        reason,
        subject=content["deployment_id"],
        place=dict(content),
        occurred_at=time_of(content),
        severity="info",
        explanation=words,
        evidence={"graph_of": from_micros(time_of(content)).isoformat(), **evidence},
        deployment_id=content["deployment_id"],
        policy_version=document.key if document is not None else "",
    )
