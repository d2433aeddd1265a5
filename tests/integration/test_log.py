"""`deploytrail log`, and events as JSON lines beside the spool: each line conforms to its schema."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from deploytrail.adapters import cdevents
from deploytrail.adapters.base import Defaults
from deploytrail_schemas.codec import encode
from deploytrail_schemas.json_schema import json_schema
from deploytrail_schemas.records import RecordType
from deploytrail_schemas.regions import OTHER
from deploytrail_schemas.topics import Topic
from deploytrail_sinks.archive.segment import Record, Segment, salted, write_segment
from jsonschema import Draft202012Validator
from support.kafka import make_topics, wait_for, write
from support.spool import COMMAND, command, environment, python, stored
from support.values import NOON, event, signal


def records(text: str) -> list[dict[str, Any]]:
    """The lines, each checked against the canonical schema of its kind."""
    told = [json.loads(line) for line in text.splitlines()]
    for value in told:
        schema = json_schema(RecordType(value["record_type"]), canonical=True)
        Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER).validate(value)
    return told


def sound(deployment_id: str, **fields: Any) -> bytes:
    return encode(RecordType.DEPLOYMENT_EVENT, event("started", deployment_id=deployment_id, **fields))


@pytest.fixture(scope="module")
def trail(own_kafka: str) -> Iterator[str]:
    make_topics(own_kafka)
    tick = encode(RecordType.TICK, {"at": NOON})
    write(own_kafka, Topic.EVENTS, [(1, b"shop", sound("one")), (1, b"", tick), (2, b"shop", sound("two"))])
    copy = encode(RecordType.GLOBAL_CHANGE, event("started", deployment_id="global", region="global"))
    write(own_kafka, Topic.EVENTS, [(3, b"", encode(RecordType.SIGNAL, signal())), (3, b"", b"{}"), (1, b"", copy)])
    yield own_kafka


@pytest.mark.requirement("M3.3")
def test_the_spool_is_printed_as_json_lines(tmp_path: Path) -> None:
    env = environment(tmp_path / "spool")
    started = command("start", "--version", "4.2.0", "--tag", "sprint=42", env=env).stdout.strip()
    command("succeed", started, env=env)
    done = command("log", env=env)
    told = records(done.stdout)

    assert (done.returncode, done.stderr) == (0, "")
    assert [(v["event_type"], v["deployment_id"], v["version"]) for v in told] == [
        ("started", started, "4.2.0"),
        ("succeeded", started, "4.2.0"),
    ]
    assert command("log", str(tmp_path / "spool"), env=env).stdout == done.stdout


@pytest.mark.requirement("M3.3")
def test_each_event_is_logged_as_it_is_emitted(tmp_path: Path) -> None:
    log = tmp_path / "events.jsonl"
    env = environment(tmp_path / "spool", DEPLOYTRAIL_LOG=str(log))
    script = "import deploytrail\nwith deploytrail.track(tags={'db_password': 'hunter2'}, version='4.2.0'): pass"
    for _ in range(2):
        assert python(script, env).returncode == 0
    told = records(log.read_text())
    kept = stored(tmp_path / "spool")

    assert [v["event_id"] for v in told] == [v["event_id"] for v in kept]
    assert [(v["producer_id"], v["producer_seq"]) for v in told] == [(kept[0]["producer_id"], n) for n in (1, 2, 3, 4)]
    assert told[0]["tags"] == {"db_password": "[redacted:password]"}
    assert log.stat().st_mode & 0o777 == 0o600


@pytest.mark.requirement("M3.3")
def test_events_can_be_logged_to_standard_error(tmp_path: Path) -> None:
    env = environment(tmp_path / "spool", DEPLOYTRAIL_LOG="stderr")
    done = command("start", env=env)

    assert [v["event_type"] for v in records(done.stderr)] == ["started"]
    assert len(done.stdout.splitlines()) == 1


def test_a_log_that_cannot_be_written_is_said_once_and_stops_nothing(tmp_path: Path) -> None:
    env = environment(tmp_path / "spool", DEPLOYTRAIL_LOG=str(tmp_path / "no" / "such" / "folder"))
    done = python("import deploytrail\nwith deploytrail.track(): pass", env)

    assert done.returncode == 0
    assert done.stderr.count("DEPLOYTRAIL_LOG") == 1
    assert "No such file or directory" in done.stderr
    assert len(stored(tmp_path / "spool")) == 2


def test_events_that_find_no_room_are_still_logged(tmp_path: Path) -> None:
    log = tmp_path / "events.jsonl"
    env = environment(tmp_path / "spool", DEPLOYTRAIL_LOG=str(log), DEPLOYTRAIL_SPOOL_MAX_BYTES="100")
    done = command("start", env=env)

    assert done.returncode == 0
    assert [v["event_type"] for v in records(log.read_text())] == ["started"]
    assert stored(tmp_path / "spool") == []


@pytest.mark.requirement("M3.3")
def test_an_archived_segment_is_printed(tmp_path: Path) -> None:
    values = [sound("one", tags={"db_password": "hunter2"}), encode(RecordType.SIGNAL, signal()), b"{}"]
    kept = tuple(salted(Record(n, NOON // 1000, 2, b"k", value, ())) for n, value in enumerate(values))
    path = tmp_path / "segment.avro"
    path.write_bytes(write_segment(Segment("deploytrail.events", 1, "production", 0, 2, "", kept)))
    done = command("log", str(path), env=environment(tmp_path / "spool"))
    told = records(done.stdout)

    assert [v["record_type"] for v in told] == ["DeploymentEvent", "Signal"]
    assert told[0]["tags"] == {"db_password": "[redacted:password]"}
    assert done.returncode == 1
    assert "segment.avro, offset 2: unknown_wire_format" in done.stderr


@pytest.mark.parametrize(
    ("words", "code", "part"),
    [
        (["log", "nowhere"], 66, "nowhere cannot be read: No such file"),
        (["log", "{text}"], 66, "is neither a spool"),
        (["log", "--kafka", "{text}"], 64, "give a FILE, or --kafka"),
        (["log", "--topic", "nonsense"], 64, "invalid choice"),
        (["log", "--kafka"], 69, "Kafka at 127.0.0.1:9 does not answer"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path: Path, words: list[str], code: int, part: str) -> None:
    (tmp_path / "text").write_text("hello")
    env = environment(tmp_path / "spool", DEPLOYTRAIL_KAFKA="127.0.0.1:9")
    done = command(*(word.format(text=tmp_path / "text") for word in words), env=env, cwd=tmp_path)

    assert done.returncode == code
    assert part in done.stderr


def test_a_reader_that_leaves_is_no_error(tmp_path: Path) -> None:
    env = environment(tmp_path / "spool")
    for _ in range(3):
        command("start", env=env)
    with subprocess.Popen([*COMMAND, "log"], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        said = process.stderr.read()

    assert (process.returncode, said) == (141, b"")


@pytest.mark.requirement("M3.3")
def test_the_trail_is_printed_without_its_ticks_and_what_regions_are_told_of_others(trail: str, tmp_path: Path) -> None:
    env = environment(tmp_path / "spool", DEPLOYTRAIL_KAFKA=trail)
    done = command("log", "--kafka", env=env)
    told = records(done.stdout)
    ticks = command("log", "--kafka", "--type", "Tick", env=env)

    assert {v.get("deployment_id", v["record_type"]) for v in told} == {"one", "two", "Signal"}
    assert done.returncode == 1
    assert "deploytrail.events, partition 3, offset 1: unknown_wire_format" in done.stderr
    assert [v["at"] for v in records(ticks.stdout)] == ["2026-11-02T12:00:00.000000Z"]


def test_an_empty_topic_prints_nothing(trail: str, tmp_path: Path) -> None:
    env = environment(tmp_path / "spool", DEPLOYTRAIL_URL=f"kafka://{trail}")
    done = command("log", "--topic", "findings", env=env)

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_what_comes_is_followed(trail: str, tmp_path: Path) -> None:
    env = environment(tmp_path / "spool", DEPLOYTRAIL_KAFKA=trail)
    out = tmp_path / "out"
    with out.open("wb") as file, subprocess.Popen([*COMMAND, "log", "--follow"], env=env, stdout=file) as process:
        try:
            count = 0

            def seen() -> bool:
                nonlocal count
                count += 1
                write(trail, Topic.EVENTS, [(OTHER, b"shop", sound(f"followed-{count}"))])
                return b"followed-" in out.read_bytes()

            wait_for(seen, what="a line of what was written")
        finally:
            process.terminate()
    told = records(out.read_text().rpartition("\n")[0])  # it may have been ended in the midst of a line

    assert all(v["deployment_id"].startswith("followed-") for v in told)


@pytest.mark.requirement("M3.3", "M7.5")
def test_a_spool_is_printed_as_cdevents_that_come_back_as_the_same_events(tmp_path: Path) -> None:
    env = environment(tmp_path / "spool")
    started = command("start", "--version", "4.2.0", env=env).stdout.strip()
    command("progress", started, env=env)
    command("succeed", started, env=env)
    done = command("log", "--format", "cdevents", env=env)
    told = [json.loads(line) for line in done.stdout.splitlines()]
    kept = {value["event_id"]: value for value in stored(tmp_path / "spool")}
    again = [cdevents.adapt(event, {}, Defaults(), NOON).records[0][1] for event in told]

    assert (done.returncode, done.stderr) == (0, "deploytrail log: no CDEvent tells 1 of the records\n")
    assert [event["type"] for event in told] == [
        "dev.cdevents.pipelinerun.started.0.3.0",
        "dev.cdevents.pipelinerun.finished.0.3.0",
        "dev.cdevents.service.deployed.0.3.0",
    ]
    assert {value["event_id"] for value in again} == {
        number for number, value in kept.items() if value["event_type"] != "progressed"
    }
    for value in again:
        kind = RecordType.DEPLOYMENT_EVENT
        assert encode(kind, value) == encode(kind, kept[value["event_id"]])
