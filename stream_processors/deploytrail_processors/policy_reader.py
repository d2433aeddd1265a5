"""Policies in every worker: read to the end before the worker joins, then followed.

A plain reader without a group: every worker sees every document.
"""

from __future__ import annotations

import json
import logging
import threading

from confluent_kafka import Consumer, KafkaException, TopicPartition
from deploytrail_schemas.errors import RetryLater
from deploytrail_schemas.kafka import consumer_config
from deploytrail_schemas.settings import Settings
from deploytrail_schemas.topics import Topic

from deploytrail_processors.rules.policies import Document, PolicySet, Problem, read_document

log = logging.getLogger(__name__)


class PolicyReader:
    """The policies of the topic. `policies` is replaced whole, never changed in place."""

    def __init__(self, settings: Settings) -> None:
        # A group id is obligatory for the client, but nothing is ever committed to it.
        # What goes wrong is raised below; the client would tell it again at each attempt, 20 times a second.
        self._consumer = Consumer(consumer_config(settings, "deploytrail-policy-readers") | {"log_level": 0})
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._settings = settings
        self.policies = PolicySet()

    def read_to_end(self, timeout: float = 30.0) -> PolicySet:
        """Every document there is now; RetryLater where Kafka does not answer in time."""
        partition = TopicPartition(Topic.POLICIES.value, 0)
        try:
            low, end = self._consumer.get_watermark_offsets(partition, timeout=timeout)
        except KafkaException as error:
            raise RetryLater(
                f"the policies cannot be read from {self._settings.kafka}: {error.args[0].str()}"
            ) from error
        self._consumer.assign([TopicPartition(Topic.POLICIES.value, 0, low)])
        waited = 0.0
        while end > low and self._position(low) < end:
            # The topic is compacted: offsets have holes, so the position tells, not the last message.
            if not self._take(0.1):
                waited += 0.1
                if waited > timeout:
                    raise RetryLater(f"the policies were not read to their end within {timeout:.0f} s")
        return self.policies

    def follow(self) -> None:
        """Keep reading in the background until `close`."""
        self._thread = threading.Thread(target=self._run, name="policy-reader", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop following."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        self._consumer.close()

    def _run(self) -> None:
        while not self._stop.is_set():
            self._take(0.5)

    def _position(self, low: int) -> int:
        offset = self._consumer.position([TopicPartition(Topic.POLICIES.value, 0)])[0].offset
        return int(offset) if offset >= 0 else low

    def _take(self, timeout: float) -> bool:
        found: list[Document] = []
        messages = self._consumer.consume(500, timeout)
        for message in messages:
            value = message.value()
            if message.error() is None and value is not None:
                found.append(parse_document(message.key(), value))
        for document in found:
            if document.spec is None:
                problems = "; ".join(map(str, document.problems))
                log.error("the policy %s is invalid, its rule fails closed: %s", document.key, problems)
        if found:
            self.policies = self.policies.with_documents(found)
        return bool(messages)


def parse_document(key: bytes | None, value: bytes) -> Document:
    """The document of a message; one that is no JSON is an invalid document of the name in its key."""
    try:
        return read_document(json.loads(value))
    except ValueError as error:
        kind, _, rest = (key or b"").decode("utf-8", "replace").partition("/")
        name, _, version = rest.rpartition("/")
        number = int(version) if version.isdecimal() else 1
        return Document(kind, name, number, 0, None, (Problem("", f"no JSON: {error}"),))
