"""Policy documents as rows of the table `policies`: JSON on the topic, so each is read here.

A document that is no JSON object, or names no instant, is set aside: processors keep such a one as
invalid and fail closed; a question about owners must not take it for an answer.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from deploytrail_schemas.codec import DecodeError
from deploytrail_schemas.instants import from_micros, parse_instant
from deploytrail_schemas.reasons import DeadLetterReason

from deploytrail_sinks.clickhouse.batches import Row

COLUMNS = ("kafka_partition", "kafka_offset", "kafka_timestamp", "kind", "name", "version", "effective_from", "spec")


def policy_rows(rows: tuple[Row, ...]) -> tuple[list[list[Any]], list[tuple[Row, DecodeError]]]:
    """The rows of documents, columns as in COLUMNS; and the messages that hold none. Tombstones are left out."""
    found: list[list[Any]] = []
    wrong: list[tuple[Row, DecodeError]] = []
    for row in rows:
        if row.value is None:
            continue
        try:
            found.append(_row(row, row.value))
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            detail = f"is no policy document: {type(error).__name__}: {error}"
            wrong.append((row, DecodeError(DeadLetterReason.MALFORMED, detail[:200])))
    return found, wrong


def _row(row: Row, value: bytes) -> list[Any]:
    document = json.loads(value)
    if not isinstance(document, dict):
        raise TypeError("expected an object")
    since, spec = document.get("effective_from"), document["spec"]
    if not isinstance(spec, dict):
        raise TypeError("spec is no object")
    version = int(document.get("version", 1))
    if not 0 < version < 1 << 63:
        raise ValueError(f"version is {version}")
    return [
        row.partition,
        row.offset,
        datetime.fromtimestamp(row.timestamp / 1000, UTC),
        str(document["kind"]),
        str(document["name"]),
        version,
        from_micros(0 if since is None else parse_instant(since)),
        json.dumps(spec, sort_keys=True, ensure_ascii=False),
    ]
