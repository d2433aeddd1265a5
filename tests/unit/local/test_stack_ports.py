"""Ports are those of the settings, else those of the last run, else free ones."""

from __future__ import annotations

import pytest
from deploytrail_local.stack_ports import NAMES, choose_ports
from deploytrail_schemas.errors import ConfigurationError
from deploytrail_schemas.settings import Settings


def all_free(_: int) -> bool:
    return True


def test_every_part_gets_a_port_of_its_own() -> None:
    chosen = choose_ports(Settings(), (), {}, all_free)

    assert set(chosen) == set(NAMES)
    assert len(set(chosen.values())) == len(NAMES)


def test_free_ports_lie_below_those_that_systems_give_to_clients() -> None:
    chosen = choose_ports(Settings(), (), {}, all_free)

    assert all(20_000 <= port < 32_000 for port in chosen.values())


def test_ports_of_the_last_run_are_used_again() -> None:
    first = choose_ports(Settings(), (), {}, all_free)

    assert choose_ports(Settings(), (), first, all_free) == first


def test_port_of_the_last_run_that_is_taken_is_replaced() -> None:
    first = choose_ports(Settings(), (), {}, all_free)
    second = choose_ports(Settings(), (), first, lambda port: port != first["kafka"])

    assert second["kafka"] != first["kafka"]
    assert {name: port for name, port in second.items() if name != "kafka"} == {
        name: port for name, port in first.items() if name != "kafka"
    }


def test_ports_of_the_settings_are_taken() -> None:
    settings = Settings(kafka="localhost:19092", clickhouse_url="http://127.0.0.1:18123", gateway_port=18470)
    chosen = choose_ports(settings, {"kafka", "clickhouse_url", "gateway_port"}, {"kafka": 20_001}, all_free)

    assert (chosen["kafka"], chosen["clickhouse"], chosen["gateway"]) == (19092, 18123, 18470)


def test_default_that_nobody_set_is_no_wish() -> None:
    chosen = choose_ports(Settings(), (), {}, all_free)

    assert chosen["gateway"] != Settings().gateway_port


@pytest.mark.parametrize(
    ("name", "settings", "variable"),
    [
        ("kafka", Settings(kafka="127.0.0.1:19092"), "DEPLOYTRAIL_KAFKA"),
        ("clickhouse_url", Settings(clickhouse_url="http://127.0.0.1:19092"), "DEPLOYTRAIL_CLICKHOUSE_URL"),
        ("gateway_port", Settings(gateway_port=19092), "DEPLOYTRAIL_GATEWAY_PORT"),
    ],
)
def test_taken_port_of_a_setting_is_named_with_its_variable(name: str, settings: Settings, variable: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"port 19092 .* in use .* {variable}"):
        choose_ports(settings, {name}, {}, lambda port: port != 19092)


@pytest.mark.parametrize(
    "settings",
    [
        Settings(kafka="kafka.example.org:9092"),
        Settings(kafka="127.0.0.1:9092,127.0.0.1:9093"),
        Settings(kafka="127.0.0.1"),
        Settings(clickhouse_url="https://127.0.0.1:8443"),
        Settings(clickhouse_url="http://clickhouse:8123"),
    ],
)
def test_address_of_another_machine_is_refused(settings: Settings) -> None:
    pinned = {name for name in ("kafka", "clickhouse_url") if getattr(settings, name) != getattr(Settings(), name)}

    with pytest.raises(ConfigurationError, match=r"the embedded stack runs its own on 127\.0\.0\.1"):
        choose_ports(settings, pinned, {}, all_free)
