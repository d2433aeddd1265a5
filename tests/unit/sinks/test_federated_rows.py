"""Federated records as rows."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from functools import reduce
from typing import Any

import pytest
from deploytrail_processors.apps.federation import document
from deploytrail_processors.rules.federation import claim_of, federated, new_known, take
from deploytrail_schemas.errors import ConfigurationError
from deploytrail_schemas.reasons import DeadLetterReason
from deploytrail_schemas.settings import Settings
from deploytrail_sinks.clickhouse.batches import Row
from deploytrail_sinks.clickhouse.federated_rows import COLUMNS, federated_rows
from deploytrail_sinks.clickhouse.migrate import migrations
from deploytrail_sinks.clickhouse.sink import group_of, topics_of
from support.values import MINUTE, NOON, record

pytestmark = pytest.mark.requirement("M8.2")


def written() -> dict[str, Any]:
    """A record as the federation app writes it."""
    claims = [
        claim_of("eu", 1, record("succeeded", started_at=NOON, finished_at=NOON + MINUTE, exit_code=0)),
        claim_of("us", 1, record("lost", started_at=NOON)),
    ]
    return document(federated(reduce(take, claims, new_known("shop-1"))))


def row(value: Any) -> Row:
    data = value if value is None or isinstance(value, bytes) else json.dumps(value).encode()
    return Row("deploytrail.federated", 3, 7, NOON // 1000, b"shop-1", data, ())


def test_a_federated_record_becomes_a_row_with_every_field() -> None:
    [found], wrong = federated_rows((row(written()),))
    named = dict(zip(COLUMNS, found, strict=True))

    assert wrong == []
    assert set(COLUMNS) == {"kafka_partition", "kafka_offset", "kafka_timestamp", *written()}
    assert (named["kafka_partition"], named["kafka_offset"]) == (3, 7)
    assert named["finished_at"] == datetime(2026, 11, 2, 12, 1, tzinfo=UTC)
    assert named["duration_ms"] is None  # nobody claims how long it took
    assert named["clusters"] == ["eu", "us"]
    assert named["conflicts"] == {"state": "succeeded counts, by eu/eu-west-1; us/eu-west-1 says lost"}


def test_the_table_has_these_columns() -> None:
    [migration] = [m for m in migrations() if m.name == "0300_federation.sql"]

    assert set(re.findall(r"^    `(\w+)`", migration.text, re.MULTILINE)) == set(COLUMNS)


@pytest.mark.parametrize(
    "value",
    [
        b"{",
        b"\xff",
        [],
        {},
        written() | {"revision": None},
        written() | {"revision": 1 << 63},
        written() | {"recorded_at": "yesterday"},
        written() | {"regions": ["eu"]},
        written() | {"state": 7},
    ],
)
def test_what_is_no_federated_record_is_set_aside_and_the_others_are_kept(value: Any) -> None:
    rows, wrong = federated_rows((row(value), row(None), row(written())))

    assert len(rows) == 1
    assert [error.reason for _, error in wrong] == [DeadLetterReason.MALFORMED]


def test_the_sink_reads_its_own_cluster_or_what_a_mirror_brings_of_another() -> None:
    eu = Settings(mirrored_cluster="eu")

    assert "deploytrail.federated" in topics_of(Settings())
    assert topics_of(eu) == [
        "eu.deploytrail.events",
        "eu.deploytrail.records",
        "eu.deploytrail.findings",
        "eu.deploytrail.dead-letters",
        "eu.deploytrail.policies",
    ]
    assert group_of(Settings()) == "deploytrail-sink-clickhouse"
    assert group_of(eu) == "deploytrail-sink-clickhouse-eu"
    with pytest.raises(ConfigurationError, match="DEPLOYTRAIL_MIRRORED_CLUSTER"):
        topics_of(Settings(mirrored_cluster="e u"))
