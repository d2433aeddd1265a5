"""Tables of Faust whose rows go to their changelogs the way in which outputs go to their topics.

Faust sends each row by itself through aiokafka, which was half of what an app cost and much of what the broker did.
"""

from __future__ import annotations

import json
from functools import cached_property
from typing import Any

import faust
from deploytrail_schemas.errors import DeploytrailError

from deploytrail_processors.forwarder import Forwarder

# Byte for byte what Faust's own codec writes: a key in other bytes would be another row to compaction.
_encode = json.JSONEncoder(check_circular=False, separators=(",", ":")).encode

# Bytes of JSON: what a changelog takes (`deploytrail_schemas.topics`) also where nothing of it can be compressed.
LARGEST_ROW = 1 << 20


class RowTooLarge(DeploytrailError):
    """A row that its changelog would refuse: set the record aside. The row is as it was before."""


class Table(faust.Table[str, Any]):
    """Keys are text, values are JSON. `Forwarder.barrier` waits for its rows; it must be changed in a stream.

    RowTooLarge before a row is changed to one of more than `LARGEST_ROW`: the broker would refuse it behind the scenes,
    nothing could be committed any more, and each start would come to the same record.
    """

    @property
    def _forwarder(self) -> Forwarder:
        forwarder: Forwarder = self.app.forwarder  # type: ignore[attr-defined]  # a SafeApp has one
        return forwarder

    @cached_property
    def _changelog(self) -> str:
        return self.changelog_topic.get_topic_name()

    def on_key_set(self, key: str, value: Any) -> None:
        """A row is about to change."""
        row = _encode(value).encode()
        if len(row) > LARGEST_ROW:
            raise RowTooLarge(f"{self.name}: a row of {len(row)} bytes; at most {LARGEST_ROW} are kept")
        self._write(key, row)

    def on_key_del(self, key: str) -> None:
        """A row is about to go."""
        self._write(key, None)

    def _write(self, key: str, value: bytes | None) -> None:
        partition = self.partition_for_key(key)
        if partition is None:  # would be the hash's partition, which need not be this worker's
            raise TypeError(f"{self.name}: rows of this table follow the record they come from")
        self._forwarder.row(self._changelog, partition, _encode(key).encode(), value)
