"""The trail told again to fresh handlers, in memory: what the apps would have written, and what they have.

Joins no group and writes nothing. Each partition is a world of its own, so they are replayed one after the other, and
only the outputs are kept: of each deployment the newest revision, and all findings.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import Consumer, Message, TopicPartition
from deploytrail_schemas import headers
from deploytrail_schemas.codec import DecodeError, decode, encode
from deploytrail_schemas.errors import RetryLater
from deploytrail_schemas.kafka import consumer_config
from deploytrail_schemas.records import RecordType
from deploytrail_schemas.settings import Settings
from deploytrail_schemas.topics import Topic

from deploytrail_processors.apps.base import Handler, MemoryContext
from deploytrail_processors.rules.policies import PolicySet

log = logging.getLogger(__name__)
MakeHandler = Callable[[Any], Handler]
Value = dict[str, Any]
_BATCH = 2000
_PATIENCE = 30.0


@dataclass
class Outputs:
    """What an app writes on one partition, as a reader of the topics sees it in the end."""

    records: dict[str, Value] = field(default_factory=dict)
    findings: dict[str, Value] = field(default_factory=dict)

    def take(self, kind: RecordType, value: Value) -> None:
        """Something was written; what is written again counts once."""
        if kind is RecordType.RECORD:
            known = self.records.get(value["deployment_id"])
            if known is None or value["revision"] >= known["revision"]:
                self.records[value["deployment_id"]] = value
        elif kind is RecordType.FINDING:
            self.findings[value["finding_id"]] = value

    def as_on_the_wire(self) -> None:
        """Give what would have been written every field that it has once it is read from a topic."""
        for kind, values in ((RecordType.RECORD, self.records), (RecordType.FINDING, self.findings)):
            for name, value in values.items():
                values[name] = decode(encode(kind, value))[1]

    def standing(self) -> dict[str, Value]:
        """The findings that none other supersedes, by id."""
        replaced = {found.get("supersedes", "") for found in self.findings.values()}
        return {name: found for name, found in self.findings.items() if name not in replaced}


@dataclass
class Replayed:
    """One partition told again: how much of it, how long that took, and what each app made of it."""

    partition: int
    begin: int
    end: int
    outputs: dict[str, Outputs]
    records: int = 0
    seconds: float = 0.0
    failed: list[str] = field(default_factory=list)


class Replay:
    """Handlers of apps, by name, over policies. `until`: the offset before which each app stops, by partition."""

    def __init__(
        self,
        settings: Settings,
        makers: Mapping[str, MakeHandler],
        policies: PolicySet,
        until: Mapping[str, Mapping[int, int]],
    ) -> None:
        self._settings = settings
        self._makers = makers
        self._policies = policies
        self._until = until

    def told(self, partition: int) -> Replayed:
        """Tell a partition of the trail to fresh handlers. RetryLater where Kafka does not answer."""
        end = max((self._until[name].get(partition, 0) for name in self._makers), default=0)
        apps = [_App(name, make, self, partition) for name, make in self._makers.items()]
        found = Replayed(partition, -1, end, {app.name: app.outputs for app in apps})
        began = time.perf_counter()
        for message in read_partition(self._settings, Topic.EVENTS, partition, end):
            offset = message.offset() or 0
            if found.begin < 0:
                found.begin = offset
            try:
                kind, value = decode(message.value() or b"")
            except DecodeError:
                continue  # a dead letter, as it was then
            found.records += kind is not RecordType.TICK
            for app in apps:
                if offset < app.until:
                    try:
                        app.context.handle(app.handler, partition, kind, value)
                    except Exception as error:  # live, such a record goes to the dead letters and the stream goes on
                        log.debug("%s failed on %s:%s", app.name, partition, offset, exc_info=True)
                        found.failed.append(
                            f"{app.name} failed on {Topic.EVENTS.value}:{partition}:{offset}: {error!r}"
                        )
        found.seconds = time.perf_counter() - began
        for outputs in found.outputs.values():
            outputs.as_on_the_wire()
        return found

    def written(self, partition: int) -> dict[str, Outputs]:
        """What stands on the topics of a partition, of each app up to where it was replayed.

        Outputs name the trail record that they follow from. Those that name none were written by something else.
        """
        found = {name: Outputs() for name in self._makers}
        for topic in (Topic.RECORDS, Topic.FINDINGS):
            for message in read_partition(self._settings, topic, partition):
                name, of, offset = cause_of(message)
                if name in found and of == partition and offset < self._until[name].get(partition, 0):
                    found[name].take(*decode(message.value() or b""))
        return found

    @property
    def settings(self) -> Settings:
        """Of the handlers."""
        return self._settings

    @property
    def policies(self) -> PolicySet:
        """By which the handlers judge."""
        return self._policies

    def until(self, name: str, partition: int) -> int:
        """The offset before which an app stops."""
        return self._until[name].get(partition, 0)


class _App:
    """A handler with a fresh state."""

    def __init__(self, name: str, make: MakeHandler, replay: Replay, partition: int) -> None:
        self.name = name
        self.outputs = Outputs()
        self.until = replay.until(name, partition)
        self.context = MemoryContext(name, replay.settings, replay.policies, self._take)
        self.context.keep_time()
        self.handler = make(self.context)

    def _take(self, _: Topic, __: int, ___: str, kind: RecordType, value: Value) -> None:
        self.outputs.take(kind, value)


def cause_of(message: Message) -> tuple[str, int, int]:
    """The app that wrote an output, and the trail's partition and offset on which it did; ("", -1, -1) for others."""
    said = dict(message.headers() or []).get(headers.CAUSE)
    name, _, place = (said.decode("ascii", "replace") if isinstance(said, bytes) else "").partition(":")
    partition, _, offset = place.partition(":")
    if not (partition.isdecimal() and offset.isdecimal()):
        return "", -1, -1
    return name, int(partition), int(offset)


def read_partition(settings: Settings, topic: Topic, partition: int, end: int | None = None) -> Iterator[Message]:
    """The messages of a partition from its beginning up to `end`, or to where it ends now.

    Joins no group. RetryLater where Kafka does not answer for 30 s.
    """
    config = consumer_config(settings, f"deploytrail-replay-{uuid.uuid4()}")
    with closing(Consumer(config | {"log_level": 0, "fetch.queue.backoff.ms": 5})) as consumer:
        first, last = consumer.get_watermark_offsets(TopicPartition(topic.value, partition), timeout=_PATIENCE)
        end = last if end is None else min(end, last)
        consumer.assign([TopicPartition(topic.value, partition, first)])
        position, heard = first, time.monotonic()
        while position < end:
            messages = consumer.consume(_BATCH, 0.2)
            for message in messages:
                if (error := message.error()) is not None:
                    if not error.retriable():
                        raise RetryLater(f"{topic.value}:{partition} cannot be read: {error.str()}")
                    continue
                position = (message.offset() or 0) + 1
                if position > end:
                    return
                yield message
            if messages:
                heard = time.monotonic()
            elif time.monotonic() - heard > _PATIENCE:
                raise RetryLater(f"{topic.value}:{partition} was read to {position} of {end}, and nothing more comes")
            else:  # what was compacted, or is a mark of a transaction, is passed over
                known = consumer.position([TopicPartition(topic.value, partition)])[0].offset
                position = max(position, known)
