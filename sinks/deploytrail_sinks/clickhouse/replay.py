"""The trail read again, from what Kafka still holds up to given offsets, into tables of another database.

Nothing is committed and nothing is set aside: what cannot be read stands among the dead letters already.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping

from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient
from deploytrail_schemas.counted import counted
from deploytrail_schemas.errors import RetryLater
from deploytrail_schemas.kafka import client_config, consumer_config
from deploytrail_schemas.settings import Settings

from deploytrail_sinks.clickhouse.buffer import Buffer, Limits, Offsets, Place
from deploytrail_sinks.clickhouse.sink import ENDS, group_of, row_of, topics_of
from deploytrail_sinks.clickhouse.storing import Storing
from deploytrail_sinks.clickhouse.writer import Writer

_QUIET_SECONDS = 30.0


def committed(settings: Settings) -> tuple[Offsets, set[Place]]:
    """How far the sink has come in each partition, and where a range is announced that may be stored in part.

    RetryLater while Kafka does not answer.
    """
    # Not by an AdminClient: librdkafka 2.16 ends the process that asks as one while a coordinator moves.
    consumer = Consumer(consumer_config(settings, group_of(settings)) | {"log_level": 0})
    names = topics_of(settings)
    try:
        there = consumer.list_topics(timeout=30).topics
        every = [
            TopicPartition(name, partition) for name in names if name in there for partition in there[name].partitions
        ]
        found = consumer.committed(every, timeout=30)
        for wrong in (p.error for p in found if p.error is not None):
            raise KafkaException(wrong)
    except KafkaException as error:
        raise RetryLater(f"Kafka at {settings.kafka} does not tell how far the sink has come: {error}") from error
    finally:
        consumer.close()
    ours = [p for p in found if p.offset >= 0]
    announced = {(p.topic, p.partition) for p in ours if (p.metadata or "").startswith(ENDS)}
    return {(p.topic, p.partition): p.offset for p in ours}, announced


def members(settings: Settings) -> int:
    """How many sinks there are in the group. RetryLater while Kafka does not answer."""
    admin = AdminClient(client_config(settings) | {"log_level": 0})
    try:
        [asked] = admin.describe_consumer_groups([group_of(settings)]).values()
        return len(asked.result(30).members)
    except (KafkaException, TimeoutError) as error:
        raise RetryLater(f"Kafka at {settings.kafka} does not tell who is in {group_of(settings)}: {error}") from error


class Replay:
    """A reader of the trail that can go on where it stopped."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._storing = Storing(Writer(settings), lambda *_: None, settings.clickhouse_insert_threads)
        self._consumer = Consumer(
            consumer_config(settings, f"{group_of(settings)}-rebuild-{uuid.uuid4()}")
            | {"queued.max.messages.kbytes": 16 << 10}
        )
        self._oldest: Offsets = {}
        self._next: Offsets = {}

    def oldest(self) -> Offsets:
        """The first offset that Kafka has, of every partition that the sink may read.

        RetryLater while it does not tell.
        """
        try:
            there = self._consumer.list_topics(timeout=30).topics
            for name in topics_of(self._settings):
                for partition in there[name].partitions if name in there else ():
                    self._low((name, partition))
        except KafkaException as error:
            raise RetryLater(f"Kafka at {self._settings.kafka} does not tell what it still has: {error}") from error
        return dict(self._oldest)

    def up_to(self, ends: Mapping[Place, int], say: Callable[[int], None] = lambda _: None) -> int:
        """Store everything before `ends`; how many messages that were. `say` gets a count now and then."""
        for place in ends:
            if place not in self._next:
                self._next[place] = self._low(place)
        open_ones = {place for place, end in ends.items() if self._next[place] < end}
        self._consumer.assign([TopicPartition(*place, self._next[place]) for place in open_ones])
        limits = Limits(self._settings.clickhouse_batch_rows, self._settings.clickhouse_batch_bytes, float("inf"))
        buffer = Buffer(limits)
        buffer.assign(dict.fromkeys(open_ones))
        count, heard = 0, time.monotonic()
        while open_ones:
            for message in self._consumer.consume(5000, 0.2):
                if (error := message.error()) is not None:
                    if error.fatal():
                        raise KafkaException(error)
                    continue
                row, heard = row_of(message), time.monotonic()
                place = (row.topic, row.partition)
                if row.offset < ends[place]:
                    buffer.add(row, heard)
                    count += 1
                self._next[place] = min(row.offset + 1, ends[place])
                if self._next[place] >= ends[place]:
                    open_ones.discard(place)
            if time.monotonic() - heard > _QUIET_SECONDS:
                unread = counted(len(open_ones), "partition is", "partitions are")
                raise RetryLater(f"Kafka gave nothing for {_QUIET_SECONDS:.0f} s, and {unread} not read")
            if buffer.is_whole() or (not open_ones and buffer.rows):
                self._store(buffer)
                say(count)
        while buffer.rows:
            self._store(buffer)
        return count

    def close(self) -> None:
        """End threads and connections."""
        self._consumer.close()
        self._storing.close()

    def _low(self, place: Place) -> int:
        if place not in self._oldest:
            self._oldest[place] = self._consumer.get_watermark_offsets(TopicPartition(*place), timeout=30)[0]
        return self._oldest[place]

    def _store(self, buffer: Buffer) -> None:
        batch = self._storing.store(buffer.take(0.0), time.monotonic())
        batch.wait(float("1e9"))
        batch.check()
