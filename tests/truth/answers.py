"""Whoever says which deployment caused an alert: the rule of the product, and the customs that it is held against."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict, deque
from collections.abc import Callable, Mapping
from typing import Any

from deploytrail_processors.rules import lifecycle
from deploytrail_processors.rules.causes import LOOKS_BACK_FOR_ITSELF, Habit
from deploytrail_processors.rules.correlation import LINES_CHANGED, alert_key, correlate, past_of
from deploytrail_processors.rules.policies import Policies, read_document

from truth.company import HOUR, MINUTE, START, Company

# Signal id → probability by deployment id, "" for none of them; the answer that stands in the end.
Answers = dict[str, dict[str, float]]
# How long an answer may change for what is reported late, as in the correlation app.
REOPEN = 6 * HOUR
LOST_AFTER_MINUTES = 240.0


def policies_of(company: Company) -> Policies:
    """What the company has written down: which service depends on which."""
    specs = ((s.name, {"depends_on": list(s.depends_on)}) for s in company.services.values())
    return Policies(tuple(read_document({"kind": "service", "name": n, "spec": spec}) for n, spec in specs))


def contents(company: Company) -> list[dict[str, Any]]:
    """Every deployment as the lifecycle rule derives it, with `known_at`: when its first event became known."""
    facts: dict[str, dict[str, Any]] = {}
    first: dict[str, int] = {}
    lines: dict[str, float] = {}
    for known in company.events:
        deployment_id = known.value["deployment_id"]
        facts[deployment_id] = lifecycle.add(
            facts.get(deployment_id) or lifecycle.new_facts(deployment_id), known.value
        )
        first.setdefault(deployment_id, known.at)
        lines[deployment_id] = float(known.value["tags"][LINES_CHANGED])
    end = company.events[-1].at + 30 * 24 * HOUR
    derived = (lifecycle.derive(found, end, LOST_AFTER_MINUTES) for found in facts.values())
    return [
        content | {"known_at": first[i := content["deployment_id"]], LINES_CHANGED: lines[i]} for content in derived
    ]


def by_rule(company: Company) -> Answers:
    """The product's rule, on what the app would give it."""
    policies = policies_of(company)
    near = _Near(company)
    found: Answers = {}
    habits: dict[str, Habit] = defaultdict(lambda: Habit(since=START))
    before: dict[str, deque[dict[str, Any]]] = defaultdict(deque)
    for known in company.signals:
        signal, at, region = known.value, known.value["corrected_at"], known.value["region"]
        around = [c for c in near.around(region, at) if c["known_at"] <= known.at + REOPEN]
        recent, key = before[region], alert_key(signal)
        while recent and at - recent[0]["corrected_at"] > LOOKS_BACK_FOR_ITSELF:
            recent.popleft()
        answered = ((one, found[one["signal_id"]]) for one in recent)
        past = past_of(signal, answered, habits[key], habits[region], policies)
        answer = correlate(signal, around, policies, past)
        found[signal["signal_id"]] = {f["deployment_id"]: f["probability"] for f in answer}
        recent.append(signal)
        for name in (key, region):
            habits[name] = habits[name].with_one(at)
    return found


def last_deployment(company: Company) -> Answers:
    """DevLake's custom: the last deployment of the service before the incident, whenever that was."""
    return _custom(company, lambda _, service: (service,), float("inf"))


def any_in_15_minutes(company: Company) -> Answers:
    """The other custom: the last deployment of the service in 15 minutes, if there is one."""
    return _custom(company, lambda _, service: (service,), 15 * MINUTE)


def any_around_in_15_minutes(company: Company) -> Answers:
    """The same, of the service or of what it depends on."""
    return _custom(company, lambda c, service: (service, *c.services[service].depends_on), 15 * MINUTE)


WAYS: Mapping[str, Callable[[Company], Answers]] = {
    "deploytrail": by_rule,
    "last deployment before": last_deployment,
    "any in 15 minutes": any_in_15_minutes,
    "any around in 15 minutes": any_around_in_15_minutes,
}


def _custom(company: Company, related: Callable[[Company, str], tuple[str, ...]], window: float) -> Answers:
    begun: dict[tuple[str, str], list[tuple[int, str]]] = defaultdict(list)
    for content in contents(company):
        if content["started_at"] is not None:
            begun[content["region"], content["service"]].append((content["started_at"], content["deployment_id"]))
    for starts in begun.values():
        starts.sort()
    found: Answers = {}
    for known in company.signals:
        value, at = known.value, known.value["corrected_at"]
        last = (0, "")
        for service in related(company, value["service"]):
            starts = begun[value["region"], service]
            index = bisect_right(starts, (at, "~"))
            last = max(last, starts[index - 1] if index else (0, ""))
        found[value["signal_id"]] = {last[1] if last[1] and at - last[0] <= window else "": 1.0}
    return found


class _Near:
    """Deployments by region and time."""

    def __init__(self, company: Company) -> None:
        self._by_region: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for content in contents(company):
            if content["started_at"] is not None:
                self._by_region[content["region"]].append(content)
        for found in self._by_region.values():
            found.sort(key=lambda c: c["started_at"])
        self._starts = {region: [c["started_at"] for c in found] for region, found in self._by_region.items()}

    def around(self, region: str, at: int) -> list[dict[str, Any]]:
        """Those that began within a day before, or a little after."""
        starts = self._starts.get(region, [])
        low, high = bisect_right(starts, at - 24 * HOUR), bisect_right(starts, at + 10 * MINUTE)
        return self._by_region[region][low:high] if starts else []
