"""What the on-call sink does between two messages."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError
from deploytrail_schemas.codec import encode
from deploytrail_schemas.errors import RetryLater
from deploytrail_schemas.records import RecordType
from deploytrail_schemas.settings import Settings
from deploytrail_sinks.on_call import sink as sink_module
from deploytrail_sinks.on_call.incidents import Action
from deploytrail_sinks.on_call.ledger import Incident, Status
from deploytrail_sinks.on_call.sink import OnCallSink
from deploytrail_sinks.on_call.state_topic import StateTopic
from support.values import NOON, record

TOPIC = "deploytrail.records"
PLACE = f"{TOPIC}:1"


class Receiver:
    """Takes every page; whom it was asked about is kept, and what it does not know it never answers."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.told: list[tuple[str, str]] = []
        self.hangs: set[str] = set()

    def send(self, incident: Incident, now: int) -> str:
        self.told.append((incident.key, incident.action.value))
        return "202"

    def acknowledged(self, incident: Incident) -> str:
        self.asked.append(incident.key)
        if incident.key in self.hangs:
            raise RetryLater("it does not answer")
        return "grace"


@pytest.fixture
def receiver() -> Receiver:
    return Receiver()


@pytest.fixture
def sink(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> Iterator[OnCallSink]:
    """A sink that has its partition, without a Kafka."""
    monkeypatch.setattr(StateTopic, "_put", lambda *_: None)
    made = OnCallSink(Settings(kafka="127.0.0.1:9"), receiver, lambda: NOON)
    made._mine = frozenset({PLACE})
    yield made
    made._consumer.close()


def unanswered(name: str) -> Incident:
    return Incident(name, Status.OPEN, Action.TRIGGER, NOON, "error", seen={PLACE: 0}, sent=1, next_at=NOON)


def test_a_receiver_that_hangs_is_asked_once_in_a_while_for_all_incidents(
    sink: OnCallSink, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    passed = 100.0
    monkeypatch.setattr(sink_module, "time", SimpleNamespace(monotonic=lambda: passed))
    receiver.hangs = {"a", "b"}
    for name in "abc":
        sink._state.write(unanswered(name))

    rounds = []
    for _ in range(3):
        for _ in range(5):  # messages meanwhile
            sink._send_what_waited()
        rounds.append(tuple(receiver.asked))
        receiver.asked.clear()
        passed += sink_module._ASK_AGAIN_SECONDS

    assert rounds == [("a",), ("b",), ("c", "a")]  # and not always the one that it never answers for
    known = {name: sink._state.get(name) for name in "abc"}
    assert {name: one and one.acknowledged for name, one in known.items()} == {"a": False, "b": False, "c": True}


class Read:
    """A message, or the end of its partition, as the client gives it."""

    def __init__(self, offset: int, value: bytes = b"", error: int | None = None) -> None:
        self._offset, self._value, self._error = offset, value, error

    def topic(self) -> str:
        return TOPIC

    def partition(self) -> int:
        return 1

    def offset(self) -> int:
        return self._offset

    def value(self) -> bytes:
        return self._value

    def error(self) -> KafkaError | None:
        return None if self._error is None else KafkaError(self._error)


def named(offset: int, deployment_id: str, deployer: str) -> Read:
    value = record(deployment_id=deployment_id, deployer=deployer)
    return Read(offset, encode(RecordType.RECORD, value))


@pytest.mark.parametrize(
    "last",
    [
        named(4, "shop-2", "bob"),
        named(7, "shop-2", "bob"),  # those before it were deleted meanwhile
        Read(5, error=KafkaError._PARTITION_EOF),
        Read(4, b"no record at all"),
    ],
)
def test_who_waits_is_told_once_the_people_of_before_are_known(sink: OnCallSink, receiver: Receiver, last: Any) -> None:
    about = {"deployment_id": "shop-1"}
    waiting = Incident("k", Status.WAITING, Action.TRIGGER, NOON, "error", "late", about, {PLACE: 4}, due=NOON)
    sink._state.write(waiting)
    sink._begins = {(TOPIC, 1): 5}  # rewound, to the third

    for message in (Read(2, b"no record at all"), named(3, "shop-1", "ada")):
        sink._take(message)  # type: ignore[arg-type]
        sink._send_what_waited()
    before = list(receiver.told)
    sink._take(last)
    sink._send_what_waited()

    assert before == []
    assert receiver.told == [("k", "trigger")]
    assert sink._people.about(about)["deployer"] == "ada"
    assert min(sink._done.values(), default=5) >= 5  # nothing is committed backwards
