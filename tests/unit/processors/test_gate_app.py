"""The gate answers only from all that is known: while a record may be missing, it says 503 and issues nothing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from confluent_kafka import KafkaError, KafkaException
from deploytrail_processors import gate_web, zones
from deploytrail_processors.apps import gate as gate_app
from deploytrail_processors.apps.base import LiveContext
from deploytrail_processors.apps.gate import Gate
from deploytrail_processors.forwarder import DeliveryFailed
from deploytrail_processors.gate_web import GateWeb, _answering
from deploytrail_processors.replay_command import makers
from deploytrail_processors.rules.policies import PolicySet
from deploytrail_schemas.codec import decode, encode
from deploytrail_schemas.records import RecordType
from deploytrail_schemas.settings import Settings
from deploytrail_schemas.topics import Topic
from faust.types import TP
from support.apps import Handled, tick
from support.gate import AUDIENCE, DIGEST, ISSUER, approved, make_key, now, question, registered, step
from support.story import APPS
from support.values import event

EU = 1


class Trail:
    """Stands for Kafka: how far the partition reaches, who has it, and what the gate writes to it."""

    def __init__(self, end: int) -> None:
        self.end: int | KafkaException = end
        self.assigned = {TP(Topic.EVENTS.value, EU)}
        self.written: list[dict[str, Any]] = []
        self.muted = False
        self.asked = 0
        self.delivers = True

    def list_offsets(self, asked: dict[Any, Any], **_: Any) -> dict[Any, Future[Any]]:
        self.asked += 1
        found: Future[Any] = Future()
        if isinstance(self.end, KafkaException):
            found.set_exception(self.end)
        else:
            found.set_result(SimpleNamespace(offset=self.end))
        return dict.fromkeys(asked, found)

    def forward(self, topic: Topic, partition: int, key: str, kind: RecordType, value: dict[str, Any], *_: Any) -> None:
        self.written.append(value)

    async def barrier(self) -> None:
        if not self.delivers:
            raise DeliveryFailed("the broker is away")


@pytest.fixture
def trail() -> Trail:
    return Trail(end=4)


@pytest.fixture
def gate(trail: Trail, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Gate:
    """A gate that has read four records of its partition: a registration, an approval, two ticks."""
    monkeypatch.setattr(gate_app, "CATCH_UP_SECONDS", 0.3)
    make_key(tmp_path / "keys", "2026-01")
    settings = Settings(
        kafka="127.0.0.1:1",
        gate_keys=str(tmp_path / "keys"),
        permit_issuer=ISSUER,
        permit_audience=AUDIENCE,
    )
    app = SimpleNamespace(
        rebalancing=False,
        tables=SimpleNamespace(actives_ready=True),
        consumer=SimpleNamespace(assignment=lambda: trail.assigned),
        router=SimpleNamespace(tables_metadata=dict),
        Table=lambda *_, **__: {},
    )
    context = LiveContext("gate", settings, cast(Any, app), cast(Any, trail))
    context.keep_time()
    context.reader = cast(Any, SimpleNamespace(policies=PolicySet()))
    found = Gate(context)
    found._admin = cast(Any, trail)
    at = now()
    for one in (registered("good"), approved("good")):
        told = {"corrected_at": at, "received_at": at, "uncertainty_ms": 0, "reporter": "test"} | whole() | one
        found.on_record(EU, RecordType.APPROVAL, told)
    found.on_tick(EU, at)
    context.read[EU] = 3
    return found


def told(step: dict[str, Any]) -> dict[str, Any]:
    at = now()
    return {"corrected_at": at, "received_at": at, "uncertainty_ms": 0, "reporter": "test"} | whole() | step


def whole() -> dict[str, Any]:
    texts = (
        "change_ticket",
        "artifact_digest",
        "approver",
        "approver_role",
        "justification",
        "permit_id",
        "repository",
    )
    return dict.fromkeys(texts, "") | {"valid_from": None, "valid_until": None, "tags": {}, "emergency": False}


def answer(
    gate: Gate, meanwhile: Callable[[], Awaitable[None]] | None = None, deployment_id: str = "good", **fields: Any
) -> tuple[int, dict[str, Any], str]:
    """What a question is answered: status, body, Retry-After."""

    async def ask() -> tuple[int, dict[str, Any], str]:
        served = GateWeb(gate, gate._context.settings)
        app = web.Application()
        app.add_routes([web.post("/v1/permits", _answering(served.permits))])
        async with TestClient(TestServer(app)) as client:
            background = asyncio.create_task(cast(Any, meanwhile())) if meanwhile else None
            told = await client.post("/v1/permits", json=question(deployment_id, **fields))
            if background is not None:
                await background
            return told.status, await told.json(), told.headers.get("Retry-After", "")

    return asyncio.run(ask())


@pytest.mark.requirement("M5.4")
def test_a_gate_that_has_read_to_the_end_answers_and_says_by_which_zones(gate: Gate, trail: Trail) -> None:
    status, body, _ = answer(gate)
    [record] = trail.written

    assert (status, body["verdict"], body["tzdata"]) == (200, "allowed", zones.VERSION)
    assert (record["approval_type"], record["artifact_digest"]) == ("permit_issued", DIGEST)
    assert record["tags"]["tzdata"] == zones.VERSION


@pytest.mark.requirement("M5.4")
def test_while_one_record_is_not_read_yet_nobody_gets_a_permit(gate: Gate, trail: Trail) -> None:
    trail.end = 5  # perhaps a revocation
    status, body, retry = answer(gate)

    assert (status, body["detail"], retry) == (503, "the trail is not read to its end yet", "2")
    assert trail.written == []


@pytest.mark.requirement("M5.4")
def test_a_question_waits_for_what_was_on_the_trail_when_it_came(gate: Gate, trail: Trail) -> None:
    trail.end = 5

    async def revoke() -> None:
        while not trail.asked:
            await asyncio.sleep(0)
        at = now()
        told = {"corrected_at": at, "received_at": at, "uncertainty_ms": 0, "reporter": "test"} | whole()
        gate.on_record(EU, RecordType.APPROVAL, told | step("rejected", "good", approver="ada"))
        gate._context.read[EU] = 4

    status, body, _ = answer(gate, revoke)

    assert (status, body["verdict"]) == (403, "refused")
    assert [one["approval_type"] for one in trail.written] == ["permit_refused"]


@pytest.mark.requirement("M5.4")
def test_a_broker_that_does_not_tell_the_end_is_no_yes(gate: Gate, trail: Trail) -> None:
    trail.end = KafkaException(KafkaError(KafkaError._TIMED_OUT))
    status, body, retry = answer(gate)

    assert (status, retry) == (503, "2")
    assert body["detail"].startswith("Kafka does not say where the trail ends")


@pytest.mark.requirement("M5.4")
def test_a_partition_that_is_given_away_while_reading_on_is_answered_by_nobody_here(gate: Gate, trail: Trail) -> None:
    trail.end = 5

    async def rebalance() -> None:
        while not trail.asked:
            await asyncio.sleep(0)
        trail.assigned = set()
        gate._context.read[EU] = 4

    status, body, _ = answer(gate, rebalance)

    assert (status, body["detail"]) == (503, "the region's partition has just been given away")
    assert trail.written == []


def test_after_a_recovery_nothing_is_known_to_be_read(gate: Gate, trail: Trail) -> None:
    gate.on_recovered()

    assert answer(gate)[0] == 503
    assert trail.written == []


def read_back(gate: Gate, trail: Trail) -> None:
    """The gate reads what it wrote to the trail, with what else the trail gives each record."""
    for record in trail.written[max(gate._context.read[EU] - 3, 0) :]:
        gate.on_record(EU, RecordType.APPROVAL, whole() | record)
        gate._context.read[EU] += 1


@pytest.mark.requirement("M2.6", "M5.4")
def test_a_refusal_is_on_the_trail_with_every_reason_and_who_asked(gate: Gate, trail: Trail) -> None:
    status, body, _ = answer(gate, deployment_id="never", deployer="dora", kind="hotfix")
    [record] = trail.written

    assert (status, [one["reason"] for one in body["reasons"]]) == (403, ["unregistered", "no_approval"])
    assert (record["approval_type"], record["deployment_id"]) == ("permit_refused", "never")
    assert (record["service"], record["environment"], record["region"]) == ("checkout", "production", "eu-west-1")
    assert (record["artifact_digest"], record["reporter"]) == (DIGEST, "gate")
    assert record["justification"] == "; ".join(f"{one['reason']}: {one['detail']}" for one in body["reasons"])
    assert record["tags"] == {
        "verdict": "refused", "reasons": "unregistered,no_approval", "asked_by": "anonymous", "deployer": "dora",
        "kind": "hotfix", "tzdata": zones.VERSION,
    }  # fmt: skip


@pytest.mark.requirement("M2.6", "M5.4")
def test_a_refusal_that_is_asked_for_again_is_told_once_until_its_reasons_change(gate: Gate, trail: Trail) -> None:
    for _ in range(5):
        assert answer(gate, deployment_id="never")[0] == 403
        read_back(gate, trail)
    assert len(trail.written) == 1

    gate.on_record(EU, RecordType.APPROVAL, told(registered("never")))
    for _ in range(2):
        assert answer(gate, deployment_id="never")[0] == 403
        read_back(gate, trail)
    answer(gate, deployment_id="never", artifact_digest="sha256:" + "2c" * 32)

    said = [one["tags"]["reasons"] for one in trail.written]
    assert said == ["unregistered,no_approval", "no_approval", "registered_for_other_artifact,no_approval"]
    assert len({one["approval_id"] for one in trail.written}) == 3


@pytest.mark.requirement("M2.6")
def test_a_refusal_that_cannot_be_written_is_not_told(gate: Gate, trail: Trail) -> None:
    trail.delivers = False
    status, body, _ = answer(gate, deployment_id="never")

    assert (status, body["detail"]) == (503, "the refusal could not be written to the trail")


@pytest.mark.requirement("M2.6", "M3.4")
def test_no_secret_of_a_question_reaches_the_trail(gate: Gate, trail: Trail) -> None:
    secret = "ghp_" + "x1Y2z3" * 6
    answer(gate, deployment_id=f"run-{secret}", deployer=f"token={secret}", kind=f"password={secret}")

    [record] = trail.written
    assert secret not in json.dumps(record)


def test_one_caller_fills_the_trail_with_no_more_than_a_share(
    gate: Gate, trail: Trail, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate_app, "MOST_REFUSALS_A_MINUTE", 3)
    at = now()
    monkeypatch.setattr(gate_web, "_now", lambda: at)
    statuses = {answer(gate, deployment_id=f"made-up-{n}")[0] for n in range(6)}

    assert statuses == {403}
    assert len(trail.written) == 3


def test_what_was_refused_long_ago_is_forgotten(gate: Gate, trail: Trail) -> None:
    answer(gate, deployment_id="never")
    read_back(gate, trail)
    gate.on_tick(EU, now() + 2 * 3_600_000_000)

    assert list(gate._context.tables["refusals"]) == []


@pytest.mark.requirement("M2.6")
def test_no_app_but_the_gate_keeps_or_judges_anything_because_of_a_refusal(gate: Gate, trail: Trail) -> None:
    answer(gate, deployment_id="never", deployer="dora")
    refusal = decode(encode(RecordType.APPROVAL, trail.written[0]))[1]
    needs = {"kind": "required_fields", "name": "why", "spec": {"fields": ["justification"], "tags": ["deployer"]}}
    deployed = event("started", refusal["corrected_at"] + 60_000_000, deployment_id="never", service="checkout")
    for name, make in makers(APPS, Settings()).items():
        silent = Handled(make, [needs]).tell(refusal)
        assert silent.written == []
        assert [rows for table, rows in silent.tables.items() if rows] == [], name
        with_it, without = (Handled(make, [needs]).tell(*steps, tick(refusal["corrected_at"] + 600_000_000))
                            for steps in ((refusal, deployed, refusal), (deployed,)))  # fmt: skip
        assert with_it.standing == without.standing, name
        assert with_it.written[-1:] == without.written[-1:], name
