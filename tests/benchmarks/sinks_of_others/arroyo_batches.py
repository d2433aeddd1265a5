"""Sentry's Arroyo: its batches, collected and inserted by a step, offsets committed behind it."""

from __future__ import annotations

import os

import rows
from arroyo.backends.kafka import KafkaConsumer, build_kafka_consumer_configuration
from arroyo.processing.processor import StreamProcessor
from arroyo.processing.strategies import BatchStep, CommitOffsets, ProcessingStrategyFactory, RunTask
from arroyo.types import Topic

client = rows.client()


def store(message):
    batch = []
    for item in message.payload:
        value = item.payload.value
        batch.append((item.partition.index, item.offset, int(item.timestamp.timestamp() * 1000), rows.decode(value)))
    rows.insert(client, batch)
    return message.payload


class Steps(ProcessingStrategyFactory):
    def create_with_partitions(self, commit, partitions):
        return BatchStep(50_000, 2.0, RunTask(store, CommitOffsets(commit)))


consumer = KafkaConsumer(
    build_kafka_consumer_configuration(
        {}, "bench-arroyo", auto_offset_reset="earliest", bootstrap_servers=[os.environ["BENCH_KAFKA"]]
    )
)
StreamProcessor(consumer, Topic(os.environ["BENCH_TOPIC"]), Steps()).run()
