"""The metrics of the pollers, in one list."""

from __future__ import annotations

from prometheus_client import Counter, Gauge

ROUNDS = Counter(
    "deploytrail_poll_rounds_total", "Rounds of a project by outcome: done, failed, slowed_down.", ["source", "outcome"]
)
PUBLISHED = Counter("deploytrail_poll_records_total", "Records that were found and published.", ["source"])
UNREADABLE = Counter("deploytrail_poll_unreadable_total", "Things that the adapter could not read.", ["source"])
REACHED = Gauge("deploytrail_poll_reached_seconds", "When a round last was done, seconds since the epoch.", ["source"])
REMAINING = Gauge("deploytrail_poll_requests_remaining", "Requests that the API still grants, by its word.", ["source"])
