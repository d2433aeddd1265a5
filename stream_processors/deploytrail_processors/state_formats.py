"""The format of each app's state, and how one that changed is built anew.

An app of another format is another Faust app: its consumer group and its changelogs bear the format's number
(`deploytrail-lifecycle-v2`). So rows of two formats never meet. The new group begins where the trail begins, fills
fresh tables, and keeps quiet up to the offsets that the former format's group has committed: what lies before them was
answered, since offsets are committed behind the delivered outputs. From there on it answers.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from concurrent.futures import wait
from contextlib import suppress
from functools import lru_cache
from typing import TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]  # re-exported without __all__
from deploytrail_schemas.errors import RetryLater
from deploytrail_schemas.kafka import client_config, consumer_config
from deploytrail_schemas.settings import Settings
from deploytrail_schemas.topics import Topic

log = logging.getLogger(__name__)
# Raise an app's number whenever its rows hold something else, or mean something else; 1 where none stands here.
STATE_FORMATS: dict[str, int] = {
    **dict.fromkeys(("lifecycle", "suppression", "approval", "impact"), 4),
    **dict.fromkeys(("change_window", "rollback_verification", "reconciliation"), 5),
    **dict.fromkeys(("correlation", "success_criteria", "governance", "overdue"), 6),
}
# Revisions of a rebuilt state count from here on, times the format: never below those that stand on the topic.
REVISIONS = 1_000_000
_TIMEOUT = 15.0
# How long a broker is waited for that answers, but has not yet taken over what it leads: at its start it syncs a file
# for each partition, and already tells clients that it leads them. Seconds on a slow disk.
_STARTING = 60.0
_NOT_YET = {
    KafkaError.UNKNOWN_LEADER_EPOCH,
    KafkaError.FENCED_LEADER_EPOCH,
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.NOT_COORDINATOR,
}
_Answer = TypeVar("_Answer")


def state_format(name: str) -> int:
    """The format of an app's state, from 1."""
    return STATE_FORMATS.get(name, 1)


def group_of(name: str, number: int) -> str:
    """The consumer group of an app with a state of this format, as Faust calls it."""
    return f"deploytrail-{name}" if number == 1 else f"deploytrail-{name}-v{number}"


class Predecessor:
    """The group of the newest earlier format that has read a topic; none for an app whose format never changed."""

    def __init__(self, settings: Settings, name: str, topic: Topic) -> None:
        self._topic = topic
        self._groups = [group_of(name, number) for number in range(state_format(name) - 1, 0, -1)]
        self._settings = settings

    def answered(self) -> dict[int, int]:
        """By partition, the offset before which everything was answered. RetryLater where Kafka does not tell."""
        for group in self._groups:
            found = committed(self._settings, group, self._topic)
            if found:
                first = first_offsets(self._settings, self._topic)
                # What is not there any more cannot be read again.
                return {partition: offset for partition, offset in found.items() if offset > first.get(partition, 0)}
        return {}

    def wait_until_gone(self, ended: Callable[[], bool] = lambda: False) -> None:
        """Return once no worker of an earlier format is left, or `ended` says so.

        For an app whose outputs are no findings that follow from their cause, but the trail itself.
        """
        said = False
        while not ended() and (members := sum(self._members(group) for group in self._groups)):
            if not said:
                log.warning("waiting for %d worker(s) of %s to stop: their state has another format",
                            members, " and ".join(self._groups))  # fmt: skip
                said = True
            time.sleep(1.0)

    def _members(self, group: str) -> int:
        def ask(admin: AdminClient) -> int:
            [found] = admin.describe_consumer_groups([group], request_timeout=_TIMEOUT).values()
            return len(found.result(_TIMEOUT).members)

        return _asked(self._settings, ask, f"who is in the group {group}") or 0


def committed(settings: Settings, group: str, topic: Topic) -> dict[int, int]:
    """The offsets that a group has committed, by partition; empty for a group that never did."""

    # Not by an AdminClient: librdkafka 2.16 looks for the consumer of its group when a coordinator answers that it is
    # not, or not yet, one (`rd_kafka_handle_OffsetFetch`); an AdminClient has none, and the process ends there.
    consumer = Consumer(consumer_config(settings, group) | {"log_level": 0})

    def ask(_: AdminClient) -> dict[int, int]:
        asked = [TopicPartition(topic.value, partition) for partition in range(settings.partitions)]
        found = consumer.committed(asked, timeout=_TIMEOUT / 3)
        for partition in found:
            if partition.error is not None:
                raise KafkaException(partition.error)
        return {partition.partition: partition.offset for partition in found if partition.offset >= 0}

    try:
        return _asked(settings, ask, f"how far the group {group} has read") or {}
    finally:
        consumer.close()


def first_offsets(settings: Settings, topic: Topic) -> Mapping[int, int]:
    """The offset of the oldest message of each partition."""
    return _offsets(settings, topic, OffsetSpec.earliest())  # type: ignore[no-untyped-call]


def end_offsets(settings: Settings, topic: Topic) -> Mapping[int, int]:
    """The offset behind the newest message of each partition."""
    return _offsets(settings, topic, OffsetSpec.latest())  # type: ignore[no-untyped-call]


def offsets_at(settings: Settings, topic: Topic, at_ms: int) -> Mapping[int, int]:
    """The offset of the first message of each partition from a time on; its end where there is none."""
    found, ends = _offsets(settings, topic, OffsetSpec.for_timestamp(at_ms)), end_offsets(settings, topic)
    return {partition: offset if offset >= 0 else ends[partition] for partition, offset in found.items()}


def _offsets(settings: Settings, topic: Topic, spec: OffsetSpec) -> dict[int, int]:
    def ask(admin: AdminClient) -> dict[int, int]:
        asked = {TopicPartition(topic.value, partition): spec for partition in range(settings.partitions)}
        found = admin.list_offsets(asked, request_timeout=_TIMEOUT)
        wait(found.values(), _TIMEOUT)  # all of them, before one that failed is told: they are answered in one go
        return {partition.partition: future.result(_TIMEOUT).offset for partition, future in found.items()}

    return _asked(settings, ask, f"the offsets of {topic.value}") or {}


def _asked(settings: Settings, ask: Callable[[AdminClient], _Answer], what: str) -> _Answer | None:
    """What Kafka answers; None about a group that does not exist. RetryLater where it does not answer in time.

    A broker that has just started answers for a while that it knows nothing yet, in many words.
    """
    admin = _admin(settings)
    began = time.monotonic()
    while True:
        try:
            return ask(admin)
        except (KafkaException, TimeoutError) as error:
            code = error.args[0].code() if isinstance(error, KafkaException) else None
            if code == KafkaError.GROUP_ID_NOT_FOUND:
                return None
            if time.monotonic() - began > (_STARTING if code in _NOT_YET else _TIMEOUT):
                raise RetryLater(f"Kafka does not tell {what}: {error or 'no answer'}") from error
        with suppress(KafkaException):  # a client that remembers leaders of before a restart is refused for good
            admin.list_topics(timeout=_TIMEOUT)
        time.sleep(0.2)


@lru_cache(maxsize=8)
def _admin(settings: Settings) -> AdminClient:
    # Kept: a new one for each question would find the brokers anew each time.
    return AdminClient(client_config(settings) | {"log_level": 0})
