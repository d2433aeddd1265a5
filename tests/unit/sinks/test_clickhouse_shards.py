"""Which shard a row goes to, and what is done about each error."""

from __future__ import annotations

import zlib
from typing import Any

import pytest
from deploytrail_schemas.codec import encode
from deploytrail_schemas.errors import ConfigurationError
from deploytrail_schemas.records import RecordType
from deploytrail_schemas.regions import RegionMap
from deploytrail_schemas.settings import Settings
from deploytrail_sinks.clickhouse.batches import Row
from deploytrail_sinks.clickhouse.failures import RESPONSES, Response, response_to
from deploytrail_sinks.clickhouse.shards import DEFAULT, Shards
from support.values import event

EU, US = "eu-west-1", "us-east-1"


def shards(text: str, url: str = "http://home:8123") -> Shards:
    return Shards.from_settings(Settings(clickhouse_url=url, clickhouse_shards=text))


def rows(*places: tuple[str, str]) -> list[Row]:
    found = []
    for offset, (region, service) in enumerate(places):
        value = encode(RecordType.DEPLOYMENT_EVENT, event("started", region=region, service=service))
        found.append(Row("deploytrail.events", 1, offset, 0, None, value, ()))
    return found


def test_one_clickhouse_takes_everything() -> None:
    made = shards("", "http://a:1, http://b:2/")
    some = rows((EU, "a"), ("mars", "b"))

    assert made.hosts == (("http://a:1", "http://b:2"),)
    assert made.split(1, some) == {DEFAULT: some}


@pytest.mark.requirement("M8.1")
def test_a_region_of_one_shard_goes_there_whole() -> None:
    made = shards(f"{EU}=http://eu1:1,http://eu2:1; {US}=http://us:1")
    partition = RegionMap.from_settings(Settings()).partition_of(EU)
    some = rows((EU, "a"), (EU, "b"))

    assert made.hosts[made.of(EU, "any")] == ("http://eu1:1", "http://eu2:1")
    assert made.split(partition, some) == {made.of(EU, ""): some}


@pytest.mark.requirement("M8.1")
def test_a_region_of_several_shards_is_spread_by_service() -> None:
    made = shards(f"{EU}=http://x:1|http://y:1|http://z:1")
    places = [(EU, f"service-{i}") for i in range(60)]
    partition = RegionMap.from_settings(Settings()).partition_of(EU)
    found = made.split(partition, rows(*places))

    assert sorted(row.offset for some in found.values() for row in some) == list(range(60))
    assert len(found) == 3
    for shard, some in found.items():
        assert {zlib.crc32(f"service-{row.offset}".encode()) % 3 for row in some} == {shard - 1}


@pytest.mark.requirement("M8.1")
@pytest.mark.parametrize("partition", [0, Settings().backfill_partition])
def test_a_partition_of_many_regions_is_split_row_by_row(partition: int) -> None:
    made = shards(f"{EU}=http://eu:1;{US}=http://us:1")
    some = [*rows((EU, "a"), (US, "a"), ("mars", "a"), (EU, "b")), Row("t", 0, 4, 0, None, b"junk", ())]
    found = made.split(partition, some)

    assert {made.hosts[shard]: [row.offset for row in rows] for shard, rows in found.items()} == {
        ("http://eu:1",): [0, 3],
        ("http://us:1",): [1],
        ("http://home:8123",): [2, 4],
    }


@pytest.mark.parametrize(
    "text", ["eu", "=http://a:1", "eu=", "eu=ftp://a", "eu=http://a:1;eu=http://b:1", "eu=http://"]
)
def test_settings_that_cannot_be_read_are_named(text: str) -> None:
    with pytest.raises(ConfigurationError, match="DEPLOYTRAIL_CLICKHOUSE_SHARDS has"):
        shards(text)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (117, Response.SPLIT),
        (252, Response.RETRY),
        (516, Response.STOP),
        (None, Response.RETRY),
        (9999, Response.RETRY),
    ],
)
def test_each_error_has_a_response(code: Any, expected: Response) -> None:
    assert response_to(code) is expected


def test_every_listed_error_says_why() -> None:
    assert all(len(reason) > 20 and ": " in reason for _, reason in RESPONSES.values())
