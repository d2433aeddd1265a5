"""Health checks are found by place and time, and forgotten whole, whatever their ids look like."""

from __future__ import annotations

import pytest
from deploytrail_processors.apps.base import MemoryContext, row_key
from deploytrail_processors.apps.health_checks import KEEP_HEALTH, HealthChecks
from deploytrail_processors.rules.policies import PolicySet
from deploytrail_schemas.settings import Settings
from support.values import MINUTE, NOON

PLACE = row_key(1, "eu-west-1/production/shop")
IDS = ["probe", "probe/latency", "probe/latency/p99", "/"]


@pytest.mark.requirement("M1.4")
@pytest.mark.parametrize("restarts", [False, True])
def test_an_id_may_have_slashes_before_a_restart_and_after(restarts: bool) -> None:
    context = MemoryContext("success_criteria", Settings(), PolicySet(), lambda *_: None)
    checks = HealthChecks(context)
    for minute, name in enumerate(IDS):
        checks.add(1, PLACE, {"at": NOON + minute * MINUTE, "id": name})
    if restarts:
        checks.on_recovered()

    def kept() -> list[str]:
        return [seen["id"] for seen in checks.between(1, PLACE, NOON, NOON + MINUTE * len(IDS))]

    assert kept() == IDS
    checks.forget_old(1, NOON + KEEP_HEALTH + 2 * MINUTE - 1)
    assert kept() == IDS[2:]
    checks.forget_old(1, NOON + KEEP_HEALTH + len(IDS) * MINUTE)
    assert (kept(), dict(context.tables["health"])) == ([], {})
