"""What an SRE asks ClickHouse, through clickhouse-connect.

In: a client whose database is deploytrail's. Out: plain values. Instants are datetimes in UTC.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from clickhouse_connect.driver.client import Client

RUNNING = """
    SELECT deployment_id, service, environment, region, version, started_at, deployer, state
    FROM active_deployments
    ORDER BY started_at DESC, deployment_id
"""
RAN_AT = "SELECT deployment_id FROM ran_at(at = {at:DateTime64(6, 'UTC')})"
CHANGED_BEFORE = """
    SELECT d.deployment_id, d.service, d.version, d.deployer, d.started_at, d.finished_at, d.state
    FROM deployments AS d
    INNER JOIN (SELECT * FROM distinct_signals WHERE signal_id = {signal_id:String}) AS s
      ON d.region = s.region AND d.environment = s.environment
    WHERE d.started_at <= s.corrected_at
      AND if(d.state = 'lost', d.last_event_at, coalesce(d.finished_at, s.corrected_at))
        >= s.corrected_at - INTERVAL {minutes:UInt32} MINUTE
    ORDER BY d.started_at DESC, d.deployment_id
"""
OUTSIDE_WINDOW = """
    SELECT d.deployer, f.deployment_id, d.service, d.region, d.started_at, f.reason
    FROM standing_findings AS f
    INNER JOIN deployments AS d ON d.deployment_id = f.deployment_id
    WHERE f.rule = 'change_window' AND f.verdict = 'violation'
    ORDER BY d.started_at, f.deployment_id
"""
VERDICTS = """
    SELECT deployment_id, verdict, reason FROM standing_findings WHERE rule = {rule:String}
"""
BLAMED = """
    SELECT deployment_id, probability FROM incident_candidates
    WHERE signal_id = {signal_id:String}
    ORDER BY probability DESC, deployment_id
"""


class Verdict(NamedTuple):
    """The standing finding about a deployment."""

    verdict: str
    reason: str


def verdicts(client: Client, rule: str) -> dict[str, Verdict]:
    """The standing findings of a rule by deployment."""
    return {row[0]: Verdict(row[1], row[2]) for row in _rows(client, VERDICTS, rule=rule)}


def states(client: Client) -> dict[str, str]:
    """The state of every deployment."""
    return {row[0]: row[1] for row in _rows(client, "SELECT deployment_id, state FROM deployments")}


def starts(client: Client) -> dict[str, tuple[datetime, int]]:
    """Corrected start of every deployment and its uncertainty in milliseconds."""
    rows = _rows(
        client,
        "SELECT deployment_id, started_at, started_at_uncertainty_ms FROM deployments WHERE started_at IS NOT NULL",
    )
    return {row[0]: (row[1], row[2] or 0) for row in rows}


def running(client: Client) -> list[Sequence[Any]]:
    """What is running now."""
    return _rows(client, RUNNING)


def ran_at(client: Client, at: datetime) -> set[str]:
    """What ran at an instant."""
    return {row[0] for row in _rows(client, RAN_AT, at=at)}


def changed_before(client: Client, signal_id: str, minutes: int = 15) -> list[Sequence[Any]]:
    """What changed in the place of a signal in the minutes before it."""
    return _rows(client, CHANGED_BEFORE, signal_id=signal_id, minutes=minutes)


def outside_window(client: Client) -> list[Sequence[Any]]:
    """Who deployed outside the change windows."""
    return _rows(client, OUTSIDE_WINDOW)


def blamed(client: Client, signal_id: str) -> list[tuple[str, float]]:
    """Candidates for a signal's cause with their probabilities, most likely first; "" is "none"."""
    return [(row[0], row[1]) for row in _rows(client, BLAMED, signal_id=signal_id)]


def distinct_ids(client: Client, table: str, column: str) -> frozenset[str] | None:
    """Distinct ids of a table; None where there is no such table."""
    if not _rows(
        client, "SELECT 1 FROM system.tables WHERE database = currentDatabase() AND name = {t:String}", t=table
    ):
        return None
    return frozenset(str(row[0]) for row in _rows(client, f"SELECT DISTINCT {column} FROM {table}"))


def count(client: Client, table: str) -> int:
    """Rows of a table."""
    return int(_rows(client, f"SELECT count() FROM {table}")[0][0])


def _rows(client: Client, sql: str, **parameters: Any) -> list[Sequence[Any]]:
    return [[_aware(item) for item in row] for row in client.query(sql, parameters=parameters).result_rows]


def _aware(item: Any) -> Any:
    # The client leaves out the zone of UTC columns.
    return item.replace(tzinfo=UTC) if isinstance(item, datetime) and item.tzinfo is None else item
