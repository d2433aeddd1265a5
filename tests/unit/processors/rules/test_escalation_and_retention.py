"""Who is told, and who next; how long records are kept: read, refused and chosen."""

from __future__ import annotations

from typing import Any

import pytest
from deploytrail_processors.rules.policies import Policies, escalation_for, read_document, retention_for
from deploytrail_schemas.policies.escalation import Level

PLACE = {
    "service": "shop",
    "environment": "production",
    "region": "eu-west-1",
    "kind": "release",
    "team": "web",
    "tier": "",
}
LEVELS = [{"notify": ["deployer"], "acknowledge_minutes": 5}, {"notify": ["team", "sre-lead"]}]


def in_force(*documents: tuple[str, str, dict[str, Any]]) -> Policies:
    return Policies(tuple(read_document({"kind": k, "name": n, "spec": spec}) for k, n, spec in documents))


def test_levels_are_read_in_their_order_with_the_time_that_each_has() -> None:
    found = escalation_for(PLACE, "error", in_force(("escalation", "all", {"levels": LEVELS, "rounds": 2})))

    assert found is not None
    document, spec = found
    assert document.key == "escalation/all/1"
    first, second = spec.levels
    assert (first, second) == (Level(("deployer",), 5.0), Level(("team", "sre-lead"), 10.0))
    assert spec.rounds == 2


def test_the_narrowest_escalation_of_that_severity_counts_and_an_invalid_one_silences_nobody() -> None:
    policies = in_force(
        ("escalation", "all", {"levels": LEVELS}),
        ("escalation", "shop", {"levels": [{"notify": ["web-lead"]}], "severities": ["critical"],
                                "scope": {"services": ["shop"]}}),
        ("escalation", "broken", {"levels": []}),
    )  # fmt: skip

    names = {s: found and found[0].name for s in ("critical", "error", "info")
             for found in [escalation_for(PLACE, s, policies)]}  # fmt: skip
    assert names == {"critical": "shop", "error": "all", "info": None}


@pytest.mark.parametrize(
    ("kind", "spec", "wrong"),
    [
        ("escalation", {}, ["spec.levels"]),
        ("escalation", {"levels": ["team"]}, ["spec.levels"]),
        ("escalation", {"levels": [{"notify": []}]}, ["spec.levels[0].notify"]),
        ("escalation", {"levels": [LEVELS[0], {"notify": ["a"], "call": True}]}, ["spec.levels[1].call"]),
        ("escalation", {"levels": [{"notify": ["a"], "acknowledge_minutes": 1441}]},
         ["spec.levels[0].acknowledge_minutes"]),
        ("escalation", {"levels": LEVELS * 6}, ["spec.levels"]),
        ("escalation", {"levels": LEVELS, "severities": ["bad"]}, ["spec.severities"]),
        ("retention", {"days": 10}, ["spec.class"]),
        ("retention", {"class": "production"}, ["spec.days"]),
        ("retention", {"class": "production-regulated", "days": 2000}, ["spec.days"]),
        ("retention", {"class": "production", "days": 10, "lock": "maybe"}, ["spec.lock"]),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused_with_its_place(kind: str, spec: dict[str, Any], wrong: list[str]) -> None:
    document = read_document({"kind": kind, "name": "one", "spec": spec})

    assert [problem.path for problem in document.problems] == wrong


def test_records_are_kept_as_long_as_the_longest_policy_that_covers_them_says() -> None:
    policies = in_force(
        ("retention", "all", {"class": "non-production", "days": 90}),
        ("retention", "production", {"class": "production", "days": 1100, "scope": {"environments": ["production"]}}),
        ("retention", "sox", {"class": "production-regulated", "days": 2600, "lock": "compliance", "regimes": ["sox"]}),
        ("service", "billing", {"regimes": ["sox"]}),
    )
    classes = {
        (service, environment): found and found[1].retention_class
        for service in ("shop", "billing")
        for environment in ("production", "staging")
        for found in [retention_for(PLACE | {"service": service, "environment": environment}, policies)]
    }

    assert classes == {
        ("shop", "production"): "production",
        ("shop", "staging"): "non-production",
        ("billing", "production"): "production-regulated",
        ("billing", "staging"): "production-regulated",
    }
    assert retention_for(PLACE, in_force()) is None
