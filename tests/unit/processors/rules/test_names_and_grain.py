"""Names that nobody declared, and services that are reported at another grain than they declare."""

from __future__ import annotations

from typing import Any

import pytest
from deploytrail_processors.rules.names_and_grain import find_other_grain, find_unmapped
from deploytrail_processors.rules.policies import Policies, read_document
from support.values import MINUTE, NOON, event

DAY = NOON // 86_400_000_000
KNOWN = frozenset({"eu-west-1"})
DECLARED = Policies(
    (
        read_document({"kind": "environment", "name": "lab", "spec": {"aliases": ["bench-*"]}}),
        read_document({"kind": "region", "name": "cellar", "spec": {}}),
    )
)


@pytest.mark.requirement("M2.4")
@pytest.mark.parametrize(
    ("fields", "reasons"),
    [
        ({}, []),
        ({"environment": "lab"}, []),
        ({"environment": "bench-7"}, []),
        ({"environment": "qa3"}, []),
        ({"environment": "moon"}, ["unknown_environment"]),
        ({"region": "cellar"}, []),
        ({"region": "global"}, []),
        ({"region": "mars"}, ["unknown_region"]),
        ({"region": "mars", "environment": "moon"}, ["unknown_region", "unknown_environment"]),
    ],
)
def test_a_place_that_nobody_declared_is_a_finding(fields: dict[str, Any], reasons: list[str]) -> None:
    found = find_unmapped(event("started", **fields), DECLARED, KNOWN, day=DAY)

    assert [one["reason"] for one in found] == reasons
    assert {one["rule"] for one in found} <= {"unmapped_name"}


def test_a_name_is_one_finding_a_day_whoever_says_it() -> None:
    first, second, tomorrow = (
        find_unmapped(one, DECLARED, KNOWN, day=day)[0]
        for one, day in (
            (event("started", environment="moon"), DAY),
            (event("failed", NOON + MINUTE, environment="moon", service="other"), DAY),
            (event("started", environment="moon"), DAY + 1),
        )
    )

    assert first["explanation"] == "no policy knows the environment 'moon', which shop was reported in"
    assert first["evidence"] == {"environment": "moon", "day": "2026-11-02"}
    assert first["finding_id"] == second["finding_id"] != tomorrow["finding_id"]


@pytest.mark.requirement("M1.1")
@pytest.mark.parametrize(
    ("declared", "fields", "reason"),
    [
        ("region", {}, None),
        ("region", {"instance": "web-1"}, "finer_than_declared"),
        ("region", {"region": "Global"}, "coarser_than_declared"),
        ("instance", {"instance": "web-1"}, None),
        ("instance", {}, "coarser_than_declared"),
        ("environment", {"region": "all"}, None),
        ("environment", {}, "finer_than_declared"),
        ("", {"instance": "web-1"}, None),  # nothing declared, nothing to differ from
    ],
)
def test_a_service_is_reported_at_the_grain_that_it_declares(
    declared: str, fields: dict[str, Any], reason: str | None
) -> None:
    policies = Policies((read_document({"kind": "service", "name": "shop", "spec": {"grain": declared}}),))
    found = find_other_grain(event("started", **fields), policies, day=DAY)

    assert (found and found["reason"]) == reason
    if found:
        assert (found["rule"], found["service"]) == ("grain", "shop")
        assert found["evidence"]["declared"] == declared
