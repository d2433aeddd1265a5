"""Settings become the environment of children, and come back the same."""

from __future__ import annotations

from pathlib import Path

from deploytrail_local.stack import recordable
from deploytrail_local.stack_plan import effective_settings, environment_of, pinned_names, without_settings
from deploytrail_local.stack_ports import NAMES
from deploytrail_schemas.settings import Settings

HOME = Path("/srv/shop/.deploytrail")
PORTS = {name: 20_000 + number for number, name in enumerate(NAMES)}


def test_environment_gives_the_settings_back() -> None:
    settings = Settings(kafka="127.0.0.1:1", tick_seconds=0.5, state=Path("/s"), oncall_url="http://127.0.0.1:2/x")

    assert Settings.load(environment_of(settings)) == settings


def test_environment_holds_only_what_differs() -> None:
    assert environment_of(Settings(gateway_port=9)) == {"DEPLOYTRAIL_GATEWAY_PORT": "9"}


def test_variables_that_are_set_are_known() -> None:
    environ = {"DEPLOYTRAIL_KAFKA": "127.0.0.1:9092", "DEPLOYTRAIL_URL": "", "HOME": "/root"}

    assert pinned_names(environ) == {"kafka"}


def test_children_see_no_settings_of_the_caller() -> None:
    assert without_settings({"DEPLOYTRAIL_KAFKA": "prod:9092", "PATH": "/bin"}) == {"PATH": "/bin"}


def test_clients_get_real_ports_and_absolute_folders() -> None:
    found = effective_settings(HOME, Settings(), PORTS)

    assert (found.kafka, found.clickhouse_url) == ("127.0.0.1:20000", "http://127.0.0.1:20002")
    assert (found.gateway_port, found.url) == (20003, "http://127.0.0.1:20003")
    assert (found.archive, found.state) == (f"file:{HOME}/archive", HOME / "state")


def test_folders_that_were_set_are_kept() -> None:
    found = effective_settings(HOME, Settings(archive="file:/mnt/worm", state=Path("/var/state")), PORTS)

    assert (found.archive, found.state) == ("file:/mnt/worm", Path("/var/state"))


def test_no_secret_is_recorded() -> None:
    settings = Settings(token="t", clickhouse_password="p", webhook_secrets="github=s")

    assert recordable(settings) == {}
