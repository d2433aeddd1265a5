"""The agenda of a table: what is due comes once, in order, and takes no room for what was moved."""

from __future__ import annotations

from typing import Any

from deploytrail_processors.apps.base import SLICE, Agenda


def agenda(rows: dict[str, Any]) -> Agenda:
    return Agenda(rows, lambda row: row.get("due"))


def test_rows_come_in_order_of_their_time() -> None:
    rows = {"1/b": {"due": 20}, "1/a": {"due": 10}, "1/c": {"due": 30}, "2/other": {"due": 5}, "1/never": {}}

    assert [key for key, _ in agenda(rows).pop(1, 20)] == ["1/a", "1/b"]


def test_a_row_that_was_moved_comes_at_its_new_time_only() -> None:
    rows: dict[str, Any] = {}
    found = agenda(rows)
    for due in (10, 40, 30):
        rows["1/a"] = {"due": due}
        found.put(1, "1/a", rows["1/a"])

    assert list(found.pop(1, 29)) == []
    assert [key for key, _ in found.pop(1, 30)] == ["1/a"]
    assert list(found.pop(1, 99)) == []


def test_a_row_that_is_written_often_is_noted_once() -> None:
    rows: dict[str, Any] = {}
    found = agenda(rows)
    for due in range(1000):
        rows["1/a"] = {"due": due}
        found.put(1, "1/a", rows["1/a"])

    assert len(found._heaps[1]) == 1


def test_a_row_that_is_gone_does_not_come() -> None:
    rows = {"1/a": {"due": 1}}
    found = agenda(rows)
    list(found.pop(1, 0))
    del rows["1/a"]

    assert list(found.pop(1, 9)) == []


def test_much_that_is_due_comes_in_slices() -> None:
    rows = {f"1/{i:04}": {"due": i} for i in range(SLICE + 7)}
    found = agenda(rows)

    assert len(list(found.pop(1, 9999))) == SLICE
    assert len(list(found.pop(1, 9999))) == 7


def test_the_closing_tick_of_a_history_leaves_nothing_undecided() -> None:
    rows = {f"1/{i:04}": {"due": i} for i in range(3 * SLICE)}

    assert len(list(agenda(rows).pop_all(1, 9999))) == 3 * SLICE
