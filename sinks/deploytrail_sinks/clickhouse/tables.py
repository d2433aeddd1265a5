"""Tables made of Avro schemas, so that columns and fields cannot drift apart.

`python -m deploytrail_sinks.clickhouse.tables` prints the DDL that the first migration holds, of the first version
of each schema; a test compares the two. What later versions bring, later migrations add; a test asks for each.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass

from deploytrail_schemas.records import RecordType
from deploytrail_schemas.schema import AvroSchema, is_instant, versions
from deploytrail_schemas.topics import Topic

# Avro fields that lead every row: where in Kafka it stands. A row is unique by topic, partition and offset.
POSITION: list[AvroSchema] = [
    {"name": "kafka_partition", "type": "int", "doc": "Partition of the record."},
    {"name": "kafka_offset", "type": "long", "doc": "Offset of the record in its partition."},
    {
        "name": "kafka_timestamp",
        "type": {"type": "long", "logicalType": "timestamp-millis"},
        "doc": "Kafka's timestamp of the record.",
    },
]
# Text with few different values.
_FEW = frozenset(
    {
        *("region", "environment", "service", "tier", "team", "cohort", "cluster", "repository", "source", "sprint"),
        *("build_system", "pipeline", "job", "stage", "deployer", "approver", "approver_role", "reporter"),
        *("reported_region", "reported_environment", "reported_service", "ticket_state"),
        *("rule", "reason", "outcome_reason", "policy_version"),
    }
)


@dataclass(frozen=True, slots=True)
class Table:
    """A table that holds one kind of record."""

    name: str
    kind: RecordType
    order_by: str
    comment: str


TABLES = (
    Table(
        "deployment_events",
        RecordType.DEPLOYMENT_EVENT,
        "(region, environment, service, corrected_at, kafka_partition, kafka_offset)",
        "Every event of every deployment as it stands on the trail",
    ),
    Table(
        "signals",
        RecordType.SIGNAL,
        "(region, environment, service, corrected_at, kafka_partition, kafka_offset)",
        "Alerts, incidents and health checks as they stand on the trail",
    ),
    Table(
        "approvals",
        RecordType.APPROVAL,
        "(region, environment, service, corrected_at, kafka_partition, kafka_offset)",
        "Approvals, registrations and permits as they stand on the trail",
    ),
    Table(
        "observations",
        RecordType.OBSERVATION,
        "(region, environment, service, corrected_at, kafka_partition, kafka_offset)",
        "What was seen or declared to run, as it stands on the trail",
    ),
    Table(
        "deployment_revisions",
        RecordType.RECORD,
        "(deployment_id, revision, kafka_partition, kafka_offset)",
        "Every revision of every deployment's record",
    ),
    Table(
        "findings",
        RecordType.FINDING,
        "(rule, verdict, occurred_at, kafka_partition, kafka_offset)",
        "Every verdict of every rule, also those superseded since",
    ),
)
BY_KIND = {table.kind: table for table in TABLES}
TOPIC_OF_TABLE = {
    **dict.fromkeys(("deployment_events", "signals", "approvals", "observations"), Topic.EVENTS),
    "deployment_revisions": Topic.RECORDS,
    "findings": Topic.FINDINGS,
    "dead_letters": Topic.DEAD_LETTERS,
    "policies": Topic.POLICIES,
    "federated_current": Topic.FEDERATED,
}
# Blocks of so many inserts are remembered by their token; a sink never re-sends anything as old.
DEDUPLICATION_WINDOW = 10_000


def column_type(field: AvroSchema) -> str:
    """The ClickHouse type that holds every value of an Avro field unchanged."""
    declared = field["type"]
    optional = isinstance(declared, list)
    if optional:
        declared = next(t for t in declared if t != "null")
    plain = declared if isinstance(declared, str) else declared["type"]
    if is_instant(field):
        name = "DateTime64(6, 'UTC')"
    elif isinstance(declared, dict) and declared.get("logicalType") == "timestamp-millis":
        name = "DateTime64(3, 'UTC')"
    elif plain == "enum" or (plain == "string" and field["name"] in _FEW):
        name = "LowCardinality(String)"
    else:
        name = {
            "string": "String",
            "int": "Int32",
            "long": "Int64",
            "double": "Float64",
            "boolean": "Bool",
            "map": "Map(String, String)",
            "array": "Array(String)",
        }[plain]
    return f"Nullable({name})" if optional and not _always_set(field) else name


def _always_set(field: AvroSchema) -> bool:
    # Null as reported, set by the intake app for whatever reaches a table.
    return field["name"] in ("received_at", "corrected_at", "uncertainty_ms")


def ddl(database: str) -> Iterator[str]:
    """CREATE TABLE statements of every table."""
    for table in TABLES:
        yield create(database, table.name, table.kind, "MergeTree", table.order_by, table.comment)
    yield create(
        database,
        "current_deployments",
        RecordType.RECORD,
        "ReplacingMergeTree(revision)",
        "deployment_id",
        "Storage of the view `deployments`: the newest revision of each record, once merged",
    )


def create(database: str, name: str, kind: RecordType, engine: str, order_by: str, comment: str) -> str:
    """One CREATE TABLE statement."""
    columns = ",\n".join(
        f"    `{field['name']}` {column_type(field)} COMMENT {quote(field['doc'])}"
        for field in POSITION + versions(kind)[1]["fields"]
    )
    return (
        f"CREATE TABLE IF NOT EXISTS {database}.{name}\n(\n{columns}\n)\nENGINE = {engine}\nORDER BY {order_by}\n"
        f"SETTINGS non_replicated_deduplication_window = {DEDUPLICATION_WINDOW}\nCOMMENT {quote(comment)}"
    )


def quote(text: str) -> str:
    """A string literal of ClickHouse SQL."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


if __name__ == "__main__":
    sys.stdout.write(";\n\n".join(ddl("{database}")) + ";\n")
