"""Build identity from the environments of three CI systems."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from deploytrail._build_identity import read, without_credentials
from deploytrail._event import build

SYSTEMS = ("github", "gitlab", "jenkins")
FIELDS = {
    "ci.pipeline.id": "build_id",
    "ci.pipeline.number": "build_number",
    "ci.pipeline.url": "build_url",
    "ci.pipeline.name": "pipeline",
    "ci.job.name": "job",
    "ci.stage.name": "stage",
    "git.commit.sha": "commit_sha",
    "git.repository_url": "repository",
}
# The cases' own way to override what the CI system says; ours are arguments.
OVERRIDES = {
    "DD_GIT_REPOSITORY_URL": "repository",
    "DD_GIT_COMMIT_SHA": "commit_sha",
    "DD_GIT_BRANCH": "ref",
    "DD_GIT_TAG": "ref",
}


def _expected(tags: dict[str, str]) -> dict[str, str]:
    expected = {FIELDS[name]: text for name, text in tags.items() if name in FIELDS}
    if ref := tags.get("git.tag") or tags.get("git.branch"):
        expected["ref"] = ref
    return expected


@pytest.mark.requirement("M2.1")
def test_identity_is_read_in_every_published_case(shared: Path) -> None:
    hits = total = 0
    misses: list[Any] = []
    for system in SYSTEMS:
        for number, (given, tags) in enumerate(json.loads((shared / f"fixtures/ci-env/{system}.json").read_text())):
            environ = {name: str(value) for name, value in given.items()}
            said = {field: environ[name] for name, field in OVERRIDES.items() if environ.get(name)}
            event = build({**said, "deployment_id": "d"}, read(environ))
            for field, text in _expected(tags).items():
                total += 1
                if event.get(field) == text:
                    hits += 1
                else:
                    misses.append((system, number, field, text, event.get(field)))
    print(f"build identity: {hits} of {total} fields")  # noqa: T201  # shown by pytest -rP

    assert total > 600
    assert hits == total, misses


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
