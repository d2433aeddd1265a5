"""DORA's four keys with their denominators, frequency, batch size, risk."""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard

from boards.parts import COUNTED, board, curve, environments, rows

KEYS = f"SELECT * FROM dora({COUNTED})"
FREQUENCY = f"""
SELECT toDateTime(day, 'UTC') AS time, toString(team) AS team, sum(deployments) AS deployments
FROM deployment_frequency({COUNTED}, zone = 'UTC')
GROUP BY time, team
ORDER BY time
"""
BATCH = f"""
SELECT toDateTime(day, 'UTC') AS time, avg(mean_batch_size) AS batch_size
FROM deployment_frequency({COUNTED}, zone = 'UTC')
GROUP BY time
ORDER BY time
"""
FAILURES = f"""
SELECT counted_at, team, service, kind, state, failure_probability, incident_probability, rolled_back_by, signals,
    deployment_id
FROM change_failures({COUNTED})
WHERE failure_probability > 0
ORDER BY failure_probability DESC, counted_at DESC
LIMIT 200
"""
RISK = f"""
SELECT counted_at, team, service, kind, tier, risk, failure_rate_before, failed_before, finished_before,
    batch_size, dependents,
    counted_as, deployment_id
FROM deployment_risk({COUNTED})
ORDER BY risk DESC, counted_at DESC
LIMIT 200
"""


def dashboard() -> Dashboard:
    return (
        board("deploytrail-performance", "Deployments: delivery performance", "DORA's four keys and what they rest on.")
        .with_variable(environments())
        .with_panel(
            rows(
                "Four keys",
                "Per team that owned the service on that day. Rates with Wilson's interval of 95 % over finished "
                "changes, medians with the interval of order statistics.",
                KEYS,
                height=10,
            )
        )
        .with_panel(curve("Deployments a day", "Days in UTC.", FREQUENCY))
        .with_panel(curve("Batch size", "Different commits of a deployment, mean of the day.", BATCH))
        .with_panel(rows("Changes that failed", "For certain, or by what incidents say.", FAILURES))
        .with_panel(rows("Riskiest changes", "By what was known before the time shown.", RISK))
    )
