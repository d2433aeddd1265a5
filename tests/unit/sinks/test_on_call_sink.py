"""What the on-call sink does between two messages."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from deploytrail_schemas.errors import RetryLater
from deploytrail_schemas.settings import Settings
from deploytrail_sinks.on_call import sink as sink_module
from deploytrail_sinks.on_call.incidents import Action
from deploytrail_sinks.on_call.ledger import Incident, Status
from deploytrail_sinks.on_call.sink import OnCallSink
from deploytrail_sinks.on_call.state_topic import StateTopic
from support.values import NOON

PLACE = "deploytrail.records:1"


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
    assert {name: one and one.acknowledged for name, one in known.items()} == {"a": "", "b": "", "c": "grace"}
