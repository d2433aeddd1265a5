"""The policies that sinks act on, as they were at an instant."""

from __future__ import annotations

import logging

from deploytrail_schemas.policies import SHARED, document
from deploytrail_schemas.policies.in_force import InForce, Versions
from deploytrail_schemas.policies.topic import Messages, PolicyTopic
from deploytrail_schemas.settings import Settings

log = logging.getLogger(__name__)


class Policies:
    """The policies of the topic, of the kinds that sinks know: read to the end by `start`, then followed."""

    def __init__(self, settings: Settings) -> None:
        self._topic = PolicyTopic(settings, self._learn)
        self._versions = Versions()

    def start(self) -> None:
        """Read all that there is, and follow what comes. RetryLater where Kafka does not answer."""
        self._topic.read_to_end()
        self._topic.follow()

    def close(self) -> None:
        """Stop following."""
        self._topic.close()

    def at(self, when: int) -> InForce:
        """The policies in force at an instant, microseconds."""
        return self._versions.at(when)

    def _learn(self, messages: Messages) -> None:
        found = [document.parse(key, value, SHARED) for key, value in messages]
        known = [one for one in found if one.kind in SHARED]
        for one in known:
            if one.spec is None:
                problems = "; ".join(map(str, one.problems))
                log.error("the policy %s is invalid and passed over: %s", one.key, problems)
        # Replaced whole: who asks meanwhile has the ones before.
        self._versions = self._versions.with_documents(known)
