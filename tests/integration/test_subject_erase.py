"""Somebody is forgotten: no hit of the name in topics, archive, ClickHouse and the table; the archive is whole."""

from __future__ import annotations

import json
import urllib.request
import uuid
from pathlib import Path

import pytest
from deploytrail_local import ports
from deploytrail_schemas.codec import decode_routing
from deploytrail_schemas.records import RecordType
from deploytrail_schemas.settings import Settings
from deploytrail_schemas.topics import Topic
from deploytrail_sinks.archive.segment import read_segment
from deploytrail_sinks.archive.store import LocalFolder
from deploytrail_sinks.clickhouse.writer import connect
from support.commands import run, running
from support.kafka import make_topics, read_topic, wait_for

NAMES = ("ada.lovelace@example.com", "grace.hopper@example.com")


def post(url: str, what: str, values: list[dict[str, str]]) -> None:
    request = urllib.request.Request(
        f"{url}/v1/{what}", json.dumps(values).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        assert answer.status == 202


@pytest.mark.requirement("M5.5")
@pytest.mark.timeout(240)
def test_an_erased_name_is_nowhere_and_the_archive_is_whole(own_kafka: str, clickhouse: str, tmp_path: Path) -> None:
    make_topics(own_kafka)
    port, database = ports.free_port(), f"erased_{uuid.uuid4().hex[:8]}"
    env = {
        "DEPLOYTRAIL_KAFKA": own_kafka,
        "DEPLOYTRAIL_GATEWAY_PORT": str(port),
        "DEPLOYTRAIL_CLICKHOUSE_URL": clickhouse,
        "DEPLOYTRAIL_CLICKHOUSE_DATABASE": database,
        "DEPLOYTRAIL_ARCHIVE": f"file:{tmp_path}/archive",
        "DEPLOYTRAIL_ARCHIVE_SEGMENT_SECONDS": "0.3",
        "DEPLOYTRAIL_PSEUDONYMS": str(tmp_path / "names.db"),
        "DEPLOYTRAIL_STATE": str(tmp_path / "state"),
        "DEPLOYTRAIL_TICK_SECONDS": "3600",
    }
    place = {"region": "eu-west-1", "environment": "production", "service": "shop", "deployment_id": "d1"}

    def trail() -> list[bytes]:
        """What intake wrote to the trail, ticks apart."""
        values = [m.value() or b"" for m in read_topic(own_kafka, Topic.EVENTS)]
        return [value for value in values if decode_routing(value)[0] is not RecordType.TICK]

    with running("gateway", env=env, cwd=tmp_path), running("processor", "intake", env=env, cwd=tmp_path):
        started = place | {"event_type": "started", "deployer": NAMES[0], "justification": f"{NAMES[0]} asked"}
        post(f"http://127.0.0.1:{port}", "events", [started])
        post(f"http://127.0.0.1:{port}", "approvals", [place | {"approval_type": "approved", "approver": NAMES[1]}])
        wait_for(lambda: len(trail()) == 2, seconds=60, what="both on the trail")
    assert len(read_topic(own_kafka, Topic.INTAKE)) == 2
    ticks = len(read_topic(own_kafka, Topic.EVENTS)) - 2
    store = LocalFolder(tmp_path / "archive")

    def archived() -> list[bytes]:
        return [r.value or b"" for name in store.list("") for r in read_segment(store.read(name)).records]

    client = connect(Settings.load({**env, "DEPLOYTRAIL_CLICKHOUSE_DATABASE": ""}))
    with (
        running("sink", "archive", env=env, cwd=tmp_path) as one,
        running("sink", "clickhouse", env=env, cwd=tmp_path) as two,
    ):
        wait_for(lambda: len(archived()) == 4 + ticks, seconds=60, what="the archive of them")
        rows = f"SELECT count() FROM {database}.approvals"
        wait_for(lambda: client.query(rows).result_rows == [(1,)], seconds=60, what="the rows")
        assert one.stop() == two.stop() == 0
    people = [run("subject", "show", name, env=env, cwd=tmp_path).stdout.strip() for name in NAMES]
    for name in NAMES:
        assert run("subject", "erase", name, env=env, cwd=tmp_path).returncode == 0

    deployer = client.query(f"SELECT deployer, justification FROM {database}.deployment_events").result_rows
    approver = client.query(f"SELECT approver FROM {database}.approvals").result_rows
    assert (deployer, approver) == ([(people[0], f"{people[0]} asked")], [(people[1],)])
    shown = [str(client.query(f"SELECT * FROM {database}.{t}").result_rows) for t in ("deployment_events", "approvals")]
    topics = [m.value() or b"" for topic in (Topic.INTAKE, Topic.EVENTS) for m in read_topic(own_kafka, topic)]
    texts = [text.encode() for text in shown]
    files = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    for name in NAMES:
        word = name.partition("@")[0].encode()
        assert not [data for data in (*archived(), *topics, *files, *texts) if word in data.lower()]
    assert run("archive", "verify", env=env, cwd=tmp_path).returncode == 0
