"""What CI systems tell of one deployment, by several kinds of webhooks, in any order, more than once, stays one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from deploytrail import adapters
from deploytrail.adapters.base import Defaults, environment_of, says_deploy
from deploytrail_schemas.records import RecordType
from support.golden import FOLDER, NOON, adapted, cases


def _accepted() -> list[Path]:
    """The cases of those sources that are written here and give records."""
    sources = ("azure_devops", "bitbucket", "buildkite", "circleci", "github", "jenkins")
    mine = [path for path in cases() if path.parent.name in sources]
    return [path for path in mine if {"payload", "records"} <= json.loads(path.read_text("utf-8")).keys()]


def _records(source: str, case: str) -> list[tuple[RecordType, dict[str, Any]]]:
    read = json.loads((FOLDER / source / f"{case}.json").read_text("utf-8"))
    return list(adapted(source, read, read["payload"]).records)


def _deployments(source: str, *names: str) -> set[str]:
    return {value["deployment_id"] for name in names for _, value in _records(source, name)}


@pytest.mark.requirement("M2.1", "M3.3")
def test_deployment_status_job_and_protection_rule_of_github_are_of_one_deployment() -> None:
    told = ("deployment", "deployment_status_of_a_run", "workflow_job_in_progress", "deployment_protection_rule")

    assert _deployments("github", *told) == {"github:api.github.com:5"}


@pytest.mark.requirement("M2.1", "M3.3")
def test_deployment_job_and_pipeline_events_of_gitlab_are_of_one_deployment() -> None:
    assert _deployments("gitlab", "deployment_failed", "job_failed", "job_running") == {
        "gitlab:gitlab.acme.example:4410"
    }
    assert set(_ids("gitlab", "job_running")) < set(_ids("gitlab", "pipeline_of_two_deployments"))


def _ids(source: str, case: str) -> list[tuple[str, str]]:
    return [(value["deployment_id"], value["event_id"]) for _, value in _records(source, case)]


@pytest.mark.requirement("M2.1")
def test_approvals_of_azure_name_the_deployment_that_they_let_through() -> None:
    assert _deployments("azure_devops", "release_approval_approved") == _deployments(
        "azure_devops", "release_deployment_started"
    )
    assert _deployments("azure_devops", "stage_approval_rejected") == _deployments("azure_devops", "stage_running")


def test_both_ends_of_a_jenkins_build_are_one_event() -> None:
    assert _ids("jenkins", "completed") == _ids("jenkins", "finalized_is_the_same_end")


@pytest.mark.requirement("M3.3")
@pytest.mark.parametrize("path", _accepted(), ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_delivery_that_comes_again_a_day_later_gives_the_same_ids(path: Path) -> None:
    case = json.loads(path.read_text("utf-8"))
    source, url = adapters.load(path.parent.name), Defaults(**case.get("url", {}))
    first, again = (
        [
            value[kind.id_field]
            for kind, value in source.adapt(case["payload"], case.get("headers", {}), url, at).records
        ]
        for at in (NOON, NOON + 86_400_000_000)
    )

    assert first == again
    assert len(set(first)) == len(first)


def test_a_feature_flag_of_gitlab_is_known_by_the_key_of_its_delivery() -> None:
    flag = json.loads((FOLDER / "gitlab/feature_flag_off.json").read_text("utf-8"))
    source, url = adapters.load("gitlab"), Defaults(**flag["url"])
    changes = [
        source.adapt(flag["payload"], headers, url, at).records[0][1]["deployment_id"]
        for headers, at in (
            ({"idempotency-key": "a"}, NOON),
            ({"idempotency-key": "a"}, NOON + 100_000_000),
            ({"idempotency-key": "b"}, NOON + 100_000_000),
        )
    ]

    assert changes[0] == changes[1] != changes[2]


@pytest.mark.parametrize(
    "name", ["deploy", "Deploy to production", "pre-deployment", "autoDeploy", "roll out", "rollback-eu", "PROMOTE"]
)
def test_names_say_that_something_is_deployed(name: str) -> None:
    assert says_deploy("", name)


@pytest.mark.parametrize("name", ["", "build", "test", "lint and publish docs", "release notes"])
def test_other_names_do_not(name: str) -> None:
    assert not says_deploy(name)


@pytest.mark.parametrize(
    ("name", "of_url", "environment"),
    [
        ("deploy-production", "", "production"),
        ("Deploy to prod", "prod-eu", "prod-eu"),
        ("deploy_staging", "production", "staging"),
        ("deployPROD", "", "production"),
        ("deploy to pre-prod", "production", "preproduction"),
        ("deploy", "qa", "qa"),
        ("deploy staging and production", "edge", "edge"),
        ("deploy the product", "", ""),
    ],
)
def test_the_environment_in_a_name_is_found(name: str, of_url: str, environment: str) -> None:
    assert environment_of(name, of_url) == environment
