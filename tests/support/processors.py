"""An app's Context without Kafka and Faust: tables are dicts, what is forwarded is kept."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

from deploytrail_processors.rules.policies import Policies
from deploytrail_schemas.records import RecordType
from deploytrail_schemas.settings import Settings
from deploytrail_schemas.topics import Topic


class MemoryContext:
    """What an app asks of its Context; `now` is partition time."""

    def __init__(self, policies: Policies, settings: Settings = Settings()) -> None:  # noqa: B008  # frozen
        self.settings = settings
        self.now = 0
        self.tables: dict[str, dict[str, Any]] = {}
        self.forwarded: list[tuple[Topic, int, dict[str, Any]]] = []
        self._policies = policies

    def table(self, name: str) -> MutableMapping[str, Any]:
        return self.tables.setdefault(name, {})

    def policies_at(self, when: int) -> Policies:
        return self._policies

    def partition_time(self, partition: int) -> int:
        return self.now

    def forward(self, topic: Topic, partition: int, key: str, kind: RecordType, value: dict[str, Any]) -> None:
        self.forwarded.append((topic, partition, value))

    def standing(self) -> dict[tuple[str, str], dict[str, Any]]:
        """The newest finding of each signal and deployment."""
        return {(f["signal_id"], f["deployment_id"]): f for _, _, f in self.forwarded}
