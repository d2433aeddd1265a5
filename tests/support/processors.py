"""An app's context in memory, as tests of the apps use it: `now` is partition time, what is forwarded is kept."""

from __future__ import annotations

from typing import Any

from deploytrail_processors.apps.base import MemoryContext as ProductContext
from deploytrail_processors.rules.policies import Policies, PolicySet
from deploytrail_schemas.records import RecordType
from deploytrail_schemas.settings import Settings
from deploytrail_schemas.topics import Topic


class MemoryContext(ProductContext):
    """The product's context in memory with policies that hold at every time."""

    def __init__(self, policies: Policies, settings: Settings = Settings()) -> None:  # noqa: B008  # frozen
        super().__init__("test", settings, PolicySet(), self._keep)
        self.now = 0
        self.forwarded: list[tuple[Topic, int, dict[str, Any]]] = []
        self._held = policies

    def _keep(self, topic: Topic, partition: int, _: str, __: RecordType, value: dict[str, Any]) -> None:
        self.forwarded.append((topic, partition, value))

    def policies_at(self, when: int) -> Policies:
        return self._held

    def partition_time(self, partition: int) -> int:
        return self.now

    def standing(self) -> dict[tuple[str, str], dict[str, Any]]:
        """The newest finding of each signal and deployment."""
        return {(f["signal_id"], f["deployment_id"]): f for _, _, f in self.forwarded}
