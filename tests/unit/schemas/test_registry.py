"""Records stand in the Confluent wire format where a schema registry is set, and are read back from it."""

from __future__ import annotations

import json
import socket
import threading
import time
from typing import Any

import pytest
from deploytrail_schemas import registry as module
from deploytrail_schemas.codec import MARKER, DecodeError, decode, encode
from deploytrail_schemas.errors import ConfigurationError
from deploytrail_schemas.reasons import DeadLetterReason
from deploytrail_schemas.records import RecordType
from deploytrail_schemas.registry import RegistryAway, SchemaRegistry, SingleObject, wire_format
from deploytrail_schemas.schema import avro_schema
from deploytrail_schemas.settings import Settings
from hypothesis import given
from hypothesis import strategies as st
from support.own_time import quickest, seconds_of
from support.schema_registry import basic, schema_registry
from support.values import event, signal

TOPIC = "deploytrail.intake"
STARTED = encode(RecordType.DEPLOYMENT_EVENT, event("started"))
ALERT = encode(RecordType.SIGNAL, signal())


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LAG_SECONDS", 0.01)
    monkeypatch.setattr(module, "REST_SECONDS", 0.05)


def test_a_record_is_framed_and_read_back_to_the_last_bit() -> None:
    with schema_registry() as registry:
        wire = SchemaRegistry(registry.url)
        framed = [wire.framed(data, TOPIC) for data in (STARTED, ALERT)]
        read = [SchemaRegistry(registry.url).plain(data) for data in framed]

    assert [data[:5] for data in framed] == [b"\0\0\0\0\1", b"\0\0\0\0\2"]
    assert [data[5:] for data in framed] == [STARTED[10:], ALERT[10:]]
    assert read == [STARTED, ALERT]
    assert sorted(registry.subjects) == [
        "deploytrail.intake-io.deploytrail.v1.DeploymentEvent",
        "deploytrail.intake-io.deploytrail.v1.Signal",
    ]
    assert json.loads(registry.schemas[0]) == avro_schema(RecordType.DEPLOYMENT_EVENT)


def test_every_kind_is_asked_for_once() -> None:
    with schema_registry() as registry:
        wire = SchemaRegistry(registry.url)
        for _ in range(100):
            wire.plain(wire.framed(STARTED, TOPIC))

    subject = "/subjects/deploytrail.intake-io.deploytrail.v1.DeploymentEvent"
    assert registry.asked == [f"POST {subject}", f"POST {subject}/versions", "GET /schemas/ids/1"]


def test_threads_that_ask_at_a_time_share_the_answer() -> None:
    with schema_registry() as registry:
        wire = SchemaRegistry(registry.url)
        threads = [threading.Thread(target=wire.framed, args=(STARTED, TOPIC)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)

    assert len(registry.asked) == 2


def test_what_is_registered_already_needs_no_right_to_register() -> None:
    with schema_registry() as registry:
        SchemaRegistry(registry.url).framed(STARTED, TOPIC)
        registry.read_only = True
        framed = SchemaRegistry(registry.url).framed(STARTED, TOPIC)
        with pytest.raises(RegistryAway, match=r"does not register deploytrail\.intake-.*Signal: it answers 403"):
            SchemaRegistry(registry.url).framed(ALERT, TOPIC)

    assert framed[:5] == b"\0\0\0\0\1"


def test_a_registry_that_formats_schemas_its_own_way_means_the_same() -> None:
    with schema_registry() as registry:
        text = json.dumps(avro_schema(RecordType.SIGNAL), indent=8, sort_keys=True)
        identity = registry.add(text)
        registry.subjects[f"{TOPIC}-io.deploytrail.v1.Signal"] = [identity]
        wire = SchemaRegistry(registry.url)

        assert wire.plain(wire.framed(ALERT, TOPIC)) == ALERT


def test_both_formats_are_told_apart_by_the_first_byte() -> None:
    with schema_registry() as registry:
        wire = SchemaRegistry(registry.url)

        assert wire.plain(STARTED) == STARTED
        assert decode(wire.plain(wire.framed(STARTED, TOPIC))) == decode(STARTED)
        assert wire.plain(None) is None


STRANGERS = [
    '{"type": "record", "name": "Other", "namespace": "com.example", "fields": []}',
    '{"type": "record", "name": "Loop", "fields": [{"name": "self", "type": "Loop"}]}',
    '"string"',
    "[]",
    "no JSON",
    "[" * 100,
]


@pytest.mark.parametrize("text", STRANGERS)
def test_a_schema_of_somebody_else_is_named_and_no_crash(text: str) -> None:
    with schema_registry() as registry:
        identity = registry.add(text)
        wire = SchemaRegistry(registry.url)
        data = b"\0" + identity.to_bytes(4, "big") + b"body"
        for _ in range(2):
            with pytest.raises(DecodeError) as caught:
                wire.plain(data)

    assert caught.value.reason is DeadLetterReason.UNKNOWN_SCHEMA
    assert f"schema {identity} of the registry is" in caught.value.detail
    assert len(registry.asked) == 1
    if "Other" in text:
        assert "'com.example.Other'" in caught.value.detail


def test_an_id_that_the_registry_does_not_know_is_a_dead_letter_and_not_asked_for_again() -> None:
    with schema_registry() as registry:
        wire = SchemaRegistry(registry.url)
        for _ in range(5):
            with pytest.raises(DecodeError, match="has no schema 7") as caught:
                wire.plain(b"\0\0\0\0\7body")

    assert caught.value.reason is DeadLetterReason.UNKNOWN_SCHEMA
    assert registry.asked == ["GET /schemas/ids/7"] * 2  # the second after what a follower of a registry lags


def test_what_is_remembered_of_strangers_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_CACHED", 3)
    with schema_registry() as registry:
        wire = SchemaRegistry(registry.url)
        for identity in range(1, 9):
            with pytest.raises(DecodeError):
                wire.plain(b"\0" + identity.to_bytes(4, "big"))

    assert len(wire._unknown) == 3


@pytest.mark.parametrize("data", [b"\0", b"\0\0\0\1"])
def test_a_header_that_is_cut_off_is_malformed(data: bytes) -> None:
    with pytest.raises(DecodeError) as caught:
        SchemaRegistry("http://127.0.0.1:1").plain(data)

    assert caught.value.reason is DeadLetterReason.MALFORMED


def test_a_registry_that_is_away_is_said_at_once_and_tried_again_later() -> None:
    with schema_registry() as registry:
        wire = SchemaRegistry(registry.url)
        registry.down = True
        for _ in range(20):
            with pytest.raises(RegistryAway, match="does not answer"):
                wire.framed(STARTED, TOPIC)
        asked = len(registry.asked)
        registry.down = False
        time.sleep(0.06)

        assert asked <= 3
        assert wire.framed(STARTED, TOPIC)[:5] == b"\0\0\0\0\1"


def test_what_is_known_is_framed_and_read_while_the_registry_is_away() -> None:
    with schema_registry() as registry:
        wire = SchemaRegistry(registry.url)
        framed = wire.framed(STARTED, TOPIC)
        wire.plain(framed)
    with pytest.raises(RegistryAway):
        wire.framed(ALERT, TOPIC)

    assert wire.plain(wire.framed(STARTED, TOPIC)) == STARTED
    assert (wire.is_prepared(RecordType.DEPLOYMENT_EVENT, TOPIC), wire.is_prepared(RecordType.SIGNAL, TOPIC)) == (
        True,
        False,
    )


def test_a_registry_that_never_answers_costs_a_bounded_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as hole:

        def ask() -> None:
            wire = SchemaRegistry(f"http://127.0.0.1:{hole.getsockname()[1]}", timeout=0.2)
            with pytest.raises(RegistryAway):
                wire.framed(STARTED, TOPIC)

        # A fifth of a second, and a busy machine's own; left to itself it would wait for 10 s.
        assert quickest(lambda: seconds_of(ask), at_most=5.0, times=3) < 5.0


def test_the_next_of_several_servers_is_asked_where_one_is_away() -> None:
    with schema_registry() as registry, socket.create_server(("127.0.0.1", 0)) as closed:
        gone = f"http://127.0.0.1:{closed.getsockname()[1]}"
        closed.close()

        assert SchemaRegistry(f"{gone}, {registry.url}").framed(STARTED, TOPIC)[:5] == b"\0\0\0\0\1"


def test_credentials_come_from_the_url_or_the_setting_and_are_in_no_error() -> None:
    with schema_registry() as registry:
        place = registry.url.removeprefix("http://")
        registry.auth = basic("ci", "s3cr:t/")
        by_url = SchemaRegistry(f"http://ci:s3cr%3At%2F@{place}").framed(STARTED, TOPIC)
        by_setting = SchemaRegistry(registry.url, "ci:s3cr:t/").framed(STARTED, TOPIC)
        with pytest.raises(RegistryAway, match="it answers 401") as refused:
            SchemaRegistry(f"http://ci:wr0ng-secret@{place}").framed(STARTED, TOPIC)
        registry.auth = "Bearer t0ken"
        by_token = SchemaRegistry(registry.url, "t0ken").framed(STARTED, TOPIC)

    with pytest.raises(RegistryAway) as away:
        SchemaRegistry(f"http://ci:wr0ng-secret@{place}").framed(STARTED, TOPIC)

    assert by_url == by_setting == by_token
    assert "wr0ng" not in str(refused.value) + str(away.value)


@pytest.mark.parametrize("url", ["registry:8081", "ftp://registry", "http://", "http://registry:port", "http://[::1"])
def test_a_url_that_is_none_is_a_wrong_setting(url: str) -> None:
    with pytest.raises(ConfigurationError, match="DEPLOYTRAIL_SCHEMA_REGISTRY is no URL"):
        wire_format(Settings(schema_registry=url))


def test_without_a_registry_records_stay_as_they_are() -> None:
    wire = wire_format(Settings())

    assert isinstance(wire, SingleObject)
    assert (wire.framed(STARTED, TOPIC), wire.plain(STARTED)) == (STARTED, STARTED)
    with pytest.raises(DecodeError, match="for which no schema registry is set"):
        decode(wire.plain(b"\0\0\0\0\1body"))


@given(st.binary(max_size=60))
def test_no_bytes_crash_the_reader(data: bytes) -> None:
    wire: Any = SchemaRegistry("http://127.0.0.1:1")
    wire._fingerprints = {0: STARTED[2:10]}
    try:
        found = wire.plain(data)
    except (DecodeError, RegistryAway):
        return

    assert found == data or found[:2] == MARKER
