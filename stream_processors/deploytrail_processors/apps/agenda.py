"""When rows of a table are due, by partition."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, MutableMapping
from typing import Any

from deploytrail_processors.apps.context import rows_of

# Of what is due at one tick, so much is done at once; the rest waits for the next record.
SLICE = 500


class Agenda:
    """When rows of a table are due, by partition; rebuilt from the table when it was recovered.

    A row has one note however often it is written: one that became due later is noted again when
    its old time comes.
    """

    def __init__(self, table: MutableMapping[str, Any], due: Callable[[Any], int | None]) -> None:
        self._table, self._due = table, due
        self._heaps: dict[int, list[tuple[int, str]]] = {}
        self._noted: dict[int, dict[str, int]] = {}

    def forget(self) -> None:
        """Rebuild from the table at the next use."""
        self._heaps.clear()
        self._noted.clear()

    def put(self, partition: int, key: str, row: Any) -> None:
        """A row was written: note when it is due."""
        self._heap(partition)
        self._note(partition, key, self._due(row))

    def pop(self, partition: int, now: int) -> Iterator[tuple[str, Any]]:
        """Rows that are due at `now`, in order of their due time, at most a slice."""
        heap = self._heap(partition)
        noted = self._noted[partition]
        for _ in range(SLICE):
            if not heap or heap[0][0] > now:
                return
            at, key = heapq.heappop(heap)
            if noted.get(key) != at:
                continue  # noted again for an earlier time
            del noted[key]
            row = self._table.get(key)
            due = self._due(row) if row is not None else None
            if due is not None and due > now:
                self._note(partition, key, due)
            elif due is not None:
                yield key, row

    def pop_all(self, partition: int, now: int) -> Iterator[tuple[str, Any]]:
        """Every row that is due at `now`, each once, also those that fall due while others are handled."""
        seen: set[str] = set()
        while batch := [(key, row) for key, row in self.pop(partition, now) if key not in seen]:
            seen.update(key for key, _ in batch)
            yield from batch

    def _note(self, partition: int, key: str, at: int | None) -> None:
        noted = self._noted[partition]
        if at is not None and at < noted.get(key, at + 1):
            noted[key] = at
            heapq.heappush(self._heaps[partition], (at, key))

    def _heap(self, partition: int) -> list[tuple[int, str]]:
        if partition not in self._heaps:
            self._heaps[partition], self._noted[partition] = [], {}
            for key, row in rows_of(self._table, partition):
                self._note(partition, key, self._due(row))
        return self._heaps[partition]
