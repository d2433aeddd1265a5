"""A hand-written history in ClickHouse, stored as the sink stores it: Avro containers by its own writer."""

from __future__ import annotations

import itertools
import json
import uuid
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

import clickhouse_connect
from clickhouse_connect.driver.client import Client
from deploytrail_schemas.codec import decode, encode, writer_of
from deploytrail_schemas.instants import to_micros
from deploytrail_schemas.records import RecordType
from deploytrail_schemas.settings import Settings
from deploytrail_schemas.topics import Topic
from deploytrail_sinks.clickhouse.batches import Range, Row
from deploytrail_sinks.clickhouse.migrate import migrate
from deploytrail_sinks.clickhouse.policy_rows import policy_rows
from deploytrail_sinks.clickhouse.writer import Writer

_TOPIC = {RecordType.RECORD: Topic.RECORDS, RecordType.FINDING: Topic.FINDINGS}


def at(text: str, day: int = 2) -> int:
    """Microseconds of a time of day in November 2026, UTC; the 2nd is a Monday."""
    clock = datetime.fromisoformat(f"2026-11-{day:02}T{text}+00:00")
    return to_micros(clock)


class Trail:
    """A database of its own, with the writer that fills it."""

    def __init__(self, url: str, cluster: str = "", shards: str = "") -> None:
        self.url, self.database = url, f"questions_{uuid.uuid4().hex[:8]}"
        self._settings = Settings(
            clickhouse_url=url, clickhouse_database=self.database, clickhouse_cluster=cluster, clickhouse_shards=shards
        )
        self._writer = Writer(self._settings)
        self._user: Client | None = None
        self.client: Client = self._writer.client()
        self._migrate()
        self._offsets = itertools.count()

    def _migrate(self) -> None:
        migrate(self.client, self.database)

    def store(self, kind: RecordType, values: list[dict[str, Any]], *, written: int | None = None) -> None:
        """Store records. `written`: Kafka's timestamp, µs; else when each was received or recorded."""
        rows = []
        for value in values:
            when = written or value.get("received_at") or value.get("recorded_at") or value["occurred_at"]
            rows.append(self._row(_TOPIC.get(kind, Topic.EVENTS), encode(kind, value), when))
        if rows:
            version = writer_of(rows[0].value or b"").version
            self._writer.insert(Range(rows[0].topic, 1, tuple(rows)), kind, version, rows)

    def apply(self, kind: str, name: str, version: int, since: str, spec: dict[str, Any], written: int) -> None:
        """Store a policy document, applied at `written`."""
        document = {"kind": kind, "name": name, "version": version, "effective_from": since, "spec": spec}
        row = self._row(Topic.POLICIES, json.dumps(document).encode(), written)
        rows, wrong = policy_rows((row,))
        assert not wrong
        self._writer.insert_policies(Range(row.topic, 0, (row,)), rows)

    def ask(self, question: str, **parameters: Any) -> list[dict[str, Any]]:
        """The rows of a question; `{db}` is the database."""
        answer = self.client.query(question.replace("{db}", self.database), parameters=parameters or None)
        return list(answer.named_results())

    def inside(self, question: str) -> list[dict[str, Any]]:
        """The rows of a question whose names are those of the database, as a user's connection asks it."""
        if self._user is None:
            url = urlsplit(self._settings.clickhouse_url)
            self._user = clickhouse_connect.get_client(
                host=url.hostname, port=url.port, database=self.database, autogenerate_session_id=False
            )
        return list(self._user.query(question).named_results())

    def columns(self, question: str) -> tuple[str, ...]:
        """The columns of the answer to such a question, also where it has no rows."""
        return tuple(row["name"] for row in self.inside(f"DESCRIBE ({question})"))

    def close(self) -> None:
        """Drop the database."""
        self.client.command(f"DROP DATABASE {self.database}")

    def _row(self, topic: Topic, value: bytes, written: int) -> Row:
        return Row(topic.value, 1, next(self._offsets), written // 1000, b"k", value, ())


def record(
    deployment_id: str, state: str, started: int | None, finished: int | None = None, **fields: Any
) -> dict[str, Any]:
    """A revision of a deployment's record; recorded when the latest of its times was."""
    value = {
        "deployment_id": deployment_id,
        "revision": 1,
        "state": state,
        "recorded_at": finished or started,
        "region": "eu-west-1",
        "environment": "production",
        "service": "shop",
        "kind": "release",
        "started_at": started,
        "started_at_uncertainty_ms": 0 if started else None,
        "finished_at": finished,
        "finished_at_uncertainty_ms": 0 if finished else None,
        "last_event_at": finished or started,
        "sources": ["library"],
    }
    return decode(encode(RecordType.RECORD, value | fields))[1]


def candidate(
    signal_id: str, deployment_id: str, rank: int, probability: float, when: int, **fields: Any
) -> dict[str, Any]:
    """A finding of the correlation."""
    value = {
        "finding_id": str(uuid.uuid5(uuid.NAMESPACE_OID, f"{signal_id}/{deployment_id}/{probability}")),
        "rule": "incident_correlation",
        "rule_version": 2,
        "verdict": "violation" if deployment_id and probability >= 0.5 else "inconclusive",
        "reason": "deployed_shortly_before" if deployment_id else "no_deployment_explains_it",
        "severity": "critical",
        "occurred_at": when,
        "region": "eu-west-1",
        "environment": "production",
        "service": "shop",
        "deployment_id": deployment_id,
        "signal_id": signal_id,
        "rank": rank,
        "probability": probability,
        "explanation": "in words",
        "evidence": {},
    }
    return decode(encode(RecordType.FINDING, value | fields))[1]
