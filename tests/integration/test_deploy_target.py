"""The environment that a CI system deploys to: it stands in, and it is compared with what is reported."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.gateways import gateway
from support.spool import command, environment, stored

DRONE = {"CI": "true", "DRONE": "true", "DRONE_REPO": "shop/checkout", "DRONE_BUILD_NUMBER": "42"}


def _env(spool: Path, **settings: str) -> dict[str, str]:
    env = environment(spool, **DRONE, **settings)
    del env["DEPLOYTRAIL_ENVIRONMENT"]
    return env


def _told(events: list[dict[str, Any]]) -> list[tuple[str, str, str]]:
    return [(e["event_type"], e["environment"], e["raw_status"]) for e in events]


@pytest.mark.requirement("M2.4")
def test_the_deploy_target_stands_in_where_no_environment_is_given(tmp_path: Path) -> None:
    done = command("run", "--", "true", env=_env(tmp_path, DRONE_DEPLOY_TO="staging"))
    events = stored(tmp_path)

    assert (done.returncode, done.stderr) == (0, "")
    assert _told(events) == [("started", "staging", ""), ("succeeded", "staging", "")]
    assert {(e["build_system"], e["build_id"]) for e in events} == {("drone", "shop/checkout/42")}


@pytest.mark.requirement("M2.4")
def test_what_is_said_wins_over_the_target_and_a_mismatch_is_a_warning_event_that_names_both(tmp_path: Path) -> None:
    env = _env(tmp_path, DRONE_DEPLOY_TO="staging")
    done = command("run", "--environment", "production", "--tag", "sprint=42", "--", "true", env=env)
    started, warning, succeeded = stored(tmp_path)

    assert done.returncode == 0
    assert _told([started, warning, succeeded]) == [
        ("started", "production", ""),
        ("progressed", "production", "environment_mismatch"),
        ("succeeded", "production", ""),
    ]
    assert (
        warning["error"]
        == "environment mismatch: the deployment says 'production', the deploy target of drone is 'staging'"
    )
    assert warning["tags"] == {"sprint": "42", "deploy_target": "staging"}
    assert warning["deployment_id"] == started["deployment_id"]
    assert done.stderr.count("the deploy target of drone is 'staging'") == 1


@pytest.mark.requirement("M2.4")
@pytest.mark.parametrize("said", ["prod", "Production", "prod-east"])
def test_another_name_of_the_same_environment_raises_no_alarm(tmp_path: Path, said: str) -> None:
    done = command("run", "--environment", said, "--", "true", env=_env(tmp_path, DRONE_DEPLOY_TO="production"))

    assert done.stderr == ""
    assert _told(stored(tmp_path)) == [("started", said, ""), ("succeeded", said, "")]


@pytest.mark.requirement("M2.4")
def test_the_tier_of_a_gitlab_environment_agrees_too(tmp_path: Path) -> None:
    gitlab = {"GITLAB_CI": "true", "CI_ENVIRONMENT_NAME": "eu-shop", "CI_ENVIRONMENT_TIER": "production"}
    done = command("run", "--environment", "production", "--", "true", env=environment(tmp_path, **gitlab))

    assert (done.returncode, done.stderr) == (0, "")
    assert len(stored(tmp_path)) == 2


@pytest.mark.requirement("M2.4")
def test_the_warning_is_delivered_as_the_other_events_are(tmp_path: Path) -> None:
    with gateway() as there:
        env = _env(tmp_path, DRONE_DEPLOY_TO="staging", DEPLOYTRAIL_URL=there.url)
        command("start", "--environment", "production", "--wait", "20", env=env)

    assert [(e["event_type"], e.get("raw_status", "")) for e in there.events] == [
        ("started", ""),
        ("progressed", "environment_mismatch"),
    ]


@pytest.mark.requirement("M2.4")
def test_without_any_environment_the_command_asks_for_one(tmp_path: Path) -> None:
    done = command("start", env=_env(tmp_path))

    assert done.returncode == 64
    assert "which environment?" in done.stderr
