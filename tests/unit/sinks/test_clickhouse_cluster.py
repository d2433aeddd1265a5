"""Every migration has a form for a cluster."""

from __future__ import annotations

import re

import pytest
from deploytrail_schemas.errors import ConfigurationError
from deploytrail_schemas.settings import Settings
from deploytrail_sinks.clickhouse.cluster import Statement, for_cluster
from deploytrail_sinks.clickhouse.migrate import Migration, migrations
from deploytrail_sinks.clickhouse.rebuild import rebuild

TABLES = frozenset({"signals", "totals"})


def texts(statement: str) -> list[str]:
    return [made.text for made in for_cluster(statement, "c", TABLES)]


@pytest.mark.requirement("M8.1")
@pytest.mark.parametrize("migration", migrations(), ids=lambda m: m.name)
def test_every_statement_of_every_migration_has_a_form_for_a_cluster(migration: Migration) -> None:
    for statement in migration.statements("d", "prod"):
        assert statement.on_each_shard or " ON CLUSTER 'prod'" in statement.text
        assert not re.search(r"ENGINE = (Replacing|Summing|Aggregating)?MergeTree", statement.text)
        assert "non_replicated" not in statement.text


def test_a_table_becomes_a_replicated_one_and_one_in_front_of_it() -> None:
    assert texts(
        "-- why\nCREATE TABLE IF NOT EXISTS d.signals\n(\n    `service` String\n)\nENGINE = ReplacingMergeTree(n)\n"
        "ORDER BY service\nSETTINGS non_replicated_deduplication_window = 9\nCOMMENT 'It\\'s all; of it'"
    ) == [
        "CREATE TABLE IF NOT EXISTS d.signals_local ON CLUSTER 'c'\n(\n    `service` String\n)\n"
        "ENGINE = ReplicatedReplacingMergeTree('/clickhouse/tables/{uuid}/{shard}', '{replica}', n)\n"
        "ORDER BY service\nSETTINGS replicated_deduplication_window = 9\nCOMMENT 'It\\'s all; of it'",
        "CREATE TABLE IF NOT EXISTS d.signals ON CLUSTER 'c' AS d.signals_local\n"
        "ENGINE = Distributed('c', 'd', 'signals_local', CRC32(service))\nCOMMENT 'It\\'s all; of it'",
    ]


def test_a_materialized_view_stays_within_its_shard() -> None:
    assert texts("CREATE MATERIALIZED VIEW IF NOT EXISTS d.feed TO d.totals\nAS SELECT * FROM d.signals") == [
        "CREATE MATERIALIZED VIEW IF NOT EXISTS d.feed ON CLUSTER 'c' TO d.totals_local\n"
        "AS SELECT * FROM d.signals_local"
    ]


@pytest.mark.parametrize("how", ["CREATE VIEW IF NOT EXISTS", "CREATE OR REPLACE VIEW", "CREATE VIEW"])
def test_a_view_asks_every_shard(how: str) -> None:
    assert texts(f"{how} d.v AS SELECT * FROM d.signals WHERE a = {{a:String}}") == [
        f"{how} d.v ON CLUSTER 'c' AS SELECT * FROM d.signals WHERE a = {{a:String}}"
    ]


def test_rows_are_moved_on_each_shard_by_itself() -> None:
    assert for_cluster("INSERT INTO d.totals SELECT * FROM d.signals", "c", TABLES) == [
        Statement("INSERT INTO d.totals_local SELECT * FROM d.signals_local", on_each_shard=True)
    ]


def test_drops_and_changes_reach_both_tables() -> None:
    assert texts("DROP TABLE IF EXISTS d.totals") == [
        "DROP TABLE IF EXISTS d.totals ON CLUSTER 'c' SYNC",
        "DROP TABLE IF EXISTS d.totals_local ON CLUSTER 'c' SYNC",
    ]
    assert texts("DROP VIEW IF EXISTS d.v") == ["DROP VIEW IF EXISTS d.v ON CLUSTER 'c' SYNC"]
    assert texts("ALTER TABLE d.signals ADD COLUMN IF NOT EXISTS x Int8") == [
        "ALTER TABLE d.signals_local ON CLUSTER 'c' ADD COLUMN IF NOT EXISTS x Int8",
        "ALTER TABLE d.signals ON CLUSTER 'c' ADD COLUMN IF NOT EXISTS x Int8",
    ]
    assert texts("ALTER TABLE d.signals ADD PROJECTION p (SELECT a)") == [
        "ALTER TABLE d.signals_local ON CLUSTER 'c' ADD PROJECTION p (SELECT a)"
    ]


def test_what_has_no_form_is_said() -> None:
    with pytest.raises(ConfigurationError, match=r"no form for a cluster: 'TRUNCATE TABLE d\.signals'"):
        texts("TRUNCATE TABLE d.signals")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"clickhouse_cluster": "c"}, "cannot swap the replicated tables of a cluster"),
        ({"clickhouse_shards": "eu=http://127.0.0.1:1,http://127.0.0.1:2"}, "one URL a shard"),
    ],
)
def test_a_rebuild_that_cannot_swap_is_refused_before_anything_is_asked(given: dict[str, str], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        rebuild(Settings(clickhouse_url="http://127.0.0.1:1", **given))  # type: ignore[arg-type]  # texts
