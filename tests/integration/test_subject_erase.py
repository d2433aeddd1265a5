"""Somebody is forgotten: no hit of the name in any topic, table, segment, log or file; the archive is whole."""

from __future__ import annotations

import json
import time
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient
from deploytrail_local import ports
from deploytrail_schemas.instants import format_instant
from deploytrail_schemas.settings import Settings
from deploytrail_schemas.topics import Topic
from deploytrail_sinks.archive.segment import Record, read_segment
from deploytrail_sinks.archive.sink import COMPACTED, TOPICS
from deploytrail_sinks.archive.store import LocalFolder
from deploytrail_sinks.clickhouse.writer import connect
from support.commands import run, running
from support.kafka import end_offsets, make_topics, read_topic, wait_for, write
from support.page_receiver import Receiver

ADA, GRACE = "ada.lovelace@example.com", "grace.hopper@example.com"
WORDS = (b"lovelace", b"hopper")
PLACE = {"region": "eu-west-1", "environment": "production", "service": "shop"}
ESCALATION = {
    "kind": "escalation",
    "name": "shop",
    "version": 1,
    "effective_from": "2026-01-01T00:00:00Z",
    "spec": {
        "levels": [{"notify": [who], "acknowledge_minutes": 0.03} for who in ("team", "sre-lead")],
        "scope": {"services": ["shop"]},
    },
}


def reports(now: int) -> dict[str, dict[str, Any]]:
    """A deployment of Ada's that fails; texts of every kind name her and Grace in every way that people do."""
    at = {"occurred_at": format_instant(now)}
    of_hers = PLACE | at | {"deployment_id": "ada.lovelace-42"}
    return {
        "started": of_hers
        | {"event_type": "started", "deployer": ADA, "justification": f"{ADA} asked", "version": "2"},
        "approvals": of_hers
        | {"approval_type": "approved", "approver": GRACE, "justification": "for Ada Lovelace, who is away"},
        "failed": of_hers
        | {
            "event_type": "failed",
            "error": "Lovelace, Ada stopped it; ask grace-hopper",
            "ref": "ada.lovelace/fix",
            "repository": "https://git.example.com/AdaLovelace/shop",
            "tags": {"owner": "Grace.Hopper@Example.com", "ada_lovelace": "paged"},
        },
        "signals": PLACE
        | at
        | {
            "signal_type": "alert_firing",
            "severity": "critical",
            "title": "checkout fails, says ada.lovelace",
            "labels": {"assignee": ADA, "runbook": "https://wiki.example.com/~grace.hopper/checkout"},
        },
        "observations": PLACE
        | at
        | {"observation_type": "running", "instance": "grace-hopper-laptop", "version": "2", "tags": {"owner": ADA}},
    }


def post(url: str, what: str, value: dict[str, Any]) -> None:
    path = {"started": "events", "failed": "events"}.get(what, what)
    request = urllib.request.Request(
        f"{url}/v1/{path}", json.dumps([value]).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        assert answer.status == 202


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.close()


@pytest.mark.requirement("M5.5")
@pytest.mark.timeout(600)
def test_an_erased_name_is_nowhere_and_the_archive_is_whole(
    own_kafka: str, clickhouse: str, receiver: Receiver, tmp_path: Path
) -> None:
    make_topics(own_kafka)
    write(own_kafka, Topic.POLICIES, [(0, b"escalation/shop/1", json.dumps(ESCALATION).encode())])
    port, database = ports.free_port(), f"erased_{uuid.uuid4().hex[:8]}"
    env = {
        "DEPLOYTRAIL_KAFKA": own_kafka,
        "DEPLOYTRAIL_GATEWAY_PORT": str(port),
        "DEPLOYTRAIL_CLICKHOUSE_URL": clickhouse,
        "DEPLOYTRAIL_CLICKHOUSE_DATABASE": database,
        "DEPLOYTRAIL_ARCHIVE": f"file:{tmp_path}/archive",
        "DEPLOYTRAIL_ARCHIVE_SEGMENT_SECONDS": "0.3",
        "DEPLOYTRAIL_ONCALL_URL": receiver.url,
        "DEPLOYTRAIL_PSEUDONYMS": str(tmp_path / "names.db"),
        "DEPLOYTRAIL_STATE": str(tmp_path / "state"),
        "DEPLOYTRAIL_TICK_SECONDS": "1",
    }
    store = LocalFolder(tmp_path / "archive")
    client = connect(Settings.load({**env, "DEPLOYTRAIL_CLICKHOUSE_DATABASE": ""}))

    def archived() -> list[Record]:
        return [record for name in store.list("") for record in read_segment(store.read(name)).records]

    def ends() -> int:
        return sum(sum(end_offsets(own_kafka, topic).values()) for topic in (*TOPICS, *COMPACTED))

    def rows(table: str, where: str = "1") -> int:
        return int(client.query(f"SELECT count() FROM {database}.{table} WHERE {where}").result_rows[0][0])

    def is_acknowledged() -> bool:
        found = [json.loads(message.value() or b"") for message in read_topic(own_kafka, Topic.ONCALL_STATE)]
        receiver.acknowledged |= {row["key"]: GRACE for row in found}
        return any(row.get("acknowledged") for row in found)

    with (
        running("sink", "archive", env=env, cwd=tmp_path) as archive,
        running("sink", "clickhouse", env=env, cwd=tmp_path) as tables,
        running("sink", "on-call", env=env, cwd=tmp_path) as on_call,
    ):
        with (
            running("gateway", env=env, cwd=tmp_path) as gateway,
            running("processor", "intake", "lifecycle", "correlation", env=env, cwd=tmp_path) as processors,
        ):
            for what, value in reports(time.time_ns() // 1000).items():
                post(f"http://127.0.0.1:{port}", what, value)
            wait_for(lambda: rows("deployment_events") == 2, what="the events")
            for table in ("approvals", "signals", "observations", "findings"):
                wait_for(lambda table=table: rows(table) >= 1, what=table)
            wait_for(lambda: rows("deployment_revisions", "state = 'failed'") > 0, what="its failure")
            wait_for(is_acknowledged, what="the word that somebody took the page")
        wait_for(lambda: len(archived()) >= ends(), what="the archive of all of it")
        assert archive.stop() == tables.stop() == on_call.stop() == 0
    people = [run("subject", "show", name, env=env, cwd=tmp_path).stdout.strip() for name in (ADA, GRACE)]
    for name in (ADA, GRACE):
        assert run("subject", "erase", name, env=env, cwd=tmp_path).returncode == 0

    # Views say nothing but what is in these.
    stored = f"SELECT name FROM system.tables WHERE database = '{database}' AND engine NOT LIKE '%View'"
    places = {
        "topics": [
            part
            for topic in AdminClient({"bootstrap.servers": own_kafka}).list_topics(timeout=30).topics
            if not topic.startswith("__")
            for message in read_topic(own_kafka, topic)
            for part in (message.key(), message.value(), *(value for _, value in message.headers() or ()))
        ],
        "segments": [part for r in archived() for part in (r.key, r.value, *(value for _, value in r.headers))],
        "tables": [
            str(client.query(f"SELECT * FROM {database}.{table}").result_rows).encode()
            for (table,) in client.query(stored).result_rows
        ],
        "pages": [json.dumps(page).encode() for page in receiver.pages],
        "files": [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()],
        "logs": [line.encode() for one in (archive, tables, on_call, gateway, processors) for line in one.lines],
    }
    assert all(places[place] for place in ("topics", "segments", "tables", "pages", "files"))
    for place, texts in places.items():
        assert not [text for text in texts if any(word in (text or b"").lower() for word in WORDS)], place
    told = client.query(f"SELECT deployer, justification FROM {database}.deployment_events").result_rows
    assert (people[0], f"{people[0]} asked") in told
    assert run("archive", "verify", env=env, cwd=tmp_path).returncode == 0
