"""Incidents and what may have caused them."""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard

from boards.parts import AS_OF, ENVIRONMENT, SINCE, board, curve, environments, number, rows, variable

INCIDENTS = f"incident_causes({SINCE}, {AS_OF}, {ENVIRONMENT})"
LIST = f"""
SELECT began_at, ended_at, service, region, severity, title, explained_by, likely_deployment_id,
    likely_probability, none_probability,
    signal_id
FROM {INCIDENTS}
ORDER BY began_at DESC
LIMIT 500
"""
OVER_TIME = f"""
SELECT $__timeInterval(began_at) AS time, explained_by, count() AS incidents
FROM {INCIDENTS}
GROUP BY time, explained_by
ORDER BY time
"""
CANDIDATES = """
SELECT signal_at, signal_title, severity, service, region, rank, probability, if(deployment_id = '',
    '(none of them)', deployment_id) AS cause,
    reason, explanation
FROM incident_candidates
WHERE environment = '${environment}' AND $__timeFilter(signal_at)
ORDER BY signal_at DESC, signal_id, rank
LIMIT 500
"""
BEFORE = """
SELECT service, distance, timing, kind, state, version, deployer, started_at, ended_at, deployment_id
FROM changed_before(service = '${service}', region = '${region}', environment = '${environment}',
    at = toTimeZone($__toTime, 'UTC'), minutes = 15)
"""


def dashboard() -> Dashboard:
    def share(cause: str) -> str:
        return f"SELECT countIf(explained_by = '{cause}') AS value FROM {INCIDENTS}"

    return (
        board(
            "deploytrail-correlation",
            "Deployments: correlation",
            "Incidents and what may have caused them.",
            since="now-7d",
        )
        .with_variable(environments())
        .with_variable(
            variable(
                "region", "Region", "SELECT DISTINCT region FROM deployment_revisions ORDER BY region", "eu-west-1"
            )
        )
        .with_variable(
            variable(
                "service", "Service", "SELECT DISTINCT service FROM deployment_revisions ORDER BY service", "checkout"
            )
        )
        .with_panel(number("Explained by a deployment", "Likely, by 0.5 and more.", share("deployment"), width=8))
        .with_panel(number("Caused by none", "No deployment is likely.", share("none"), width=8))
        .with_panel(number("Not judged yet", "Without an answer of the correlation.", share("unjudged"), width=8))
        .with_panel(curve("Incidents", "Critical and error alerts by what explains them.", OVER_TIME, width=24))
        .with_panel(rows("Incidents and their likely cause", "Newest first.", LIST))
        .with_panel(rows("Candidates", "Of one alert they sum to one, none of them among them.", CANDIDATES))
        .with_panel(
            rows(
                "What changed in the 15 minutes before the end of the time shown",
                "For the service chosen above and those that it needs.",
                BEFORE,
            )
        )
    )
