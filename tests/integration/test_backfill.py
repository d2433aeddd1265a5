"""`deploytrail backfill` on a real Kafka: order, headers, the closing tick, and all or nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from deploytrail_schemas.codec import decode
from deploytrail_schemas.records import RecordType
from deploytrail_schemas.topics import Topic
from support.commands import run
from support.kafka import end_offsets, make_topics, read_topic
from support.values import MINUTE, NOON, stable_id


def line(name: str, received_at: int, **more: object) -> dict[str, object]:
    value = {
        "event_id": stable_id(name),
        "event_type": "started",
        "deployment_id": name,
        "occurred_at": received_at - 2_000_000,
        "region": "us-east-1",
        "environment": "production",
        "service": "shop",
        "producer_id": "runner-7",
    }
    return {"kind": "deployment", "received_at": received_at, "sent_at": received_at - 1_000_000, "value": value} | more


def load(kafka: str, folder: Path, lines: list[dict[str, object]], *options: str) -> int:
    history = folder / "history.jsonl"
    history.write_text("".join(json.dumps(each) + "\n" for each in lines))
    done = run("backfill", *options, str(history), env={"DEPLOYTRAIL_KAFKA": kafka}, cwd=folder)
    return done.returncode


@pytest.mark.requirement("M8.5")
def test_history_is_loaded_in_order_of_receipt_with_a_closing_tick(kafka: str, tmp_path: Path) -> None:
    make_topics(kafka)
    before = end_offsets(kafka, Topic.INTAKE)
    echo = [NOON, NOON + 1, NOON + 2]
    lines = [line("second", NOON + MINUTE, echo=echo), line("first", NOON), line("third", NOON + 2 * MINUTE)]

    assert load(kafka, tmp_path, lines) == 0
    found = read_topic(kafka, Topic.INTAKE, since=before)
    *records, closing = [decode(message.value()) for message in found]
    assert {message.partition() for message in found} == {15}
    assert [value["deployment_id"] for _, value in records] == ["first", "second", "third"]
    assert closing == (RecordType.TICK, {"at": NOON + 2 * MINUTE, "region": ""})
    assert dict(found[1].headers() or ()) == {
        "dt-received-at": str(NOON + MINUTE).encode(),
        "dt-sent-at": str(NOON + MINUTE - 1_000_000).encode(),
        "dt-echo": f"{NOON},{NOON + 1},{NOON + 2}".encode(),
        "dt-reporter": b"backfill",
    }


def test_history_may_end_after_its_last_line(kafka: str, tmp_path: Path) -> None:
    make_topics(kafka)
    before = end_offsets(kafka, Topic.INTAKE)

    assert load(kafka, tmp_path, [line("late", NOON)], "--until", "2026-11-03T00:00:00Z") == 0
    closing = decode(read_topic(kafka, Topic.INTAKE, since=before)[-1].value())
    assert closing == (RecordType.TICK, {"at": NOON + 720 * MINUTE, "region": ""})


def test_file_with_one_wrong_line_loads_nothing(kafka: str, tmp_path: Path) -> None:
    make_topics(kafka)
    before = end_offsets(kafka, Topic.INTAKE)

    assert load(kafka, tmp_path, [line("good", NOON), line("bad", NOON, kind="tick")]) == 65
    assert end_offsets(kafka, Topic.INTAKE) == before
