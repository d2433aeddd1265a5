"""Quix Streams with a BatchingSink, which is how it says that sinks for other databases are made."""

from __future__ import annotations

import os
import tempfile

import rows
from quixstreams import Application
from quixstreams.sinks.base import BatchingSink


class ClickHouse(BatchingSink):
    def setup(self):
        self._client = rows.client()

    def write(self, batch):
        for chunk in batch.iter_chunks(50_000):
            items = [(batch.partition, item.offset, item.timestamp, item.value) for item in chunk]
            rows.insert(self._client, items)


app = Application(
    broker_address=os.environ["BENCH_KAFKA"],
    consumer_group="bench-quix",
    auto_offset_reset="earliest",
    commit_interval=2.0,
    commit_every=50_000,
    loglevel="ERROR",
    auto_create_topics=False,
    state_dir=f"{tempfile.gettempdir()}/bench-quix",  # else a folder in whichever place it runs
)
frame = app.dataframe(app.topic(os.environ["BENCH_TOPIC"], value_deserializer="bytes", key_deserializer="bytes"))
frame.apply(rows.decode).sink(ClickHouse())
app.run()
