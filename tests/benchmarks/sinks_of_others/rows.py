"""What the sinks of others share here: messages to columns, and an insert, by fastavro and clickhouse-connect."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path

import clickhouse_connect
import fastavro

SCHEMA = json.loads(Path(os.environ["BENCH_SCHEMA"]).read_text())
TABLE, URL = os.environ["BENCH_TABLE"], os.environ["BENCH_URL"]
_PARSED = fastavro.parse_schema(json.loads(json.dumps(SCHEMA).replace('"logicalType"', '"was"')))
NAMES = [field["name"] for field in SCHEMA["fields"]]
HEADER_BYTES = 10


def decode(value):
    """A message as a dict; instants as microseconds, which the client takes as they are."""
    return fastavro.schemaless_reader(io.BytesIO(value[HEADER_BYTES:]), _PARSED)


def client():
    """A client of the engine."""
    host, _, port = URL.removeprefix("http://").partition(":")
    return clickhouse_connect.get_client(host=host, port=int(port), autogenerate_session_id=False, compress=False)


def insert(to, rows):
    """Insert (partition, offset, timestamp in ms, dict) by columns."""
    places = [list(column) for column in zip(*((p, o, t) for p, o, t, _ in rows), strict=True)]
    values = [row[3] for row in rows]
    columns = [*places, *([value[name] for value in values] for name in NAMES)]
    names = ["kafka_partition", "kafka_offset", "kafka_timestamp", *NAMES]
    to.insert(TABLE, columns, names, column_oriented=True, settings={"async_insert": 0})
