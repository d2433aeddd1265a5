"""What is being deployed, and what runs."""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard

from boards.parts import board, curve, number, rows

RUNNING = """
SELECT service, environment, region, version, state, started_at, dateDiff('second', started_at, now64(6,
    'UTC')) AS seconds,
    deployer, change_ticket, cohorts, sources, deployment_id
FROM active_deployments
ORDER BY started_at DESC
LIMIT 500
"""
BEGAN = """
SELECT $__timeInterval(started_at) AS time, toString(environment) AS environment, count() AS deployments
FROM deployments
WHERE $__timeFilter(started_at)
GROUP BY time, environment
ORDER BY time
"""
ENDED = """
SELECT $__timeInterval(finished_at) AS time, toString(state) AS state, count() AS deployments
FROM deployments
WHERE $__timeFilter(finished_at)
GROUP BY time, state
ORDER BY time
"""
VIOLATIONS = """
SELECT occurred_at, rule, service, environment, region, reason, explanation, deployment_id
FROM standing_findings
WHERE verdict = 'violation' AND rule IN ('change_window', 'change_window_overrun', 'overdue', 'approval',
    'change_burst')
    AND $__timeFilter(occurred_at)
ORDER BY occurred_at DESC
LIMIT 200
"""
RUNS = """
SELECT service, environment, region, version, since, seen_versions, seen_instances, seen_at, agreement, deployment_id
FROM what_runs
ORDER BY agreement = 'as_deployed', environment, service, region
LIMIT 2000
"""


def dashboard() -> Dashboard:
    count = "SELECT count() AS value FROM active_deployments"
    return (
        board(
            "deploytrail-deployments", "Deployments: active", "What is being deployed, and what runs.", since="now-6h"
        )
        .with_panel(number("Active", "Deployments without an end.", count))
        .with_panel(number("Degraded", "A cohort failed, others run.", f"{count} WHERE state = 'degraded'"))
        .with_panel(number("Waiting", "For an approval.", f"{count} WHERE state = 'waiting_approval'"))
        .with_panel(
            number(
                "Lost",
                "Of which no end was ever heard, begun in the time shown.",
                "SELECT count() AS value FROM deployments WHERE state = 'lost' AND $__timeFilter(started_at)",
            )
        )
        .with_panel(rows("Active deployments", "Newest first.", RUNNING, height=10))
        .with_panel(curve("Begun", "Deployments by when they began.", BEGAN))
        .with_panel(curve("Ended", "Deployments by when and how they ended.", ENDED))
        .with_panel(rows("Verdicts against them", "Windows, overruns, overdue, approvals, bursts.", VIOLATIONS))
        .with_panel(rows("What runs", "Deployed last, beside what is seen; what differs first.", RUNS, height=12))
    )
