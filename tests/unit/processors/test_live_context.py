"""Outputs of a worker: they name their cause, are kept back where they were given before, and are waited for."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest
from confluent_kafka import KafkaException
from deploytrail_processors.apps.base import LiveContext
from deploytrail_processors.forwarder import Forwarder
from deploytrail_processors.safe_app import SafeApp
from deploytrail_schemas.records import RecordType
from deploytrail_schemas.settings import Settings
from deploytrail_schemas.topics import Topic
from support.values import event

NOWHERE = Settings(kafka="127.0.0.1:1", kafka_client="log_level=0")


class Kept:
    """Stands for the forwarder: keeps the headers of what goes out."""

    def __init__(self) -> None:
        self.muted = False
        self.headers: list[dict[str, Any]] = []

    def forward(self, *record: Any) -> None:
        if not self.muted:
            self.headers.append(dict(record[-1]))


def context_of(kept: Kept) -> LiveContext:
    return LiveContext("overdue", NOWHERE, cast(SafeApp, None), cast(Forwarder, kept))


def write(context: LiveContext) -> None:
    context.forward(Topic.FINDINGS, 1, "key", RecordType.FINDING, {})


def test_outputs_name_the_trail_record_that_they_follow_from() -> None:
    kept = Kept()
    context = context_of(kept)
    with context.at(1, 7):
        write(context)
    write(context)  # such as a permit that somebody asked for

    assert kept.headers == [{"dt-cause": b"overdue:1:7"}, {}]


def test_what_an_app_of_the_former_format_has_answered_is_not_written_again() -> None:
    kept = Kept()
    context = context_of(kept)
    context.answered = {1: 8}
    for partition, offset in ((1, 7), (1, 8), (2, 0)):
        with context.at(partition, offset):
            write(context)

    assert [one["dt-cause"] for one in kept.headers] == [b"overdue:1:8", b"overdue:2:0"]


def test_a_record_that_fails_does_not_leave_the_worker_quiet() -> None:
    kept = Kept()
    context = context_of(kept)
    context.answered = {1: 8}
    with pytest.raises(ValueError, match="broken"), context.at(1, 7):
        raise ValueError("broken")
    write(context)

    assert kept.headers == [{}]


def test_a_muted_forwarder_has_nothing_under_way() -> None:
    forwarder = Forwarder(NOWHERE)
    forwarder.muted = True
    forwarder.forward(Topic.EVENTS, 1, "key", RecordType.DEPLOYMENT_EVENT, event("started"))
    asyncio.run(asyncio.wait_for(forwarder.barrier(), 5))

    assert len(forwarder._outstanding) == 0


def test_a_row_is_written_muted_or_not() -> None:
    forwarder = Forwarder(NOWHERE)
    forwarder.muted = True
    forwarder.row("changelog", 1, b"key", b"value")

    assert len(forwarder._outstanding) == 1
    with pytest.raises(TimeoutError):
        asyncio.run(asyncio.wait_for(forwarder.barrier(), 0.2))


def test_a_record_that_the_client_refuses_at_once_is_not_waited_for() -> None:
    forwarder = Forwarder(NOWHERE)
    with pytest.raises(KafkaException, match="too large"):
        forwarder.row("changelog", 1, b"key", b"x" * (6 << 20))

    asyncio.run(asyncio.wait_for(forwarder.barrier(), 5))


def test_what_is_sent_is_waited_for() -> None:
    forwarder = Forwarder(NOWHERE)
    forwarder.forward(Topic.EVENTS, 1, "key", RecordType.DEPLOYMENT_EVENT, event("started"))

    with pytest.raises(TimeoutError):
        asyncio.run(asyncio.wait_for(forwarder.barrier(), 0.2))
