"""The population as Kafka and the archive hold it: every record read again, by its own bytes."""

from __future__ import annotations

import time
import uuid
from dataclasses import replace

from confluent_kafka import Consumer, KafkaException, TopicPartition
from deploytrail_schemas.counted import counted
from deploytrail_schemas.errors import DeploytrailError
from deploytrail_schemas.kafka import consumer_config
from deploytrail_schemas.settings import Settings
from deploytrail_schemas.topics import Topic

from deploytrail_sinks.archive.log.names import is_of_log
from deploytrail_sinks.archive.segment import read_segment
from deploytrail_sinks.archive.store import open_store
from deploytrail_sinks.reports.population import Collector, Population

_PATIENCE = 30.0  # seconds without a record before Kafka counts as away


def of_kafka(settings: Settings, collector: Collector) -> Population:
    """What the records topic holds, and from which offsets on; a note where Kafka does not answer."""
    topic = Topic.RECORDS.value
    consumer = Consumer(consumer_config(settings, f"deploytrail-report-{uuid.uuid4()}"))
    try:
        metadata = consumer.list_topics(topic, timeout=10).topics[topic]
        ends, begins = {}, {}
        for partition in metadata.partitions:
            low, high = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=10)
            if low > 0:
                begins[partition] = low
            if low < high:
                ends[partition] = (low, high)
        consumer.assign([TopicPartition(topic, partition, low) for partition, (low, _) in ends.items()])
        open_ones, heard = set(ends), time.monotonic()
        while open_ones:
            messages = consumer.consume(5_000, 0.5)
            if not messages and time.monotonic() - heard > _PATIENCE:
                unread = counted(len(open_ones), "partition was", "partitions were")
                return Population("Kafka", {}, {}, f"stopped answering; {unread} not read whole")
            for message in messages:
                if message.error() is not None:
                    continue
                heard = time.monotonic()
                partition, offset = message.partition() or 0, message.offset() or 0
                collector.add(partition, offset, message.timestamp()[1], message.value())
            done = {tp.partition for tp in consumer.position([TopicPartition(topic, p) for p in open_ones])
                    if tp.offset >= ends[tp.partition][1]}  # fmt: skip
            open_ones -= done
        return replace(collector.population(), begins=begins)
    except (KafkaException, KeyError) as error:
        return Population("Kafka", {}, {}, f"not read: {error}")
    finally:
        consumer.close()


def of_archive(settings: Settings, collector: Collector) -> Population:
    """What the archive's segments of the records topic hold; a note where there is none."""
    if not settings.archive:
        return Population("archive", {}, {}, "not read: DEPLOYTRAIL_ARCHIVE is not set")
    try:
        store, found = open_store(settings.archive), False
        for name in store.list(f"{Topic.RECORDS.value}/"):
            if is_of_log(name) or not name.endswith(".avro"):
                continue
            found = True
            segment = read_segment(store.read(name))
            for record in segment.records:
                collector.add(segment.partition, record.offset, record.timestamp, record.value)
    except (DeploytrailError, OSError) as error:
        return Population("archive", {}, {}, f"not read: {error}")
    return collector.population() if found else Population("archive", {}, {}, "holds no segment of the records yet")
