"""An agent's events: in order, each acknowledged once it was handled, and others get their turn meanwhile."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import Any

import faust
import pytest
from deploytrail_processors.event_stream import events_of
from deploytrail_processors.safe_app import Begun
from faust.types import TP
from faust.types.tuples import ConsumerMessage

PLACE = TP("source", 1)


@dataclass
class Run:
    """An app whose stream is told of messages as its consumer would tell it."""

    app: faust.App
    acknowledged: list[int] = field(default_factory=list)
    handled: list[int] = field(default_factory=list)

    def tell(self, channel: Any, offset: int, generation: int) -> None:
        message = ConsumerMessage(
            PLACE.topic, PLACE.partition, offset, 0.0, 1, (), b"key", b"value", None, tp=PLACE, generation_id=generation
        )
        message.incref(1)
        run = self

        class Event(faust.Event):
            def ack(self) -> bool:
                run.acknowledged.append(self.message.offset)
                return True

        channel.queue.force_put_nowait(Event(self.app, b"key", b"value", {}, message))


async def handle(run: Run, generations: list[int], *, seconds: float = 0.0) -> int:
    """Handle so many messages, the last of which ends the stream; how often others had their turn meanwhile."""
    channel = run.app.channel()
    stream = run.app.stream(channel)
    run.app.flow_control.resume()
    for offset, generation in enumerate(generations):
        run.tell(stream.channel, offset, generation)
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    beside = asyncio.ensure_future(others())
    try:
        async for event in events_of(stream):
            assert event.message.offset not in run.acknowledged
            assert stream.current_event is event
            run.handled.append(event.message.offset)
            time.sleep(seconds)
            if event.message.offset == len(generations) - 1:
                await stream.throw(StopAsyncIteration())
    finally:
        beside.cancel()
    return turns


@pytest.fixture
def run() -> Run:
    return Run(faust.App("test", broker="kafka://127.0.0.1:1", store="memory://", web_enabled=False))


def test_events_come_in_order_and_are_acknowledged_once_they_were_handled(run: Run) -> None:
    generation = run.app.consumer_generation_id
    asyncio.run(asyncio.wait_for(handle(run, [generation] * 50), 10))

    assert run.handled == list(range(50))
    assert run.acknowledged == list(range(50))


def test_an_event_of_an_earlier_generation_is_left_to_whoever_has_its_partition_now(run: Run) -> None:
    generation = run.app.consumer_generation_id
    asyncio.run(asyncio.wait_for(handle(run, [generation - 1, generation, generation - 1, generation]), 10))

    assert run.handled == [1, 3]
    assert run.acknowledged == [1, 3]


def test_others_have_their_turn_while_events_wait(run: Run) -> None:
    generation = run.app.consumer_generation_id
    turns = asyncio.run(asyncio.wait_for(handle(run, [generation] * 10, seconds=0.003), 10))

    assert turns >= 10


def test_a_coroutine_that_has_begun_goes_on_where_it_waits() -> None:
    async def twice(gate: asyncio.Event) -> str:
        await gate.wait()
        await asyncio.sleep(0)
        return "done"

    async def begin() -> str:
        gate = asyncio.Event()
        begun = twice(gate)
        waiting = asyncio.ensure_future(Begun(begun, begun.send(None)))
        await asyncio.sleep(0)
        gate.set()
        result: str = await waiting
        return result

    assert asyncio.run(asyncio.wait_for(begin(), 10)) == "done"


def test_a_coroutine_that_has_begun_hears_that_it_is_cancelled() -> None:
    heard: list[str] = []

    async def patient() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            heard.append("cancelled")
            raise

    async def begin() -> None:
        begun = patient()
        waiting = asyncio.ensure_future(Begun(begun, begun.send(None)))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])

    asyncio.run(asyncio.wait_for(begin(), 10))

    assert heard == ["cancelled"]
