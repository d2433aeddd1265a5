"""A month of very many deployments in the real tables, made by the engine itself; and the report of it, measured."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from clickhouse_connect.driver.client import Client

_MAIN = "from deploytrail_sinks.reports.report_command import main; import sys; sys.exit(main(sys.argv[1:]))"
_PLACE = "'eu-west-1', 'production', concat('svc-', toString(n % 400))"
_AT = "toDateTime64('2026-11-02 08:00:00', 6, 'UTC') + toIntervalSecond(n % 2000000)"
# Of each deployment: three revisions, four events, four steps of its approval, six verdicts of which one is superseded.
_INSERTS = (
    """INSERT INTO {db}.deployment_revisions (kafka_partition, kafka_offset, kafka_timestamp, deployment_id, revision,
    state, recorded_at, region, environment, service, kind, version, artifact_digest, commit_sha, deployer,
    change_ticket, started_at, finished_at, last_event_at, sources, provenance, confidence)
SELECT 1, number, at, concat('d-', toString(n)), number % 3 + 1, 'succeeded', at, {place}, 'release', '1.0',
    concat('sha256:', hex(sipHash128(n))), hex(sipHash64(n)), 'dora', concat('CHG', toString(n)), at, at, at,
    ['library'], 'reported', 1
FROM (SELECT number, intDiv(number, 3) AS n, {at} AS at FROM numbers({count} * 3))""",
    """INSERT INTO {db}.deployment_events (kafka_partition, kafka_offset, kafka_timestamp, event_id, event_type,
    deployment_id, region, environment, service, permit_id, justification, deployer, corrected_at, tags)
SELECT 1, number, at, toString(number), 'started', concat('d-', toString(n)), {place}, concat('p-', toString(n)),
    'the changes of the sprint', 'dora', at, map('commit_authors', 'cy, dan')
FROM (SELECT number, intDiv(number, 4) AS n, {at} AS at FROM numbers({count} * 4))""",
    """INSERT INTO {db}.approvals (kafka_partition, kafka_offset, kafka_timestamp, approval_id, approval_type,
    corrected_at, region, environment, service, deployment_id, change_ticket, ticket_state, approver, approver_role)
SELECT 1, number, at, toString(number), arrayElement(['registered', 'requested', 'approved', 'permit_issued'],
    number % 4 + 1), at - toIntervalMinute(1), {place}, concat('d-', toString(n)),
    concat('CHG', toString(n)), 'Scheduled', 'grace', 'rm'
FROM (SELECT number, intDiv(number, 4) AS n, {at} AS at FROM numbers({count} * 4))""",
    """INSERT INTO {db}.findings (kafka_partition, kafka_offset, kafka_timestamp, finding_id, rule, verdict, reason,
    severity, occurred_at, region, environment, service, deployment_id, explanation, supersedes)
SELECT 1, number, at, concat('f-', toString(number)), arrayElement(['change_window', 'missing_approval',
    'missing_approval', 'permit_misuse', 'required_fields', 'unregistered_deployment'], number % 6 + 1),
    if(number % 6 = 1 OR number % 60 = 3, 'violation', 'ok'), 'no_approval', 'error', at, {place},
    concat('d-', toString(n)), 'in words of some length', if(number % 6 = 2, concat('f-', toString(number - 1)), '')
FROM (SELECT number, intDiv(number, 6) AS n, {at} AS at FROM numbers({count} * 6))""",
)


@dataclass(frozen=True)
class Made:
    """A report, how long it took and the most memory that its process held."""

    code: int
    seconds: float
    peak_mb: float
    path: Path
    stderr: str


def fill(client: Client, database: str, count: int) -> None:
    """Insert so many deployments."""
    for statement in _INSERTS:
        client.command(statement.format(db=database, place=_PLACE, at=_AT, count=count))


def report(env: dict[str, str], path: Path, form: str = "markdown") -> Made:
    """Make the audit report of the month in a process of its own."""
    words = ("audit", "--month", "2026-11", "--without", "kafka", "--without", "archive", "--format", form)
    argv = [sys.executable, "-c", _MAIN, *words, "--output", str(path)]
    began = time.perf_counter()
    with subprocess.Popen(argv, env=os.environ | env, stderr=subprocess.PIPE, text=True) as child:
        said = child.stderr.read() if child.stderr else ""
        _, status, used = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    return Made(child.returncode, time.perf_counter() - began, used.ru_maxrss / 1024, path, said)
