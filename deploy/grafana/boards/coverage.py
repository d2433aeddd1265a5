"""What the trail does not see: coverage, tickets, access."""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard

from boards.parts import ENVIRONMENT, SINCE, board, environments, number, rows

COVERED = f"SELECT sum(running_registered) / nullIf(sum(running), 0) AS value FROM coverage({SINCE})"
WITHOUT_END = f"SELECT sum(without_end) / nullIf(sum(deployments), 0) AS value FROM coverage({SINCE})"
UNMAPPED = f"SELECT sum(unmapped) / nullIf(sum(deployments), 0) AS value FROM coverage({SINCE})"
BROKEN = f"SELECT count() AS value FROM broken_ticket_links({SINCE}, {ENVIRONMENT})"
PER_TEAM = f"SELECT * FROM coverage({SINCE}) ORDER BY coverage, team, tool"
DRIFT = "SELECT * FROM drift ORDER BY environment, service, region LIMIT 500"
TICKETS = f"SELECT * FROM broken_ticket_links({SINCE}, {ENVIRONMENT}) ORDER BY at DESC LIMIT 500"
ACCESS = f"""
SELECT credential, through, verdict, team, could_verbs, unused_verbs, did_verbs, could_services, did_services, people,
    records, last_used_at
FROM access_review({SINCE})
LIMIT 1000
"""


def dashboard() -> Dashboard:
    return (
        board("deploytrail-coverage", "Deployments: coverage", "What the trail does not see.", since="now-90d")
        .with_variable(environments())
        .with_panel(number("Coverage", "Seen to run and reported.", COVERED, unit="percentunit"))
        .with_panel(number("Without an end", "Deployments of which no end was heard.", WITHOUT_END, unit="percentunit"))
        .with_panel(number("Unmapped", "Deployments in places that no policy knows.", UNMAPPED, unit="percentunit"))
        .with_panel(number("Broken ticket links", "That do not hold both ways.", BROKEN))
        .with_panel(rows("Per team and tool", "Lowest coverage first.", PER_TEAM))
        .with_panel(rows("Drift", "What runs and was not deployed last, and who brought it.", DRIFT))
        .with_panel(rows("Broken ticket links", "Newest first.", TICKETS))
        .with_panel(rows("Who could against who did", "Unused grants first.", ACCESS))
    )
