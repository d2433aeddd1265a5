"""Policies in every worker: read to the end before the worker joins, then followed."""

from __future__ import annotations

import logging

from deploytrail_schemas.policies import document
from deploytrail_schemas.policies.document import Document
from deploytrail_schemas.policies.topic import Messages, PolicyTopic
from deploytrail_schemas.settings import Settings

from deploytrail_processors.rules.policies import KINDS, PolicySet

log = logging.getLogger(__name__)


class PolicyReader:
    """The policies of the topic. `policies` is replaced whole, never changed in place."""

    def __init__(self, settings: Settings) -> None:
        self._topic = PolicyTopic(settings, self._learn)
        self.policies = PolicySet()

    def read_to_end(self, timeout: float = 30.0) -> PolicySet:
        """Every document there is now; RetryLater where Kafka does not answer in time."""
        self._topic.read_to_end(timeout)
        return self.policies

    def follow(self) -> None:
        """Keep reading in the background until `close`."""
        self._topic.follow()

    def close(self) -> None:
        """Stop following."""
        self._topic.close()

    def _learn(self, messages: Messages) -> None:
        found = [parse_document(key, value) for key, value in messages]
        for one in found:
            if one.spec is None:
                problems = "; ".join(map(str, one.problems))
                log.error("the policy %s is invalid, its rule fails closed: %s", one.key, problems)
        self.policies = self.policies.with_documents(found)


def parse_document(key: bytes | None, value: bytes) -> Document:
    """The document of a message; one that is no JSON is an invalid document of the name in its key."""
    return document.parse(key, value, KINDS)
