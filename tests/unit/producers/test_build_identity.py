"""Build identity from the environments of CI systems."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from deploytrail._build_identity import agree, read, targets, without_credentials
from deploytrail._build_identity.overrides import FIELDS as OVERRIDABLE
from deploytrail._build_identity.systems import SYSTEMS
from deploytrail._event import build
from deploytrail_schemas.settings import Settings, variable

# The published cases' tags, and the field of ours that holds the same.
FIELDS = {
    "ci.provider.name": "build_system",
    "ci.pipeline.id": "build_id",
    "ci.pipeline.number": "build_number",
    "ci.pipeline.url": "build_url",
    "ci.pipeline.name": "pipeline",
    "ci.job.name": "job",
    "ci.stage.name": "stage",
    "git.commit.sha": "commit_sha",
    "git.repository_url": "repository",
    "git.tag": "ref",
    "git.branch": "ref",
}
# Tags that no field of an event holds. `ci.job.url` is compared where a case has no `ci.pipeline.url`.
WITHOUT_FIELD = {
    "_dd.ci.env_vars": "variables repeated for the links of that vendor's pages",
    "ci.job.id": "an event names the build; of its jobs it keeps the name",
    "ci.job.url": "build_url is the URL of the build, of which the job is a part",
    "ci.node.labels": "the machine that ran the job says nothing of the deployment",
    "ci.node.name": "the machine that ran the job says nothing of the deployment",
    "ci.pipeline.display_name": "pipeline holds the stable name",
    "ci.workspace_path": "a path on a runner that is gone when somebody reads the event",
    "git.commit.author.date": "an author is no deployer; the commit leads to it",
    "git.commit.author.email": "an author is no deployer; the commit leads to it",
    "git.commit.author.name": "an author is no deployer; the commit leads to it",
    "git.commit.committer.date": "the tag committed_at says it, where the CI system does",
    "git.commit.committer.email": "a committer is no deployer; the commit leads to it",
    "git.commit.committer.name": "a committer is no deployer; the commit leads to it",
    "git.commit.message": "the commit leads to it",
    "git.commit.head.sha": "commit_sha is the commit that was built",
    "git.pull_request.base_branch": "what is deployed is the commit, not the pull request",
    "git.pull_request.base_branch_sha": "what is deployed is the commit, not the pull request",
    "git.pull_request.base_branch_head_sha": "what is deployed is the commit, not the pull request",
    "pr.number": "what is deployed is the commit, not the pull request",
}
OUR_NAMES = {
    "appveyor": "appveyor",
    "awscodepipeline": "aws_codepipeline",
    "azurepipelines": "azure_pipelines",
    "bitbucket": "bitbucket_pipelines",
    "bitrise": "bitrise",
    "buddy": "buddy",
    "buildkite": "buildkite",
    "circleci": "circleci",
    "codefresh": "codefresh",
    "drone": "drone",
    "github": "github_actions",
    "gitlab": "gitlab_ci",
    "jenkins": "jenkins",
    "teamcity": "teamcity",
    "travisci": "travis_ci",
}
# Every case in which a field is not what its tag says: (file, number of the case, tag) and why.
EXPLAINED: dict[tuple[str, int, str], str] = {}


def _published(shared: Path) -> list[tuple[str, int, dict[str, str], dict[str, str]]]:
    files = sorted((shared / "fixtures/ci-env").glob("*.json"))
    assert len(files) == 16
    return [
        (file.stem, number, {name: str(value) for name, value in given.items()}, tags)
        for file in files
        for number, (given, tags) in enumerate(json.loads(file.read_text()))
    ]


def _expected(tags: dict[str, str]) -> dict[str, str]:
    expected = {tag: text for tag, text in tags.items() if tag in FIELDS}
    if "ci.provider.name" in expected:
        expected["ci.provider.name"] = OUR_NAMES[expected["ci.provider.name"]]
    if "ci.job.url" in tags and "ci.pipeline.url" not in tags:
        expected["ci.pipeline.url"] = tags["ci.job.url"]
    return expected


@pytest.mark.requirement("M2.1")
def test_identity_is_read_in_every_published_case(shared: Path) -> None:
    cases = _published(shared)
    hits, misses = 0, {}
    for system, number, environ, tags in cases:
        event = build({"deployment_id": "d"}, read(environ))
        for tag, text in _expected(tags).items():
            # An event has one ref: the tag. The branch that it was made from is kept among the tags.
            beside = tag == "git.branch" and "git.tag" in tags and tags["git.tag"] != text
            found = event.get("tags", {}).get("branch") if beside else event.get(FIELDS[tag])
            if found == text:
                hits += 1
            else:
                misses[system, number, tag] = (text, found)
    total = hits + len(misses)
    clean = len(cases) - len({(system, number) for system, number, _ in misses})
    print(f"build identity: {hits} of {total} fields ({hits / total:.2%}), {clean} of {len(cases)} cases")  # noqa: T201  # shown by pytest -rP

    assert len(cases) == 317
    assert misses.keys() == EXPLAINED.keys(), misses
    assert total > 2000
    assert clean / len(cases) >= 0.99


def test_every_tag_of_the_published_cases_is_compared_or_has_no_field_for_a_reason(shared: Path) -> None:
    used = {tag for _, _, _, tags in _published(shared) for tag in tags}

    assert used == FIELDS.keys() | WITHOUT_FIELD.keys()


@pytest.mark.requirement("M2.1")
def test_more_than_fifteen_systems_are_known() -> None:
    names = {system.name for system in SYSTEMS}

    assert len(names) >= 25, names
    assert set(OUR_NAMES.values()) <= names


# What each of the other systems sets, and what of it reaches an event.
OTHERS: dict[str, tuple[dict[str, str], dict[str, str]]] = {
    "woodpecker": (
        {
            "CI": "woodpecker",
            "DRONE": "true",
            "CI_REPO": "shop/checkout",
            "CI_REPO_CLONE_URL": "https://bot:secret@git.example.com/shop/checkout.git",
            "CI_PIPELINE_NUMBER": "12",
            "CI_PIPELINE_URL": "https://ci.example.com/repos/7/pipeline/12",
            "CI_PIPELINE_EVENT": "deployment",
            "CI_PIPELINE_AUTHOR": "mona",
            "CI_COMMIT_SHA": "c0ffee",
            "CI_COMMIT_BRANCH": "main",
            "CI_WORKFLOW_NAME": "deploy",
            "CI_STEP_NAME": "roll-out",
        },
        {
            "build_id": "shop/checkout/12",
            "build_number": "12",
            "build_url": "https://ci.example.com/repos/7/pipeline/12",
            "commit_sha": "c0ffee",
            "repository": "https://git.example.com/shop/checkout.git",
            "ref": "main",
            "pipeline": "shop/checkout",
            "job": "roll-out",
            "stage": "deploy",
            "deployer": "mona",
            "deployer_type": "person",
        },
    ),
    "harness": (
        {
            "CI": "true",
            "DRONE": "true",
            "HARNESS_BUILD_ID": "41",
            "HARNESS_EXECUTION_ID": "x9",
            "HARNESS_PIPELINE_ID": "checkout",
            "HARNESS_STAGE_ID": "deploy",
            "DRONE_COMMIT_SHA": "c0ffee",
            "DRONE_COMMIT_BRANCH": "main",
            "DRONE_BUILD_TRIGGER": "@hook",
        },
        {
            "build_id": "x9",
            "build_number": "41",
            "commit_sha": "c0ffee",
            "ref": "main",
            "pipeline": "checkout",
            "stage": "deploy",
            "deployer": "@hook",
            "deployer_type": "automation",
        },
    ),
    "semaphore": (
        {
            "SEMAPHORE": "true",
            "SEMAPHORE_WORKFLOW_ID": "w1",
            "SEMAPHORE_WORKFLOW_NUMBER": "42",
            "SEMAPHORE_ORGANIZATION_URL": "https://shop.semaphoreci.com",
            "SEMAPHORE_GIT_SHA": "c0ffee",
            "SEMAPHORE_GIT_URL": "http://git@github.com:shop/checkout.git",
            "SEMAPHORE_GIT_TAG_NAME": "v4.2.0",
            "SEMAPHORE_GIT_BRANCH": "main",
            "SEMAPHORE_PIPELINE_NAME": "production",
            "SEMAPHORE_BLOCK_NAME": "roll out",
            "SEMAPHORE_JOB_NAME": "helm",
            "SEMAPHORE_PIPELINE_PROMOTED_BY": "auto-promotion",
            "SEMAPHORE_WORKFLOW_TRIGGERED_BY": "mona",
        },
        {
            "build_id": "w1",
            "build_number": "42",
            "build_url": "https://shop.semaphoreci.com/workflows/w1",
            "commit_sha": "c0ffee",
            "repository": "http://github.com:shop/checkout.git",
            "ref": "v4.2.0",
            "branch": "main",
            "pipeline": "production",
            "job": "helm",
            "stage": "roll out",
            "deployer": "auto-promotion",
            "deployer_type": "automation",
        },
    ),
    "gocd": (
        {
            "GO_SERVER_URL": "https://go.example.com/go",
            "GO_PIPELINE_NAME": "checkout",
            "GO_PIPELINE_COUNTER": "77",
            "GO_PIPELINE_LABEL": "4.2.77",
            "GO_STAGE_NAME": "deploy",
            "GO_STAGE_COUNTER": "2",
            "GO_JOB_NAME": "roll-out",
            "GO_TRIGGER_USER": "changes",
            "GO_REVISION": "c0ffee",
        },
        {
            "build_id": "checkout/77",
            "build_number": "4.2.77",
            "build_url": "https://go.example.com/go/pipelines/checkout/77/deploy/2",
            "commit_sha": "c0ffee",
            "pipeline": "checkout",
            "job": "roll-out",
            "stage": "deploy",
            "deployer": "changes",
            "deployer_type": "automation",
        },
    ),
    "bamboo": (
        {
            "bamboo_agentId": "3",
            "bamboo_buildResultKey": "SHOP-CHK-JOB1-9",
            "bamboo_buildNumber": "9",
            "bamboo_buildResultsUrl": "https://bamboo.example.com/browse/SHOP-CHK-JOB1-9",
            "bamboo_planName": "Shop - Checkout",
            "bamboo_shortJobName": "Deploy",
            "bamboo_planRepository_revision": "c0ffee",
            "bamboo_planRepository_repositoryUrl": "ssh://git@git.example.com/shop/checkout.git",
            "bamboo_planRepository_branchName": "main",
            "bamboo_ManualBuildTriggerReason_userName": "mona",
        },
        {
            "build_id": "SHOP-CHK-JOB1-9",
            "build_number": "9",
            "build_url": "https://bamboo.example.com/browse/SHOP-CHK-JOB1-9",
            "commit_sha": "c0ffee",
            "repository": "ssh://git.example.com/shop/checkout.git",
            "ref": "main",
            "pipeline": "Shop - Checkout",
            "job": "Deploy",
            "deployer": "mona",
            "deployer_type": "person",
        },
    ),
    "screwdriver": (
        {"SCREWDRIVER": "true", "SD_BUILD_ID": "5", "SD_BUILD_SHA": "c0ffee", "SD_PIPELINE_NAME": "shop/checkout"},
        {"build_id": "5", "commit_sha": "c0ffee", "pipeline": "shop/checkout"},
    ),
    "argo_workflows": (
        {"ARGO_WORKFLOW_NAME": "checkout-x7", "ARGO_WORKFLOW_UID": "u-1", "ARGO_NODE_ID": "checkout-x7-3"},
        {"build_id": "u-1", "job": "checkout-x7-3"},
    ),
    "google_cloud_build": (
        {
            "BUILD_ID": "b-1",
            "PROJECT_ID": "shop",
            "PROJECT_NUMBER": "123",
            "LOCATION": "europe-west1",
            "COMMIT_SHA": "c0ffee",
            "REPO_FULL_NAME": "shop/checkout",
            "BRANCH_NAME": "main",
            "TRIGGER_NAME": "deploy",
        },
        {
            "build_id": "b-1",
            "build_url": "https://console.cloud.google.com/cloud-build/builds;region=europe-west1/b-1?project=shop",
            "commit_sha": "c0ffee",
            "repository": "shop/checkout",
            "ref": "main",
            "pipeline": "deploy",
        },
    ),
    "aws_codebuild": (
        {
            "CODEBUILD_BUILD_ID": "checkout:b1",
            "CODEBUILD_BUILD_NUMBER": "8",
            "CODEBUILD_INITIATOR": "mona",
            "CODEBUILD_RESOLVED_SOURCE_VERSION": "c0ffee00" * 5,
            "CODEBUILD_SOURCE_REPO_URL": "https://github.com/shop/checkout.git",
            "CODEBUILD_WEBHOOK_HEAD_REF": "refs/heads/main",
        },
        {
            "build_id": "checkout:b1",
            "build_number": "8",
            "commit_sha": "c0ffee00" * 5,
            "repository": "https://github.com/shop/checkout.git",
            "ref": "main",
            "pipeline": "checkout",
            "deployer": "mona",
            "deployer_type": "person",
        },
    ),
    "gitea_actions": (
        {
            "GITHUB_ACTIONS": "true",
            "GITEA_ACTIONS": "true",
            "GITHUB_SERVER_URL": "https://git.example.com/",
            "GITHUB_REPOSITORY": "shop/checkout",
            "GITHUB_RUN_ID": "900",
            "GITHUB_RUN_NUMBER": "12",
            "GITHUB_SHA": "c0ffee",
            "GITHUB_REF": "refs/heads/main",
            "GITHUB_ACTOR": "mona",
        },
        {
            "build_id": "900",
            "build_number": "12",
            "build_url": "https://git.example.com/shop/checkout/actions/runs/12",
            "commit_sha": "c0ffee",
            "repository": "https://git.example.com/shop/checkout.git",
            "ref": "main",
            "deployer": "mona",
            "deployer_type": "person",
        },
    ),
}


@pytest.mark.requirement("M2.1")
@pytest.mark.parametrize("system", OTHERS)
def test_systems_without_a_published_case_are_read_by_their_documentation(system: str) -> None:
    environ, expected = OTHERS[system]

    assert read(environ) == {"build_system": system, **expected}


def test_every_system_is_tested_by_a_published_case_or_here() -> None:
    # Forgejo's runner is Gitea's, by another name.
    assert {s.name for s in SYSTEMS} == {*OUR_NAMES.values(), *OTHERS, "forgejo_actions"}


def test_a_source_that_is_no_repository_has_no_commit() -> None:
    found = read({"CODEBUILD_BUILD_ID": "p:1", "CODEBUILD_RESOLVED_SOURCE_VERSION": "xY3.version-of-an-object"})

    assert "commit_sha" not in found


@pytest.mark.requirement("M2.1")
def test_github_names_who_triggered_the_run() -> None:
    environ = {
        "GITHUB_ACTIONS": "true",
        "GITHUB_ACTOR": "mona",
        "GITHUB_TRIGGERING_ACTOR": "dependabot[bot]",
        "GITHUB_REF": "refs/tags/v4.2.0",
        "GITHUB_REPOSITORY": "shop/checkout",
        "GITHUB_RUN_ID": "77",
    }

    assert read(environ) == {
        "build_system": "github_actions",
        "build_id": "77",
        "build_url": "https://github.com/shop/checkout/actions/runs/77",
        "repository": "https://github.com/shop/checkout.git",
        "ref": "v4.2.0",
        "deployer": "dependabot[bot]",
        "deployer_type": "automation",
    }


@pytest.mark.requirement("M2.1")
def test_arguments_win_over_the_environment() -> None:
    event = build({"commit_sha": "mine", "deployment_id": "d"}, {"commit_sha": "theirs", "ref": "main"})

    assert (event["commit_sha"], event["ref"]) == ("mine", "main")


@pytest.mark.requirement("M2.1")
def test_what_the_user_set_wins_over_the_ci_system() -> None:
    theirs = {"GITLAB_CI": "true", "CI_COMMIT_SHA": "theirs", "CI_COMMIT_TAG": "v1", "CI_PIPELINE_ID": "7"}
    mine = {f"DEPLOYTRAIL_{field.upper()}": f"mine-{field}" for field in OVERRIDABLE}

    assert read(theirs | mine) == {field: f"mine-{field}" for field in OVERRIDABLE}
    assert read(theirs | {"DEPLOYTRAIL_REF": "main", "DD_GIT_TAG": "v2"})["ref"] == "main"
    assert read(theirs | {"DEPLOYTRAIL_COMMIT_SHA": "mine", "DD_GIT_COMMIT_SHA": "other"})["commit_sha"] == "mine"
    assert read({"DEPLOYTRAIL_BUILD_URL": "https://me:secret@ci/1"}) == {"build_url": "https://ci/1"}


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"GITLAB_CI": "true", "CI_COMMIT_TIMESTAMP": "2026-11-02T13:30:00+02:00"}, "2026-11-02T13:30:00+02:00"),
        ({"APPVEYOR": "True", "APPVEYOR_REPO_COMMIT_TIMESTAMP": "2026-11-02T11:30:00Z"}, "2026-11-02T11:30:00Z"),
        ({"DD_GIT_COMMIT_COMMITTER_DATE": "2026-11-02T11:30:00Z"}, "2026-11-02T11:30:00Z"),
        ({"DEPLOYTRAIL_COMMITTED_AT": "2026-11-02T11:30:00Z"}, "2026-11-02T11:30:00Z"),
    ],
)
def test_the_time_of_the_commit_is_a_tag_where_the_environment_says_it(environ: dict[str, str], expected: str) -> None:
    assert build({"deployment_id": "d"}, read(environ))["tags"] == {"committed_at": expected}


def test_the_time_of_a_commit_is_not_that_of_another_one() -> None:
    theirs = {"GITLAB_CI": "true", "CI_COMMIT_SHA": "theirs", "CI_COMMIT_TIMESTAMP": "2026-11-02T11:30:00Z"}
    mine = theirs | {"DEPLOYTRAIL_COMMIT_SHA": "mine"}

    assert "committed_at" not in read(mine)
    assert read(mine | {"DEPLOYTRAIL_COMMITTED_AT": "noon"})["committed_at"] == "noon"
    assert "tags" not in build({"deployment_id": "d", "commit_sha": "mine"}, read(theirs))
    assert build({"deployment_id": "d", "commit_sha": "theirs"}, read(theirs))["tags"].keys() == {"committed_at"}


def test_a_deployer_of_no_known_type_is_kept_as_said_and_breaks_nothing() -> None:
    event = build({"deployment_id": "d"}, read({"DEPLOYTRAIL_DEPLOYER": "r2", "DEPLOYTRAIL_DEPLOYER_TYPE": "robot"}))

    assert (event["deployer"], event["deployer_type"], event["tags"]) == ("r2", "unknown", {"deployer_type": "robot"})


def test_every_override_is_a_setting() -> None:
    assert {variable(name) for name in OVERRIDABLE} <= {variable(name) for name in Settings.__dataclass_fields__}


@pytest.mark.requirement("M2.1")
@pytest.mark.parametrize("off", ["false", "False", "0"])
def test_ci_false_switches_the_detection_off_and_leaves_what_the_user_set(off: str) -> None:
    environ = {"CI": off, "GITHUB_ACTIONS": "true", "GITHUB_SHA": "c0ffee", "DEPLOYTRAIL_REF": "main"}

    assert read(environ) == {"ref": "main"}
    assert targets(environ | {"GITHUB_ACTIONS": "", "DRONE": "true", "DRONE_DEPLOY_TO": "production"}) == ()


@pytest.mark.requirement("M2.1")
@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("https://user:secret@host/repo.git", "https://host/repo.git"),
        ("https://token@host:8443/repo?x=a@b", "https://host:8443/repo?x=a@b"),
        ("fatal: https://u:p@ss@host/x and ssh://git:k@other/y", "fatal: https://host/x and ssh://other/y"),
        ("git@github.com:shop/checkout.git", "git@github.com:shop/checkout.git"),
        ("https://host/@scope/package", "https://host/@scope/package"),
    ],
)
def test_credentials_are_stripped_from_urls(text: str, clean: str) -> None:
    assert without_credentials(text) == clean


def test_outside_of_ci_nothing_is_known() -> None:
    assert read({"HOME": "/root"}) == {}
    assert targets({"CI_ENVIRONMENT_NAME": "production"}) == ()


TARGETS = {
    "bitbucket": {"BITBUCKET_BUILD_NUMBER": "1", "BITBUCKET_DEPLOYMENT_ENVIRONMENT": "production"},
    "drone": {"DRONE": "true", "DRONE_DEPLOY_TO": "production"},
    "woodpecker": {"CI": "woodpecker", "CI_PIPELINE_DEPLOY_TARGET": "production"},
    "gitlab": {"GITLAB_CI": "true", "CI_ENVIRONMENT_NAME": "production"},
    "classic azure": {"RELEASE_RELEASEID": "5", "RELEASE_ENVIRONMENTNAME": "production"},
    "azure": {"TF_BUILD": "True", "ENVIRONMENT_NAME": "production"},
    "gocd": {"GO_PIPELINE_NAME": "p", "GO_PIPELINE_COUNTER": "1", "GO_ENVIRONMENT_NAME": "production"},
    "bamboo": {"bamboo_agentId": "1", "bamboo_deploy_environment": "production"},
    "harness": {"HARNESS_BUILD_ID": "1", "DRONE": "true", "DRONE_DEPLOY_TO": "production"},
}


@pytest.mark.requirement("M2.4")
@pytest.mark.parametrize("system", TARGETS)
def test_the_deploy_target_is_read_where_the_system_exports_one(system: str) -> None:
    assert targets(TARGETS[system]) == ("production",)
    assert "environment" not in read(TARGETS[system])


@pytest.mark.requirement("M2.4")
@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("prod", "production", True),
        ("PROD", "Production ", True),
        ("live", "prd", True),
        ("stg", "staging", True),
        ("prod-east", "production", True),
        ("production/eu", "prod", True),
        ("pre-prod", "preproduction", True),
        ("", "production", True),
        ("production", "staging", False),
        ("pre-prod", "production", False),
        ("non-prod", "prod", False),
        ("prod-east", "prod-west", False),
        ("uat", "qa", False),
    ],
)
def test_names_of_one_environment_agree_and_of_two_do_not(one: str, other: str, same: bool) -> None:
    assert agree(one, other) is agree(other, one) is same
