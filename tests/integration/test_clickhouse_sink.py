"""The ClickHouse sink on a real Kafka and the real engine: every value, each message once."""

from __future__ import annotations

import io
import json
import math
import os
import subprocess
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import fastavro
import pytest
from clickhouse_connect.driver.client import Client
from confluent_kafka import Producer
from deploytrail_schemas.codec import MARKER, encode
from deploytrail_schemas.kafka import producer_config
from deploytrail_schemas.records import RecordType
from deploytrail_schemas.schema import is_instant, schema_fingerprint, versions, without_logical_types
from deploytrail_schemas.settings import Settings
from deploytrail_schemas.topics import Topic
from deploytrail_sinks.clickhouse.migrate import migrate
from deploytrail_sinks.clickhouse.tables import BY_KIND
from deploytrail_sinks.clickhouse.writer import connect
from support.commands import BIN, Command, running
from support.kafka import make_topics, wait_for, write
from support.values import NOON, signal

TOPIC_OF = {RecordType.RECORD: Topic.RECORDS, RecordType.FINDING: Topic.FINDINGS}


@pytest.fixture(scope="module")
def env(own_kafka: str, clickhouse: str) -> dict[str, str]:
    make_topics(own_kafka)
    return {
        "DEPLOYTRAIL_KAFKA": own_kafka,
        "DEPLOYTRAIL_CLICKHOUSE_URL": clickhouse,
        "DEPLOYTRAIL_CLICKHOUSE_DATABASE": f"sink_{uuid.uuid4().hex[:8]}",
    }


@pytest.fixture(scope="module")
def sink(env: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Command]:
    with running("sink", "clickhouse", env=env, cwd=tmp_path_factory.mktemp("sink")) as command:
        yield command
        assert command.stop() == 0


@pytest.fixture(scope="module")
def client(env: dict[str, str]) -> Client:
    return connect(Settings.load({**env, "DEPLOYTRAIL_CLICKHOUSE_DATABASE": ""}))


def rows(client: Client, env: dict[str, str], question: str) -> list[dict[str, Any]]:
    question = question.replace("{db}", env["DEPLOYTRAIL_CLICKHOUSE_DATABASE"])
    return list(client.query(question).named_results())


def extremes(field: dict[str, Any]) -> list[Any]:
    """The values at the edges of what an Avro field can hold and its column can show."""
    declared = field["type"]
    branches = declared if isinstance(declared, list) else [declared]
    plain = next(b for b in branches if b != "null")
    name = plain if isinstance(plain, str) else plain["type"]
    if is_instant(field):
        # DateTime64(6) holds 1900 to 2299.
        found: list[Any] = [0, 1, -1, NOON + 123_456, -2_208_988_800_000_000, 10_413_791_999_000_000]
    elif name == "enum":
        found = list(plain["symbols"])
    else:
        found = {
            "string": ["", "plain", "ünïcode ☃ 𝄞", 'it\'s \\ "quoted"\n\t', "x" * 70_000],
            "long": [0, -(1 << 63), (1 << 63) - 1],
            "double": [0.0, -0.0, -1.5, 5e-324, 1.7976931348623157e308, math.inf, -math.inf, math.nan],
            "boolean": [False, True],
            "map": [{}, {"": ""}, {"k": "v", "ü": "☃'"}],
            "array": [[], [""], ["a", "ü"]],
        }[name]
    return (
        [None, *found]
        if "null" in branches and field["name"] not in ("received_at", "corrected_at", "uncertainty_ms")
        else found
    )


def encoded(schema: dict[str, Any], value: dict[str, Any]) -> bytes:
    """A record as a writer of this version of its schema would have written it."""
    out = io.BytesIO()
    out.write(MARKER + schema_fingerprint(schema))
    fastavro.schemaless_writer(out, fastavro.parse_schema(without_logical_types(schema)), value)
    return out.getvalue()


def shown(field: dict[str, Any], value: Any) -> Any:
    """A value as the client shows it."""
    if value is None or not is_instant(field):
        return value
    return datetime.fromtimestamp(value // 1_000_000, UTC).replace(tzinfo=None, microsecond=value % 1_000_000)


@pytest.mark.requirement("M3.4")
@pytest.mark.parametrize(
    ("kind", "version"),
    [(kind, version) for kind in sorted(BY_KIND, key=lambda kind: kind.value) for version in versions(kind)],
    ids=lambda part: getattr(part, "value", part),
)
def test_every_extreme_of_every_column_comes_back(
    kind: RecordType, version: int, env: dict[str, str], sink: Command, client: Client
) -> None:
    topic = TOPIC_OF.get(kind, Topic.EVENTS)
    schema = versions(kind)[version]
    every = schema["fields"]
    base = {
        f["name"]: extremes(f)[-1] if f["name"] in ("received_at", "corrected_at", "uncertainty_ms") else extremes(f)[0]
        for f in every
    }
    mark = f"extremes-{kind.value}-{version}"
    marker = "source" if kind not in TOPIC_OF else {"Record": "build_id", "Finding": "rule"}[kind.value]
    written = [
        base | {f["name"]: value} | {marker: mark} for f in every if f["name"] != marker for value in extremes(f)
    ]
    write(env["DEPLOYTRAIL_KAFKA"], topic, [(11, b"k", encoded(schema, value)) for value in written])
    table = BY_KIND[kind].name
    question = f"SELECT * FROM {{db}}.{table} WHERE {marker} = '{mark}' ORDER BY kafka_offset"
    wait_for(lambda: len(rows(client, env, question)) >= len(written), what="the rows")
    found = rows(client, env, question)

    assert len(found) == len(written)
    for value, back in zip(written, found, strict=True):
        for field in every:
            # as text: 0.0 and -0.0 are equal, and no number that is none equals another
            assert repr(back[field["name"]]) == repr(shown(field, value[field["name"]])), field["name"]


def test_a_deployment_is_one_row_of_its_newest_revision(env: dict[str, str], sink: Command, client: Client) -> None:
    record = {"deployment_id": "one", "recorded_at": NOON, "region": "r", "environment": "e", "service": "s"}
    states = ["running", "succeeded", "rolled_back"]
    values = [record | {"revision": i, "state": state} for i, state in enumerate(states, 1)]
    write(
        env["DEPLOYTRAIL_KAFKA"],
        Topic.RECORDS,
        [(1, b"one", encode(RecordType.RECORD, v)) for v in [*values, values[0]]],
    )
    revisions = "SELECT * FROM {db}.deployment_revisions WHERE deployment_id = 'one'"
    wait_for(lambda: len(rows(client, env, revisions)) == 4, what="the revisions")

    def found() -> list[tuple[int, str]]:
        question = "SELECT * FROM {db}.deployments WHERE deployment_id = 'one'"
        return [(r["revision"], r["state"]) for r in rows(client, env, question)]

    # What feeds it runs behind the insert of its revisions.
    wait_for(lambda: found() == [(3, "rolled_back")], what="the newest revision")
    assert len(rows(client, env, revisions)) == 4


@pytest.mark.requirement("M8.1")
def test_the_same_id_in_two_regions_is_two_deployments(env: dict[str, str], sink: Command, client: Client) -> None:
    record = {"deployment_id": "twice", "recorded_at": NOON, "environment": "e", "service": "s"}
    verdict = {
        "rule": "overdue",
        "rule_version": 1,
        "reason": "late",
        "occurred_at": NOON,
        "environment": "e",
        "service": "s",
    }
    states = {1: ("eu-west-1", 3, "failed", "ok"), 2: ("us-east-1", 1, "running", "violation")}
    for partition, (region, revision, state, found) in states.items():
        whole = record | {"region": region, "revision": revision, "state": state}
        finding = verdict | {"finding_id": region, "deployment_id": "twice", "region": region, "verdict": found}
        write(env["DEPLOYTRAIL_KAFKA"], Topic.RECORDS, [(partition, b"twice", encode(RecordType.RECORD, whole))])
        write(env["DEPLOYTRAIL_KAFKA"], Topic.FINDINGS, [(partition, b"twice", encode(RecordType.FINDING, finding))])
    known = "SELECT region, state FROM {db}.deployments WHERE deployment_id = 'twice' ORDER BY region"
    standing = "SELECT region, verdict FROM {db}.standing_findings WHERE deployment_id = 'twice' ORDER BY region"
    wait_for(lambda: len(rows(client, env, known)) + len(rows(client, env, standing)) >= 4, what="both regions")

    assert [tuple(r.values()) for r in rows(client, env, known)] == [("eu-west-1", "failed"), ("us-east-1", "running")]
    assert [tuple(r.values()) for r in rows(client, env, standing)] == [("eu-west-1", "ok"), ("us-east-1", "violation")]


def test_poison_is_set_aside_and_the_rest_goes_in(env: dict[str, str], sink: Command, client: Client) -> None:
    good = [encode(RecordType.SIGNAL, signal(at=NOON + i, title="beside poison")) for i in range(6)]
    poison = [good[0][:-4], b"\xc3\x01" + b"nowriter" + b"x", b"plain"]
    mixed = [good[0], poison[0], good[1], good[2], poison[1], good[3], poison[2], good[4], good[5]]
    write(env["DEPLOYTRAIL_KAFKA"], Topic.EVENTS, [(12, b"k", value) for value in mixed])
    question = "SELECT * FROM {db}.signals WHERE title = 'beside poison'"
    letters = "SELECT reason, value, origin_topic, origin_partition FROM {db}.dead_letters WHERE origin_partition = 12"
    wait_for(lambda: len(rows(client, env, question)) >= 6 and len(rows(client, env, letters)) >= 3, what="all nine")

    assert len(rows(client, env, question)) == 6
    assert sorted(r["reason"] for r in rows(client, env, letters)) == [
        "malformed",
        "unknown_schema",
        "unknown_wire_format",
    ]
    assert {r["origin_topic"] for r in rows(client, env, letters)} == {"deploytrail.events"}


# 0 is "now" to the client, and brokers refuse what is more than an hour ahead.
@pytest.mark.parametrize("at", [1, 999, 1_700_000_000_123])
def test_kafkas_own_timestamp_may_be_old(at: int, env: dict[str, str], sink: Command, client: Client) -> None:
    title = f"kafka time {at}"
    producer = Producer(producer_config(Settings(kafka=env["DEPLOYTRAIL_KAFKA"])))
    producer.produce(Topic.EVENTS.value, encode(RecordType.SIGNAL, signal(title=title)), partition=8, timestamp=at)
    producer.produce(Topic.DEAD_LETTERS.value, title, partition=2, timestamp=at)
    assert producer.flush(60) == 0
    letters = f"SELECT count() AS n FROM {{db}}.dead_letters WHERE value = '{title}'"
    found = f"SELECT kafka_timestamp FROM {{db}}.signals WHERE title = '{title}'"
    wait_for(lambda: bool(rows(client, env, found)) and rows(client, env, letters)[0]["n"] == 1, what="both rows")

    expected = datetime.fromtimestamp(at // 1000, UTC).replace(tzinfo=None, microsecond=at % 1000 * 1000)
    assert rows(client, env, found) == [{"kafka_timestamp": expected}]


def test_migrations_are_applied_once(env: dict[str, str], sink: Command, client: Client) -> None:
    assert migrate(client, env["DEPLOYTRAIL_CLICKHOUSE_DATABASE"]) == []


def shown_day(month: int) -> datetime:
    return datetime(2026, month, 1, tzinfo=UTC).replace(tzinfo=None)


def test_policies_come_in_with_their_dates_and_what_is_none_is_set_aside(
    env: dict[str, str], sink: Command, client: Client
) -> None:
    def document(version: int, since: str, team: str) -> tuple[int, bytes, bytes]:
        value = {"kind": "service", "name": "ours", "version": version, "effective_from": since, "spec": {"team": team}}
        return (0, f"service/ours/{version}".encode(), json.dumps(value).encode())

    written = [
        document(1, "2026-01-01T00:00:00Z", "old"),
        (0, b"service/broken/1", b"no json"),
        document(2, "2026-06-01T00:00:00Z", "wrong"),
        document(2, "2026-07-01T00:00:00Z", "new"),  # the same version again replaces it
    ]
    write(env["DEPLOYTRAIL_KAFKA"], Topic.POLICIES, written)
    owners = (
        "SELECT team, effective_from, effective_until FROM {db}.service_owners(as_of = now64(6)) WHERE service = 'ours'"
    )
    letters = "SELECT reason FROM {db}.dead_letters WHERE origin_topic = 'deploytrail.policies'"
    wait_for(
        lambda: [r["team"] for r in rows(client, env, owners)] == ["old", "new"] and rows(client, env, letters),
        what="the policies",
    )
    found = rows(client, env, owners)

    assert [r["effective_from"] for r in found] == [shown_day(1), shown_day(7)]
    assert found[0]["effective_until"] == shown_day(7)
    assert rows(client, env, letters) == [{"reason": "malformed"}]


@pytest.mark.requirement("M5.6")
def test_grants_are_read_from_the_file_of_credentials(
    env: dict[str, str], sink: Command, client: Client, tmp_path: Path
) -> None:
    file = {"DEPLOYTRAIL_CREDENTIALS": str(tmp_path / "credentials.jsonl")}
    made = [
        "token",
        "create",
        "--team",
        "money",
        "--service",
        "pay*",
        "--environment",
        "*",
        "--region",
        "*",
        "--verb",
        "report",
    ]
    for argv in (made, ["sink", "grants"], ["sink", "grants"]):
        done = subprocess.run(
            [BIN / "deploytrail", *argv], env={**os.environ, **env, **file}, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
    found = rows(client, env, "SELECT * FROM {db}.grants ORDER BY taken_at")

    assert [(r["team"], r["services"], r["verbs"]) for r in found] == [("money", ["pay*"], ["report"])] * 2
    assert found[0]["taken_at"] < found[1]["taken_at"]
