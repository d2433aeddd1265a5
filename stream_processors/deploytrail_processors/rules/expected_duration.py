"""How long may a deployment take? Declared by its service's policy, else learnt from what earlier ones took.

Learnt is per service, environment and kind, from the last 64 that succeeded: their 0.95 quantile (linear between order
statistics, Hyndman and Fan 1996, type 7), times 1.5. Of fewer than 5 nothing is learnt, and the general limit holds
(`overdue_after_minutes`); of 20 and more what was learnt alone; between them the geometric mean of both, weighted by
how many there are, since durations differ by factors and not by minutes. It is never below 2 minutes, and never above
the time after which a deployment counts as lost.

Which samples there are depends on no order: the latest by their ends are kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from deploytrail_processors.rules.keys import joined
from deploytrail_processors.rules.policies import Policies

LEAST, ENOUGH, MOST = 5, 20, 64
SHARE, SLACK = 0.95, 1.5
SHORTEST_MINUTES = 2.0
# A duration that the clocks know no better than this share of it teaches nothing.
_LOOSEST = 0.25
# [when it ended (µs), deployment id, minutes]
Sample = list[Any]


@dataclass(frozen=True, slots=True)
class Usual:
    """What earlier deployments took: the quantile in minutes, and of how many."""

    minutes: float = 0.0
    samples: int = 0


UNKNOWN = Usual()


@dataclass(frozen=True, slots=True)
class Expectation:
    """How long a deployment may take, and who says so: `declared`, `learnt`, `learnt_and_general_limit`, or
    `general_limit`."""

    minutes: float
    source: str
    usual: Usual


def group_of(content: Mapping[str, Any]) -> str:
    """The deployments that a deployment is compared with; empty for a part of another, which is compared with none."""
    if content["parent_deployment_id"]:
        return ""
    return joined(*(content[name] for name in ("environment", "service", "kind")))


def sample_of(content: Mapping[str, Any], policies: Policies) -> Sample | None:
    """What a deployment teaches. None unless it has succeeded, and was observed: what was inferred, what took no time,
    or longer than a deployment can be silent, and what two clocks contradict each other about, teaches nothing."""
    duration = content["duration_ms"]
    if content["state"] != "succeeded" or content["provenance"] == "inferred" or not duration:
        return None
    loose = (content["duration_uncertainty_ms"] or 0) > max(_LOOSEST * duration, 60_000)
    if loose or duration < 0 or duration / 60_000 > policies.thresholds.lost_after_minutes:
        return None
    return [content["finished_at"], content["deployment_id"], duration / 60_000]


def with_sample(samples: Iterable[Sample], deployment_id: str, sample: Sample | None) -> list[Sample]:
    """The samples once a deployment teaches this; None: nothing, any more."""
    kept = [one for one in samples if one[1] != deployment_id]
    return sorted([*kept, sample] if sample else kept)[-MOST:]


def usual_before(samples: Sequence[Sample], start: int) -> Usual:
    """What those took that had ended when one began (µs)."""
    minutes = sorted(minutes for ended, _, minutes in samples if ended <= start)
    return Usual(round(_quantile(minutes), 3), len(minutes)) if minutes else Usual()


def expected(service: str, policies: Policies, usual: Usual) -> Expectation:
    """How long a deployment of a service may take."""
    declared, general = policies.service(service).expected_duration_minutes, policies.thresholds.overdue_after_minutes
    if declared is not None:
        return Expectation(declared, "declared", usual)
    weight = min(max(usual.samples - LEAST + 1, 0) / (ENOUGH - LEAST + 1), 1.0)
    if not weight:
        return Expectation(general, "general_limit", usual)
    learnt = min(max(usual.minutes * SLACK, SHORTEST_MINUTES), policies.thresholds.lost_after_minutes)
    minutes = float(learnt**weight * general ** (1 - weight))
    return Expectation(round(minutes, 1), "learnt" if weight == 1.0 else "learnt_and_general_limit", usual)


def _quantile(ordered: Sequence[float]) -> float:
    at = SHARE * (len(ordered) - 1)
    below = int(at)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (at - below) * (ordered[above] - ordered[below])
