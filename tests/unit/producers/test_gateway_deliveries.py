"""A delivery that was accepted before is answered, and publishes nothing."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import re
import time
import tracemalloc
from collections.abc import Sequence
from typing import Any

import pytest
from deploytrail import adapters
from deploytrail.adapters.base import Adapted, Source
from deploytrail.gateway.app import create_app
from deploytrail.gateway.deliveries import DAYS, MINUTE, SIGNED_TIME, Deliveries, Key, Memory, keys_of
from deploytrail.gateway.publisher import MemoryPublisher, Outgoing
from deploytrail_schemas.errors import RetryLater
from deploytrail_schemas.settings import Settings
from deploytrail_schemas.topics import TOPICS, Topic
from starlette.responses import Response
from starlette.testclient import TestClient

NOON = 1_793_620_800_000_000
DIGEST = b"d" * 16
SECRET = "s3cret"
DEPLOYED = json.dumps(
    {
        "action": "created",
        "deployment": {"id": 7, "sha": "a" * 40, "environment": "production", "created_at": "2026-11-02T12:00:00Z"},
        "repository": {"full_name": "acme/shop", "name": "shop"},
    }
).encode()
ALERT = {"version": "4", "alerts": [{"status": "firing", "labels": {"alertname": "A"}, "fingerprint": "f"}]}


def gateway(publisher: MemoryPublisher, **more: Any) -> TestClient:
    app = create_app(Settings(webhook_secrets=f"github={SECRET}"), publisher, **more)
    return TestClient(app, client=("127.0.0.1", 1))


def deliver(client: TestClient, identity: str, body: bytes = DEPLOYED, query: str = "") -> Any:
    headers = {
        "Content-Type": "application/json",
        "X-GitHub-Event": "deployment",
        "X-GitHub-Delivery": identity,
        "X-Hub-Signature-256": "sha256=" + hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest(),
    }
    answer = client.post(f"/webhooks/github{query}", content=body, headers=headers)
    return answer.status_code, answer.json()


@pytest.mark.requirement("M8.5")
def test_a_delivery_that_comes_again_is_accepted_once() -> None:
    publisher = MemoryPublisher()
    client = gateway(publisher)
    first = deliver(client, "d-1")
    again = deliver(client, "d-1")

    assert (first[0], first[1]["accepted"]) == (202, 1)
    assert (again[0], again[1]["accepted"], again[1]["repeated"]) == (202, 0, True)
    assert len(publisher.records) == 1


def test_a_signed_body_does_not_come_in_again_under_another_id() -> None:
    publisher = MemoryPublisher()
    client = gateway(publisher)
    deliver(client, "d-1")

    assert deliver(client, "d-2")[1]["repeated"] is True
    assert len(publisher.records) == 1


def test_one_event_may_be_sent_to_two_urls() -> None:
    publisher = MemoryPublisher()
    client = gateway(publisher)
    answers = [deliver(client, "d-1", query=f"?region={region}") for region in ("eu-west-1", "us-east-1")]

    assert [answer[1]["accepted"] for answer in answers] == [1, 1]


@pytest.mark.requirement("M8.5")
@pytest.mark.parametrize(
    "query",
    ["?x=1", "?region=", "?REGION=eu-west-1", "?", "?region&x=2"],
    ids=["unknown", "empty", "case", "bare", "two"],
)
def test_words_of_the_url_that_say_nothing_make_no_other_delivery(query: str) -> None:
    publisher = MemoryPublisher()
    client = gateway(publisher)
    deliver(client, "d-1")

    assert deliver(client, "d-2", query=query)[1].get("repeated") is True
    assert len(publisher.records) == 1


def test_a_query_in_another_spelling_is_the_same_url() -> None:
    client = gateway(MemoryPublisher())
    deliver(client, "d-1", query="?region=eu-west-1&environment=a%20b")

    assert deliver(client, "d-2", query="?environment=a+b&x=1&region=%65u-west-1")[1].get("repeated") is True


@pytest.mark.requirement("M8.5")
def test_a_second_header_of_one_name_neither_lets_a_delivery_in_again_nor_shuts_another_out() -> None:
    """Only the first id is signed; whoever has seen a delivery could otherwise name the next one's id behind it."""
    publisher = MemoryPublisher()
    secret = base64.b64encode(b"k" * 24).decode()
    settings = Settings(webhook_secrets=f"gitlab=whsec_{secret}")
    client = TestClient(create_app(settings, publisher), client=("127.0.0.1", 1))

    def push(identity: str, number: int, *more: tuple[str, str]) -> Any:
        body = json.dumps(
            {
                "object_kind": "deployment",
                "status": "success",
                "status_changed_at": "2026-11-02 12:00:00 +0000",
                "deployment_id": number,
                "environment": "production",
                "project": {"path_with_namespace": "acme/shop", "web_url": "https://gitlab.example.com/acme/shop"},
            }
        )
        stamp = str(int(time.time()))
        signed = hmac.new(b"k" * 24, f"{identity}.{stamp}.{body}".encode(), hashlib.sha256).digest()
        headers = [
            ("webhook-id", identity),
            ("webhook-timestamp", stamp),
            ("webhook-signature", f"v1,{base64.b64encode(signed).decode()}"),
            ("X-Gitlab-Event", "Deployment Hook"),
        ]
        return client.post("/webhooks/gitlab", content=body, headers=[*headers, *more]).json()

    first = push("w-1", 1)
    again = push("w-1", 1, ("webhook-id", "w-2"), ("webhook-signature", "v1,x"))
    following = push("w-2", 2)

    assert first["accepted"] == 1
    assert again["repeated"] is True
    assert following["accepted"] == 1


def test_what_has_no_id_and_no_signature_is_told_apart_by_the_ids_of_its_records() -> None:
    publisher = MemoryPublisher()
    client = gateway(publisher)
    answers = [client.post("/webhooks/alertmanager", json=ALERT).json() for _ in range(2)]

    assert [answer["accepted"] for answer in answers] == [1, 1]
    assert answers[0]["ids"] == answers[1]["ids"]


def test_what_was_not_durable_is_not_remembered() -> None:
    publisher = MemoryPublisher()
    client = gateway(publisher)
    publisher.away = True
    away = deliver(client, "d-1")
    publisher.away = False

    assert (away[0], publisher.deliveries) == (503, [])
    assert deliver(client, "d-1")[1]["accepted"] == 1


def test_the_records_are_durable_before_the_delivery_is_remembered() -> None:
    order: list[Topic] = []

    class Watched(MemoryPublisher):
        async def publish(self, records: Sequence[Outgoing]) -> None:
            await super().publish(records)
            order.extend(record.topic for record in records)

    deliver(gateway(Watched()), "d-1")

    assert order == [Topic.INTAKE, Topic.DELIVERIES, Topic.DELIVERIES]


def test_a_delivery_is_accepted_where_only_its_memory_cannot_be_written() -> None:
    class Forgetful(MemoryPublisher):
        async def publish(self, records: Sequence[Outgoing]) -> None:
            if any(record.topic is Topic.DELIVERIES for record in records):
                raise RetryLater("Kafka does not answer")
            await super().publish(records)

    client = gateway(Forgetful())

    assert deliver(client, "d-1")[1]["accepted"] == 1
    assert deliver(client, "d-1")[1]["repeated"] is True


def test_another_gateway_learns_from_the_topic() -> None:
    one, two = MemoryPublisher(), MemoryPublisher()
    deliver(gateway(one), "d-1")
    learned = Deliveries(two)
    for row in one.deliveries:
        learned.heard(row.key, row.value)

    assert deliver(gateway(two, deliveries=learned), "d-1")[1]["repeated"] is True
    assert two.records == []


def test_a_gateway_whose_clock_is_ahead_makes_no_other_remember_for_longer() -> None:
    learned = Deliveries(MemoryPublisher())
    memory = learned._memories[DAYS]
    learned.heard(DIGEST, b"%d,%d" % (DAYS, 9 * 10**18))
    known = memory.knows(DIGEST, time.time_ns() // 1000)
    memory.forget(time.time_ns() // 1000 + (DAYS + 1) * MINUTE)

    assert known
    assert len(memory) == 0


@pytest.mark.parametrize(
    "value",
    [None, b"", b"7", b"x,1", b"10080,", b"3,1", b"10080,x", b"9" * 5000 + b",1", b"10080," + b"9" * 5000],
    ids=range(9),
)
def test_what_is_no_delivery_is_passed_over(value: bytes | None) -> None:
    learned = Deliveries(MemoryPublisher())
    learned.heard(DIGEST, value)
    learned.heard(b"short", b"10080,%d" % NOON)

    assert [len(memory) for memory in learned._memories.values()] == [0, 0]


def test_a_gateway_is_ready_once_it_knows_what_the_others_accepted() -> None:
    publisher = MemoryPublisher()
    deliveries = Deliveries(publisher, is_read=False)
    client = gateway(publisher, deliveries=deliveries)
    before = client.get("/readyz")
    accepted = deliver(client, "d-1")
    deliveries.is_read = True

    assert (before.status_code, "memory of deliveries" in before.text) == (503, True)
    assert accepted[1]["accepted"] == 1
    assert client.get("/readyz").status_code == 200


def test_the_same_delivery_twice_at_a_time_is_stored_once() -> None:
    async def both(fails: bool) -> tuple[list[bool], int]:
        deliveries = Deliveries(MemoryPublisher())
        stored = 0

        async def store() -> Response:
            nonlocal stored
            stored += 1
            await asyncio.sleep(0.01)
            if fails and stored == 1:
                raise RetryLater("Kafka does not answer")
            return Response()

        keys = (Key(DIGEST, DAYS),)
        answers = await asyncio.gather(*(deliveries.once(keys, store) for _ in range(2)), return_exceptions=True)
        return [isinstance(answer, Response) for answer in answers], stored

    assert asyncio.run(both(fails=False)) == ([True, False], 1)
    assert asyncio.run(both(fails=True)) == ([False, True], 2)


def test_after_seven_days_a_delivery_is_forgotten() -> None:
    a_week = 7 * 86_400_000_000
    memory = Memory(DAYS)
    memory.note(DIGEST, NOON, NOON)

    assert memory.knows(DIGEST, NOON + a_week - MINUTE)
    assert not memory.knows(DIGEST, NOON + a_week)
    memory.forget(NOON + a_week)
    assert len(memory) == 0


def test_kafka_keeps_deliveries_as_long_as_they_are_remembered() -> None:
    kept = TOPICS[Topic.DELIVERIES].config

    assert int(kept["retention.ms"]) >= 7 * 86_400_000
    assert "delete" in kept["cleanup.policy"]


def test_what_is_over_already_is_not_learned() -> None:
    memory = Memory(DAYS)
    memory.note(DIGEST, NOON, NOON + DAYS * MINUTE)

    assert len(memory) == 0


def test_the_memory_is_bounded_and_forgets_the_oldest_first() -> None:
    memory = Memory(DAYS, most=3)
    digests = [bytes([number]) * 16 for number in range(5)]
    for number, digest in enumerate(digests):
        memory.note(digest, NOON + number, NOON + number)

    assert [memory.knows(digest, NOON) for digest in digests] == [False, False, True, True, True]


def test_a_million_deliveries_fit_into_120_megabytes() -> None:
    # A set grows in steps: measured where one was just taken, at its dearest.
    count = 180_000
    tracemalloc.start()
    try:
        memory = Memory(DAYS)
        for number in range(count):
            memory.note(number.to_bytes(16, "big"), NOON + number * 3000, NOON + number * 3000)
        used = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()

    assert used / count < 120


def test_what_is_signed_with_its_time_is_remembered_while_that_time_is_accepted() -> None:
    source = Source("slack_like", "Slack-like", lambda *_: Adapted(), {}, signature="slack")

    def keys(signature: str, caller: str = "webhook:slack_like") -> tuple[Key, ...]:
        return keys_of(source, caller, "", {"x-slack-signature": signature}, b"body", {})

    assert [key.keep for key in keys("v0=1")] == [SIGNED_TIME]
    assert keys("v0=1") == keys("v0=1")
    assert keys("v0=1") != keys("v0=2"), "the same said again, and signed anew"
    assert keys("v0=1", caller="anonymous") == ()


@pytest.mark.parametrize("name", adapters.names())
def test_every_source_names_its_deliveries_by_a_header_or_a_pointer(name: str) -> None:
    for place in adapters.load(name).delivery:
        assert re.fullmatch(r"[a-z0-9-]+|(/[\w-]+)+", place)
