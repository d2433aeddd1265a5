"""Topics on brokers that are slower than anybody waits."""

from __future__ import annotations

from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest
from deploytrail_schemas.errors import RetryLater
from deploytrail_schemas.settings import Settings
from deploytrail_schemas.topics import ensure_topics


class Slow:
    """Takes every request for a topic, and never says that it is made."""

    def list_topics(self, timeout: float) -> Any:
        return SimpleNamespace(topics={})

    def create_topics(self, topics: list[Any], **_: object) -> dict[str, Future[None]]:
        return {topic.topic: Future() for topic in topics}


def test_a_broker_that_does_not_make_a_topic_in_time_is_tried_again_later() -> None:
    with pytest.raises(RetryLater, match=r"deploytrail\.\w+ was not created within 0\.1 s"):
        ensure_topics(Slow(), Settings(), timeout=0.1)  # type: ignore[arg-type]
