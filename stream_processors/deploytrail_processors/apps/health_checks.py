"""Health checks of services, kept for as long as verdicts look back: a row for each check, found by place and time."""

from __future__ import annotations

from typing import Any

from deploytrail_processors.apps.base import Agenda, Context, Row, rows_of
from deploytrail_processors.rules.success_criteria import MINUTE

# A baseline, a deployment, and what is looked at behind it.
KEEP_HEALTH = 10 * 60 * MINUTE
# So much of a place's time is looked up at once.
_SPAN = 2 * MINUTE


class HealthChecks:
    """A table of checks by place, span and id. Each writes a row of its own: one row for all of a span would be
    written as often as checks come, and be as large as they are many."""

    def __init__(self, context: Context) -> None:
        self._rows = context.table("health")
        self._old = Agenda(self._rows, lambda row: row["at"] + KEEP_HEALTH)
        self._keys: dict[int, dict[str, set[str]]] = {}  # by partition and span of a place

    def on_recovered(self) -> None:
        """The table was read anew."""
        self._old.forget()
        self._keys.clear()

    def add(self, partition: int, place: str, seen: Row) -> None:
        """Keep a check of a place, by its `at` (µs) and `id`."""
        span = _span(place, seen["at"])
        key = f"{span}/{seen['id']}"
        self._spans(partition).setdefault(span, set()).add(key)
        self._rows[key] = seen
        self._old.put(partition, key, seen)

    def between(self, partition: int, place: str, begin: int, until: int) -> list[Row]:
        """The checks of a place in the spans of two times, by time and id, whatever order they came in."""
        spans = self._spans(partition)
        keys = (
            key for at in range(begin // _SPAN, until // _SPAN + 1) for key in spans.get(_span(place, at * _SPAN), ())
        )
        return sorted((self._rows[key] for key in keys), key=lambda seen: (seen["at"], seen["id"]))

    def forget_old(self, partition: int, now: int) -> None:
        """Drop what no verdict looks at any more."""
        spans = self._spans(partition)
        for key, seen in list(self._old.pop(partition, now)):
            self._rows.pop(key, None)
            span = _span_in(key, seen)
            spans[span].discard(key)
            if not spans[span]:
                del spans[span]

    def _spans(self, partition: int) -> dict[str, set[str]]:
        if partition not in self._keys:
            found: dict[str, set[str]] = {}
            for key, seen in rows_of(self._rows, partition):
                found.setdefault(_span_in(key, seen), set()).add(key)
            self._keys[partition] = found
        return self._keys[partition]


def _span(place: str, at: int) -> str:
    return f"{place}/{at // _SPAN}"


def _span_in(key: str, seen: Row) -> str:
    """The span in a row's key; an id may have a slash of its own."""
    return key.removesuffix(f"/{seen['id']}")


def seen_of(check: dict[str, Any]) -> Row:
    """What is kept of a check."""
    series = "/".join((check["source"], check["fingerprint"] or check["title"]))
    return {
        "at": check["corrected_at"],
        "width": (check["uncertainty_ms"] or 0) * 1000,
        "id": check["signal_id"],
        "series": series,
        "healthy": check["healthy"],
        "value": check["value"],
    }
