"""Rows of a table in the order of their time, by partition, so that nobody reads all to find those of an hour."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, MutableMapping
from typing import Any

from deploytrail_processors.apps.context import rows_of


class Timeline:
    """The keys of rows by (time, key), made anew from the table once it was recovered.

    `when`: the time of a row, which must not change while it is there.
    """

    def __init__(self, table: MutableMapping[str, Any], when: Callable[[Any], int]) -> None:
        self._table, self._when = table, when
        self._order: dict[int, list[tuple[int, str]]] = {}

    def forget(self) -> None:
        """Make it anew from the table at the next use."""
        self._order.clear()

    def put(self, partition: int, key: str, row: Any) -> None:
        """A row was written."""
        order, place = self._of(partition), (self._when(row), key)
        at = bisect_left(order, place)
        if order[at : at + 1] != [place]:
            insort(order, place)

    def remove(self, partition: int, key: str, row: Any) -> None:
        """A row was, or is about to be, taken away."""
        order, place = self._of(partition), (self._when(row), key)
        at = bisect_left(order, place)
        if order[at : at + 1] == [place]:
            del order[at]

    def between(self, partition: int, begin: int, end: int | None = None) -> list[tuple[str, Any]]:
        """Keys and rows from `begin` on, and before `end`, in their order."""
        order = self._of(partition)
        first = bisect_left(order, (begin,))
        last = len(order) if end is None else bisect_left(order, (end,))
        rows = ((key, self._table.get(key)) for _, key in order[first:last])
        return [(key, row) for key, row in rows if row is not None]

    def _of(self, partition: int) -> list[tuple[int, str]]:
        if partition not in self._order:
            self._order[partition] = sorted((self._when(row), key) for key, row in rows_of(self._table, partition))
        return self._order[partition]
