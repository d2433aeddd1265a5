"""Federated records as rows of the table `federated_current`: JSON on the topic, so each is read here."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from deploytrail_schemas.codec import DecodeError
from deploytrail_schemas.instants import from_micros, parse_instant
from deploytrail_schemas.reasons import DeadLetterReason

from deploytrail_sinks.clickhouse.batches import Row

_TEXTS = (
    *("deployment_id", "state", "environment", "service", "tier", "team", "kind", "strategy", "parent_deployment_id"),
    *("part_of", "rollback_of", "rolled_back_by", "superseded_by", "version", "previous_version", "artifact_digest"),
    *("commit_sha", "repository", "build_system", "build_id", "build_url", "deployer", "change_ticket"),
    *("feature_ticket", "outcome_reason", "error", "provenance", "merged_into"),
)
_INSTANTS = ("recorded_at", "started_at", "finished_at", "last_event_at")
_NUMBERS = (
    *("revision", "started_at_uncertainty_ms", "finished_at_uncertainty_ms", "duration_ms"),
    *("duration_uncertainty_ms", "exit_code", "confidence"),
)
_LISTS = ("sources", "deployment_ids", "clusters", "decided_by")
_MAPS = ("regions", "conflicts", "claims")
COLUMNS = (
    *("kafka_partition", "kafka_offset", "kafka_timestamp"),
    *_TEXTS,
    *_INSTANTS,
    *_NUMBERS,
    *_LISTS,
    *_MAPS,
    "emergency",
)
_ALWAYS = ("recorded_at", "revision", "confidence")


def federated_rows(rows: tuple[Row, ...]) -> tuple[list[list[Any]], list[tuple[Row, DecodeError]]]:
    """The rows of records, columns as in COLUMNS; and the messages that hold none. Tombstones are left out."""
    found: list[list[Any]] = []
    wrong: list[tuple[Row, DecodeError]] = []
    for row in rows:
        if row.value is None:
            continue
        try:
            found.append(_row(row, json.loads(row.value)))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            detail = f"is no federated record: {type(error).__name__}: {error}"
            wrong.append((row, DecodeError(DeadLetterReason.MALFORMED, detail[:200])))
    return found, wrong


def _row(row: Row, record: dict[str, Any]) -> list[Any]:
    for name in _ALWAYS:
        if record[name] is None:
            raise ValueError(f"{name} is null")
    return [
        *(row.partition, row.offset, datetime.fromtimestamp(row.timestamp / 1000, UTC)),
        *(_text(record[name]) for name in _TEXTS),
        *(None if record[name] is None else from_micros(parse_instant(record[name])) for name in _INSTANTS),
        *(None if record[name] is None else _number(record[name]) for name in _NUMBERS),
        *([_text(item) for item in record[name]] for name in _LISTS),
        *({_text(key): _text(value) for key, value in record[name].items()} for name in _MAPS),
        bool(record["emergency"]),
    ]


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"expected text, not {value!r:.40}")
    return value


def _number(value: Any) -> int | float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not -(1 << 63) <= value < 1 << 63:
        raise TypeError(f"expected a number of 64 bits, not {value!r:.40}")
    return value
