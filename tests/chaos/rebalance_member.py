"""A member of a group with tables: every event is noted, counted and forwarded. `safe` or `stock` Faust.

What it forwards is the event, its offset and the how-manieth of its partition it is. A count is the hardest that a
table can be asked for: it forgives no record that is told twice.

Run as `python rebalance_member.py BOOTSTRAP safe|stock FOLDER`.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import faust
from confluent_kafka import Producer
from deploytrail_processors.event_stream import events_of
from deploytrail_processors.forwarder import Forwarder
from deploytrail_processors.safe_app import SafeApp
from deploytrail_schemas.kafka import producer_config
from deploytrail_schemas.settings import Settings

PARTITIONS = 8
SOURCE, OUTPUT = "rebalance-source", "rebalance-output"


def main(bootstrap: str, mode: str, folder: str) -> None:
    """Run until SIGTERM."""
    settings = Settings(kafka=bootstrap)
    # Of the forwarder only the rows are used: outputs are delivered one by one below.
    kind: Any = partial(SafeApp, forwarder=Forwarder(settings), follows=SOURCE) if mode == "safe" else faust.App
    app = kind(
        f"rebalance-{mode}",
        broker=f"kafka://{bootstrap}",
        store="memory://",
        datadir=folder,
        topic_partitions=PARTITIONS,
        topic_disable_leader=True,
        table_standby_replicas=0,
        broker_session_timeout=10.0,
        broker_heartbeat_interval=3.0,
        broker_commit_interval=2.0,
        web_enabled=False,
    )
    producer = Producer(producer_config(settings))
    seen = app.Table("seen", partitions=PARTITIONS, key_type=str, value_type=None)
    counts = app.Table("counts", partitions=PARTITIONS, key_type=str, value_type=None)
    source = app.topic(SOURCE, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw")

    @app.agent(source)
    async def note(stream: faust.StreamT[bytes]) -> AsyncIterator[None]:
        async for event in events_of(stream) if mode == "safe" else stream.events():
            message = event.message
            seen[message.value.decode()] = message.offset
            place = f"partition {message.partition}"
            counts[place] = count = counts.get(place, 0) + 1
            said = b"%b %d %d" % (message.value, message.offset, count)
            producer.produce(OUTPUT, said, partition=message.partition)
            # Delivered here and now, so that only the consumer can lose something.
            producer.flush(10)
        yield

    Path(folder).mkdir(parents=True, exist_ok=True)
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    faust.Worker(app, loop=loop, loglevel="ERROR", redirect_stdouts=False, quiet=True).execute_from_commandline()


if __name__ == "__main__":
    main(*sys.argv[1:])
