"""The ClickHouse sink across crashes of itself and of ClickHouse: nothing lost, nothing twice."""

from __future__ import annotations

import io
import json
import re
import shutil
import urllib.request
import uuid
from pathlib import Path

import deploytrail_schemas
import fastavro
import pytest
from confluent_kafka import Consumer, TopicPartition
from deploytrail_local import ports
from deploytrail_schemas.codec import encode
from deploytrail_schemas.errors import RetryLater
from deploytrail_schemas.kafka import consumer_config
from deploytrail_schemas.records import RecordType
from deploytrail_schemas.schema import schema_fingerprint, versions, without_logical_types
from deploytrail_schemas.settings import Settings
from deploytrail_schemas.topics import Topic
from deploytrail_sinks.clickhouse import serve
from deploytrail_sinks.clickhouse.sink import group_of
from deploytrail_sinks.clickhouse.tables import BY_KIND
from deploytrail_sinks.clickhouse.writer import connect
from support.clickhouse import ClickHouseProcess
from support.commands import running
from support.kafka import make_topics, wait_for, write
from support.questions import candidate
from support.values import NOON, approval, event, observation, record, signal

UNHEARD_OF = "unheard_of"
WHOLE = {
    RecordType.DEPLOYMENT_EVENT: event("started"),
    RecordType.APPROVAL: approval(),
    RecordType.OBSERVATION: observation(),
    RecordType.RECORD: record(),
    RecordType.FINDING: candidate("s", "d", 1, 0.5, NOON),
}


def test_an_announced_range_is_sent_again_and_stored_once(own_kafka: str, clickhouse: str, tmp_path: Path) -> None:
    """A sink dies between its insert and its commit; the next one finds the range announced."""
    database = f"again_{uuid.uuid4().hex[:8]}"
    env = {
        "DEPLOYTRAIL_KAFKA": own_kafka,
        "DEPLOYTRAIL_CLICKHOUSE_URL": clickhouse,
        "DEPLOYTRAIL_CLICKHOUSE_DATABASE": database,
    }
    make_topics(own_kafka)
    values = [encode(RecordType.DEPLOYMENT_EVENT, event("started", NOON + i)) for i in range(40)]
    client = connect(Settings.load({**env, "DEPLOYTRAIL_CLICKHOUSE_DATABASE": ""}))
    with running("sink", "clickhouse", env=env, cwd=tmp_path) as first:
        write(own_kafka, Topic.EVENTS, [(13, b"k", value) for value in values])
        count = f"SELECT count() AS n FROM {database}.deployment_events WHERE kafka_partition = 13"
        wait_for(lambda: bool(client.query(f"EXISTS {database}.deployment_events").result_rows[0][0])
                 and client.query(count).result_rows[0][0] == 40, what="the first time")  # fmt: skip
        offsets = client.query(
            f"SELECT min(kafka_offset), max(kafka_offset) FROM {database}.deployment_events WHERE kafka_partition = 13"
        ).result_rows[0]
        first.stop()
    rewind(own_kafka, offsets[0], f"end={offsets[1] + 1}")
    with running("sink", "clickhouse", env=env, cwd=tmp_path) as second:
        write(own_kafka, Topic.EVENTS, [(13, b"k", values[0])])
        wait_for(lambda: client.query(count).result_rows[0][0] == 41, what="what came later")
        second.stop()

    positions = f"SELECT uniqExact(kafka_offset) FROM {database}.deployment_events WHERE kafka_partition = 13"
    assert client.query(positions).result_rows == [(41,)]


def rewind(kafka: str, offset: int, metadata: str) -> None:
    """Put the group's position back, as a crash before its commit would have left it."""
    consumer = Consumer(consumer_config(Settings(kafka=kafka), group_of(Settings())))
    try:
        consumer.commit(offsets=[TopicPartition(Topic.EVENTS.value, 13, offset, metadata)], asynchronous=False)
    finally:
        consumer.close()


def test_a_clickhouse_that_is_away_at_the_start_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    port = ports.free_port()
    serve.quieten_drivers()
    with pytest.raises(RetryLater):
        serve.prepare(Settings(clickhouse_url=f"http://127.0.0.1:{port}"), patience=1.5)

    [said] = [record.getMessage() for record in caplog.records if record.levelname in {"WARNING", "ERROR"}]
    assert said.startswith(f"ClickHouse at http://127.0.0.1:{port} does not answer: Connection refused; ")
    assert said.endswith("; trying again for 2 s")


def test_rows_wait_for_a_clickhouse_that_is_away(own_kafka: str, tmp_path: Path) -> None:
    make_topics(own_kafka)
    with ClickHouseProcess(tmp_path) as server:
        env = {
            "DEPLOYTRAIL_KAFKA": own_kafka,
            "DEPLOYTRAIL_CLICKHOUSE_URL": server.url,
            "DEPLOYTRAIL_CLICKHOUSE_DATABASE": "away",
        }
        with running("sink", "clickhouse", env=env, cwd=tmp_path) as sink:
            server.kill()
            values = [encode(RecordType.SIGNAL, signal(at=NOON + i, title="waited")) for i in range(20)]
            write(own_kafka, Topic.EVENTS, [(14, b"k", value) for value in values])
            wait_for(lambda: any("trying again" in line for line in sink.lines), what="the warning")
            server.start()
            client = connect(Settings.load(env))
            count = "SELECT count() FROM away.signals WHERE title = 'waited'"
            wait_for(lambda: client.query(count).result_rows == [(20,)], what="the rows")
            assert sink.stop() == 0


def test_reading_pauses_while_clickhouse_is_away_and_no_row_is_lost(own_kafka: str, tmp_path: Path) -> None:
    make_topics(own_kafka)
    port = ports.free_port()
    with ClickHouseProcess(tmp_path) as server:
        env = {
            "DEPLOYTRAIL_KAFKA": own_kafka,
            "DEPLOYTRAIL_CLICKHOUSE_URL": server.url,
            "DEPLOYTRAIL_CLICKHOUSE_DATABASE": "paused",
            "DEPLOYTRAIL_CLICKHOUSE_BATCH_ROWS": "2000",
            "DEPLOYTRAIL_METRICS_PORT": str(port),
        }

        def metric(name: str) -> float:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
                found = re.search(rf"^{name} (\S+)$", answer.read().decode(), re.MULTILINE)
            return float(found[1]) if found else 0.0

        with running("sink", "clickhouse", env=env, cwd=tmp_path) as sink:
            server.kill()
            for begin in range(0, 30_000, 1000):
                values = [encode(RecordType.SIGNAL, signal(at=NOON + begin + i, title="paused")) for i in range(1000)]
                write(own_kafka, Topic.EVENTS, [(13, b"k", value) for value in values])
            wait_for(lambda: metric("deploytrail_clickhouse_pauses_total") >= 1, what="a pause")
            waiting = metric("deploytrail_clickhouse_waiting_bytes")
            server.start()
            client = connect(Settings.load(env))
            count = "SELECT count(), uniqExact(kafka_offset) FROM paused.signals WHERE title = 'paused'"
            wait_for(lambda: client.query(count).result_rows == [(30_000, 30_000)], what="the rows")
            assert sink.stop() == 0

    one = 300 + len(encode(RecordType.SIGNAL, signal(at=NOON, title="paused")))
    assert 2000 * one <= waiting <= 12_000 * one  # what one reading brought, and not all 30,000


@pytest.mark.requirement("M7.4")
def test_records_of_a_newer_writer_go_in_without_a_restart(own_kafka: str, clickhouse: str, tmp_path: Path) -> None:
    """The schema of an upgraded writer is laid beside a sink that runs; only its new column is missing yet."""
    make_topics(own_kafka)
    database = f"drift_{uuid.uuid4().hex[:8]}"
    package = tmp_path / "installed" / "deploytrail_schemas"
    shutil.copytree(Path(deploytrail_schemas.__file__).parent, package)
    env = {
        "PYTHONPATH": str(package.parent),
        "DEPLOYTRAIL_KAFKA": own_kafka,
        "DEPLOYTRAIL_CLICKHOUSE_URL": clickhouse,
        "DEPLOYTRAIL_CLICKHOUSE_DATABASE": database,
    }
    newer = json.loads((package / "avro" / "signal.v1.avsc").read_text())
    [severity] = [field["type"] for field in newer["fields"] if field["name"] == "severity"]
    severity["symbols"].append("apocalyptic")
    newer["fields"].append({"name": "mood", "type": "string", "default": "", "doc": "What version 2 brings."})
    out = io.BytesIO()
    out.write(b"\xc3\x01" + schema_fingerprint(newer))
    value = signal(title="newer") | {"mood": "calm", "severity": "apocalyptic"}
    fastavro.schemaless_writer(out, fastavro.parse_schema(without_logical_types(newer)), value)
    older = encode(RecordType.SIGNAL, signal(title="older"))
    others = {kind: _newer(kind, package / "avro") for kind in BY_KIND if kind is not RecordType.SIGNAL}
    client = connect(Settings.load(env))
    with running("sink", "clickhouse", env=env, cwd=tmp_path) as sink:
        write(own_kafka, Topic.EVENTS, [(9, b"k", older)])
        found = f"SELECT title, severity FROM {database}.signals WHERE kafka_partition = 9 ORDER BY kafka_offset"
        wait_for(lambda: len(client.query(found).result_rows) == 1, what="the first row")
        (package / "avro" / "signal.v2.avsc").write_text(json.dumps(newer))
        write(own_kafka, Topic.EVENTS, [(9, b"k", out.getvalue()), (9, b"k", older)])
        wait_for(lambda: len(client.query(found).result_rows) == 3, what="the rows of both writers")
        for kind, (_, written) in others.items():
            topic = {RecordType.RECORD: Topic.RECORDS, RecordType.FINDING: Topic.FINDINGS}.get(kind, Topic.EVENTS)
            write(own_kafka, topic, [(9, b"k", written)])
        unheard = {
            kind: f"SELECT {', '.join(names)} FROM {database}.{BY_KIND[kind].name} WHERE kafka_partition = 9"
            for kind, (names, _) in others.items()
        }
        wait_for(lambda: all(client.query(asked).result_rows for asked in unheard.values()), what="a row of each kind")
        assert sink.stop() == 0

    assert client.query(found).result_rows == [("older", "critical"), ("newer", "apocalyptic"), ("older", "critical")]
    assert sum(len(names) for names, _ in others.values()) >= 10
    for kind, (names, _) in others.items():
        assert client.query(unheard[kind]).result_rows == [(UNHEARD_OF,) * len(names)], names
    assert any("signals has no column for mood of writer version 2" in line for line in sink.lines)


def _newer(kind: RecordType, folder: Path) -> tuple[list[str], bytes]:
    """Lay a next version of a schema into `folder`, in which each enum has a symbol more; the fields that are one, and
    a record with that symbol in each."""
    number = max(versions(kind)) + 1
    schema = json.loads(json.dumps(versions(kind)[number - 1]))
    enums = {}
    for field in schema["fields"]:
        branches = field["type"] if isinstance(field["type"], list) else [field["type"]]
        for branch in branches:
            if isinstance(branch, dict) and branch["type"] == "enum":
                branch["symbols"].append(UNHEARD_OF)
                enums[field["name"]] = UNHEARD_OF
    [older] = [path for path in folder.glob(f"*.v{number - 1}.avsc") if json.loads(path.read_text())["name"] ==
               schema["name"]]  # fmt: skip
    older.with_name(older.name.replace(f".v{number - 1}.", f".v{number}.")).write_text(json.dumps(schema))
    out = io.BytesIO()
    out.write(b"\xc3\x01" + schema_fingerprint(schema))
    fastavro.schemaless_writer(out, fastavro.parse_schema(without_logical_types(schema)), WHOLE[kind] | enums)
    return list(enums), out.getvalue()
