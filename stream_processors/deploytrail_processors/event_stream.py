"""The events of an agent's stream, several at one turn of the event loop.

Faust goes through the loop, and so through a system call and four coroutines, for each event: a third of what an event
cost in the intake app. Here it does so once in `TURN` seconds, or when nothing waits. What Faust does with an event is
done here in the same order: one of an earlier generation is passed over without an acknowledgement, since whoever has
its partition now gets it again; every other one is acknowledged when the agent asks for the next. Private methods of
Faust: see `safe_app` for the version that they fit.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

# So long others wait: commits, ticks, whoever asks the gate.
TURN = 0.002


async def events_of(stream: Any) -> AsyncIterator[Any]:
    """Each event of a stream, in order; in place of `stream.events()`."""
    app, queue, wait = stream.app, stream.channel.queue, stream.channel.__anext__
    consumer, acknowledged = app.consumer, app.topics.acking_topics
    stream._finalized = True
    started_here = await stream.maybe_start()
    turn_ends = 0.0
    try:
        while not stream.should_stop:
            if queue.empty():
                event = await wait()
                turn_ends = time.monotonic() + TURN
            elif time.monotonic() >= turn_ends:
                await asyncio.sleep(0)
                turn_ends = time.monotonic() + TURN
                continue  # much may have changed meanwhile: the queue may be cleared, the stream be stopped
            else:
                event = queue.get_nowait()
            message = event.message
            if not app.flow_control.is_active() or message.generation_id != app.consumer_generation_id:
                continue
            if message.topic in acknowledged and not message.tracked:
                message.tracked = True
                consumer.unacked.add(message)
            stream._on_stream_event_in(message.tp, message.offset, stream, event)
            stream._set_current_event(event)
            try:
                yield event
            finally:
                stream.current_event = None
                event.ack()
    except StopAsyncIteration:  # thrown into the queue where the stream ends
        return
    finally:
        stream._channel_stop_iteration(stream.channel)
        if started_here:
            await stream.stop()
            stream.service_reset()
