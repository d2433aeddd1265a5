"""Settings, regions, instants and ids."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from deploytrail_schemas.errors import ConfigurationError
from deploytrail_schemas.ids import finding_id, name_based_id, uuid7
from deploytrail_schemas.instants import format_instant, from_micros, parse_instant, to_micros
from deploytrail_schemas.kafka import client_config
from deploytrail_schemas.regions import RegionMap
from deploytrail_schemas.settings import Settings
from hypothesis import given
from hypothesis import strategies as st


def test_settings_come_from_the_environment() -> None:
    settings = Settings.load({"DEPLOYTRAIL_KAFKA": "k:1", "DEPLOYTRAIL_TICK_SECONDS": "0.5", "DEPLOYTRAIL_STATE": "/s"})

    assert (settings.kafka, settings.tick_seconds, settings.state) == ("k:1", 0.5, Path("/s"))


def test_the_end_of_the_line_of_a_file_is_no_part_of_a_setting() -> None:
    settings = Settings.load({"DEPLOYTRAIL_TOKEN": "dtk_x\n", "DEPLOYTRAIL_URL": "https://gateway\r\n"})

    assert (settings.token, settings.url) == ("dtk_x", "https://gateway")


def test_every_wrong_setting_is_named() -> None:
    with pytest.raises(ConfigurationError) as caught:
        Settings.load({"DEPLOYTRAIL_PARTITIONS": "many", "DEPLOYTRAIL_TICK_SECONDS": "nan"})

    assert "DEPLOYTRAIL_PARTITIONS is 'many'; expected a whole number" in str(caught.value)
    assert "DEPLOYTRAIL_TICK_SECONDS is 'nan'; expected a number" in str(caught.value)


def test_an_unknown_region_shares_partition_zero() -> None:
    regions = RegionMap.from_settings(Settings(regions="eu-west-1=1, us-east-1=3"))

    assert [regions.partition_of(r) for r in ("eu-west-1", "us-east-1", "mars")] == [1, 3, 0]
    assert regions.regions_of(3) == ["us-east-1"]


@pytest.mark.parametrize("text", ["eu-west-1", "a=x", "a=0", "a=16", "a=1,b=1", "a=15"])
def test_a_region_map_that_cannot_be_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="DEPLOYTRAIL_REGIONS"):
        RegionMap.from_settings(Settings(regions=text))


def test_client_settings_reach_the_client() -> None:
    config = client_config(Settings(kafka_client="security.protocol=SSL; ssl.ca.location=/ca.pem"))

    assert config["security.protocol"] == "SSL"
    assert config["ssl.ca.location"] == "/ca.pem"


@given(st.datetimes(datetime(2000, 1, 2), datetime(2099, 12, 30)), st.integers(-14 * 60, 14 * 60))
def test_instants_keep_their_microsecond(naive: datetime, offset_minutes: int) -> None:
    at = naive.replace(tzinfo=timezone(timedelta(minutes=offset_minutes)))

    assert from_micros(to_micros(at)) == at
    assert parse_instant(format_instant(to_micros(at))) == to_micros(at)


def test_naive_times_are_no_instants() -> None:
    with pytest.raises(ValueError, match="time zone"):
        to_micros(datetime(2026, 11, 2))


def test_instants_are_written_in_utc() -> None:
    at = datetime(2026, 11, 2, 13, tzinfo=timezone(timedelta(hours=1)))

    assert format_instant(to_micros(at)) == "2026-11-02T12:00:00.000000Z"
    assert from_micros(to_micros(at)).tzinfo is UTC


def test_event_ids_are_time_ordered_version_7() -> None:
    ids = [uuid7() for _ in range(1000)]
    parsed = [uuid.UUID(text) for text in ids]

    assert {(u.version, u.variant) for u in parsed} == {(7, uuid.RFC_4122)}
    assert len(set(ids)) == 1000
    assert [i[:13] for i in ids] == sorted(i[:13] for i in ids)


def test_name_based_ids_never_change() -> None:
    # Written down from the first release: webhook and poller, today and in ten years, must agree.
    assert name_based_id("github", "deployment_status", "1115122413") == "c06bf139-f3b5-5098-8e78-01d71dd6c682"
    assert finding_id("overdue", "shop-1") == "288df221-982d-5521-af46-f3dd28c6c60e"


def test_name_based_ids_do_not_run_parts_together() -> None:
    assert name_based_id("a", "bc") != name_based_id("ab", "c")
