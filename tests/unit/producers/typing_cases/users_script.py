"""A deploy script as users write it, for the type checker alone: each type is what a user may rely on."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import assert_type

import deploytrail
from deploytrail import Tracker


def roll_out() -> None:
    """What the user deploys with."""


with deploytrail.track("checkout", "production", region="eu-west-1", version="4.2.0", kind="hotfix") as deployment:
    assert_type(deployment, Tracker)
    assert_type(deployment.id, str)
    roll_out()
    assert_type(deployment.progress(cohort="canary", cohort_weight=0.1), None)

with deploytrail.track(service="checkout", environment="production", tags={"sprint": "42"}, emergency=True):
    roll_out()


async def deploy() -> None:
    """In an event loop."""
    async with Tracker("checkout", "production", strategy="canary", occurred_at=datetime.now(UTC)) as tracker:
        assert_type(tracker, Tracker)


started = deploytrail.start("checkout", "production", change_ticket="CHG1", artifact_digest=None)
assert_type(started, Tracker)
assert_type(str(started), str)
assert_type(deploytrail.succeed(started), None)
assert_type(deploytrail.fail(started.id, ValueError("no such host"), exit_code=3), None)
assert_type(deploytrail.roll_back(started, deployer="mona", deployer_type="person"), Tracker)
assert_type(Tracker("checkout", "production").register(justification="release").start(), Tracker)
assert_type(deploytrail.flush(2.5), bool)
with started.rollback(reversible=False) as undoing:
    assert_type(undoing, Tracker)
