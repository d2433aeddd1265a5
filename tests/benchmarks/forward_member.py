"""An agent that forwards each message: by our forwarder with its barrier, or by `await topic.send` of stock Faust.

Run as `python -m benchmarks.forward_member BOOTSTRAP barrier|send FOLDER`.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import faust
from deploytrail_processors.event_stream import events_of
from deploytrail_processors.forwarder import Forwarder
from deploytrail_processors.safe_app import SafeApp
from deploytrail_schemas.settings import Settings

PARTITIONS = 4
SOURCE, OUTPUT = "forward-source", "forward-output-{mode}"
_OUTPUT = OUTPUT.format(mode="barrier")


def main(bootstrap: str, mode: str, folder: str) -> None:
    """Run until SIGTERM."""
    forwarder = Forwarder(Settings(kafka=bootstrap))
    kind: Any = partial(SafeApp, forwarder=forwarder) if mode == "barrier" else faust.App
    app = kind(
        f"forward-{mode}",
        broker=f"kafka://{bootstrap}",
        datadir=folder,
        topic_partitions=PARTITIONS,
        topic_disable_leader=True,
        broker_commit_interval=0.5,
        consumer_auto_offset_reset="earliest",
        web_enabled=False,
    )
    raw: dict[str, Any] = {"key_type": bytes, "value_type": bytes, "key_serializer": "raw", "value_serializer": "raw"}
    source, output = app.topic(SOURCE, **raw), app.topic(OUTPUT.format(mode=mode), **raw)

    @app.agent(source)
    async def forward(stream: faust.StreamT[bytes]) -> AsyncIterator[None]:
        async for event in events_of(stream) if mode == "barrier" else stream.events():
            message = event.message
            if mode == "barrier":
                # The part of `forward` behind the encoding, which the other way does not have either.
                forwarder._produce(forwarder._producer, _OUTPUT, message.value, message.key, message.partition, [])
            else:
                await output.send(key=message.key, value=message.value, partition=message.partition)
        yield

    Path(folder).mkdir(parents=True, exist_ok=True)
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    faust.Worker(app, loop=loop, loglevel="ERROR", redirect_stdouts=False, quiet=True).execute_from_commandline()


if __name__ == "__main__":
    main(*sys.argv[1:])
