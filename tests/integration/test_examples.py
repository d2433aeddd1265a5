"""Every example is sound by its vendor's own rules, and its commands report what they say they do."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from support.examples import (
    COMMIT,
    EXAMPLES,
    Step,
    azure_steps,
    circleci_steps,
    github_steps,
    gitlab_steps,
    run,
    runner,
    workspace,
)
from support.gateways import Received, gateway
from support.groovy import shell_steps

pytestmark = pytest.mark.requirement("M2.1", "M2.2")
PYTHON = Path(sys.executable)
DEPLOY = 'echo "rolled out $DEPLOYTRAIL_DEPLOYMENT_ID"'

GITHUB = {
    "CI": "true",
    "GITHUB_ACTIONS": "true",
    "GITHUB_ACTOR": "mona",
    "GITHUB_JOB": "deploy",
    "GITHUB_REF": "refs/heads/main",
    "GITHUB_REPOSITORY": "shop/checkout",
    "GITHUB_RUN_ATTEMPT": "1",
    "GITHUB_RUN_ID": "901",
    "GITHUB_RUN_NUMBER": "12",
    "GITHUB_SERVER_URL": "https://github.com",
    "GITHUB_SHA": COMMIT,
    "GITHUB_WORKFLOW": "deploy",
}
GITLAB = {
    "CI": "true",
    "GITLAB_CI": "true",
    "CI_COMMIT_REF_NAME": "main",
    "CI_COMMIT_SHA": COMMIT,
    "CI_ENVIRONMENT_NAME": "production",
    "CI_JOB_NAME": "deploy",
    "CI_JOB_STAGE": "deploy",
    "CI_PIPELINE_ID": "901",
    "CI_PIPELINE_IID": "12",
    "CI_PIPELINE_URL": "https://gitlab.com/shop/checkout/-/pipelines/901",
    "CI_PROJECT_PATH": "shop/checkout",
    "CI_REPOSITORY_URL": "https://gitlab-ci-token:secret@gitlab.com/shop/checkout.git",
    "GITLAB_USER_LOGIN": "mona",
}
AZURE = {
    "TF_BUILD": "True",
    "BUILD_BUILDID": "901",
    "BUILD_BUILDNUMBER": "20261125.12",
    "BUILD_DEFINITIONNAME": "checkout",
    "BUILD_REQUESTEDFOR": "mona",
    "BUILD_REPOSITORY_URI": "https://dev.azure.com/shop/checkout/_git/checkout",
    "BUILD_SOURCEBRANCH": "refs/heads/main",
    "BUILD_SOURCEVERSION": COMMIT,
    "ENVIRONMENT_NAME": "production",
    "SYSTEM_COLLECTIONURI": "https://dev.azure.com/shop/",
    "SYSTEM_TEAMPROJECTID": "p1",
    "SYSTEM_STAGENAME": "Deploy",
    "SYSTEM_JOBNAME": "checkout",
}
CIRCLECI = {
    "CI": "true",
    "CIRCLECI": "true",
    "CIRCLE_BRANCH": "main",
    "CIRCLE_BUILD_NUM": "12",
    "CIRCLE_JOB": "deploy",
    "CIRCLE_PROJECT_REPONAME": "checkout",
    "CIRCLE_REPOSITORY_URL": "git@github.com:shop/checkout.git",
    "CIRCLE_SHA1": COMMIT,
    "CIRCLE_USERNAME": "mona",
    "CIRCLE_WORKFLOW_ID": "901",
}
JENKINS = {
    "JENKINS_URL": "https://jenkins.example.com/",
    "BUILD_NUMBER": "12",
    "BUILD_TAG": "jenkins-checkout-12",
    "BUILD_URL": "https://jenkins.example.com/job/checkout/12/",
    "BUILD_USER_ID": "mona",
    "GIT_BRANCH": "origin/main",
    "GIT_COMMIT": COMMIT,
    "GIT_URL": "https://github.com/shop/checkout.git",
    "JOB_BASE_NAME": "checkout",
    "JOB_NAME": "checkout",
    "STAGE_NAME": "Deploy",
}
SAME = {"service": "checkout", "environment": "production", "region": "eu-west-1", "version": COMMIT}
BUILD = {"commit_sha": COMMIT, "ref": "main", "deployer": "mona", "deployer_type": "person"}


def _all_succeed(steps: list[Step], env: dict[str, str], cwd: Path) -> str:
    said = ""
    for step in steps:
        done = run(step, env, cwd)
        assert done.returncode == 0, (step.script, done.stdout, done.stderr)
        said += done.stdout + done.stderr
    return said


def _one_deployment(there: Received, **expected: str) -> None:
    assert [e["event_type"] for e in there.events] == ["started", "succeeded"]
    assert len({e["deployment_id"] for e in there.events}) == 1
    for event in there.events:
        assert {name: event.get(name) for name in expected} == expected


def _tokens(there: Received) -> set[str | None]:
    return {headers.get("Authorization") for headers, _ in there.requests}


@pytest.mark.parametrize(
    ("schema", "path"),
    [
        ("vendor.github-workflows", "github_actions/deploy.yml"),
        ("vendor.gitlab-ci", "gitlab_ci/.gitlab-ci.yml"),
        ("vendor.azure-pipelines", "azure_pipelines/azure-pipelines.yml"),
        ("vendor.circle-ci", "circleci/config.yml"),
    ],
)
def test_a_pipeline_conforms_to_the_schema_that_its_vendor_publishes(schema: str, path: str) -> None:
    words = ["check-jsonschema", "--builtin-schema", schema]
    words += ["--data-transform", "gitlab-ci"] if schema.endswith("gitlab-ci") else []
    if schema.endswith("azure-pipelines"):
        # Its patterns are written for JavaScript without the flag u.
        words += ["--data-transform", "azure-pipelines", "--regex-variant", "nonunicode"]
    done = subprocess.run(
        [PYTHON.with_name(words[0]), *words[1:], EXAMPLES / path],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr


@contextmanager
def _issuer(asked: list[tuple[str, str]]) -> Iterator[str]:
    """What a GitHub job asks for its OIDC token; the token's text is `token-of-the-job`."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append((self.path, str(self.headers["Authorization"])))
            data = json.dumps({"count": 1, "value": "token-of-the-job"}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/token?api-version=2.0"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_the_github_workflow_reports_a_deployment_and_proves_who_it_is(tmp_path: Path) -> None:
    asked: list[tuple[str, str]] = []
    exported = tmp_path / "github_env"
    exported.touch()
    with gateway() as there, _issuer(asked) as issuer:
        env = runner(tmp_path / "spool", there.url, PYTHON, **GITHUB)
        env |= {"ACTIONS_ID_TOKEN_REQUEST_URL": issuer, "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "asking"}
        env["GITHUB_ENV"] = str(exported)
        cwd = workspace(tmp_path / "repository", deploy=DEPLOY)
        said = ""
        for step in github_steps({"vars.DEPLOYTRAIL_URL": there.url}):
            # What a step writes to $GITHUB_ENV, the next one has in its environment.
            env |= dict(line.split("=", 1) for line in exported.read_text().splitlines())
            said += _all_succeed([step], env, cwd)

    assert asked == [(f"/token?api-version=2.0&audience={there.url}", "bearer asking")]
    assert _tokens(there) == {"Bearer token-of-the-job"}
    assert f"rolled out {there.events[0]['deployment_id']}" in said
    _one_deployment(
        there,
        **SAME,
        **BUILD,
        build_system="github_actions",
        build_id="901",
        build_number="12",
        build_url="https://github.com/shop/checkout/actions/runs/901/attempts/1",
        repository="https://github.com/shop/checkout.git",
        pipeline="deploy",
        job="deploy",
    )


def test_the_gitlab_job_reports_the_environment_that_it_deploys_to(tmp_path: Path) -> None:
    with gateway() as there:
        env = runner(tmp_path / "spool", there.url, PYTHON, **GITLAB, DEPLOYTRAIL_TOKEN="id-token")
        _all_succeed(gitlab_steps(), env, workspace(tmp_path / "repository", deploy=DEPLOY))

    assert _tokens(there) == {"Bearer id-token"}
    _one_deployment(
        there,
        **SAME,
        **BUILD,
        build_system="gitlab_ci",
        build_id="901",
        build_url="https://gitlab.com/shop/checkout/-/pipelines/901",
        repository="https://gitlab.com/shop/checkout.git",
        pipeline="shop/checkout",
        job="deploy",
        stage="deploy",
    )


def test_the_azure_job_reports_the_environment_that_it_deploys_to(tmp_path: Path) -> None:
    with gateway() as there:
        env = runner(tmp_path / "spool", there.url, PYTHON, **AZURE)
        steps = azure_steps({"DEPLOYTRAIL_TOKEN": "of-the-variable-group"})
        _all_succeed(steps, env, workspace(tmp_path / "repository", deploy=DEPLOY))

    assert _tokens(there) == {"Bearer of-the-variable-group"}
    _one_deployment(
        there,
        **SAME,
        **BUILD,
        build_system="azure_pipelines",
        build_id="901",
        build_number="20261125.12",
        build_url="https://dev.azure.com/shop/p1/_build/results?buildId=901",
        pipeline="checkout",
        stage="Deploy",
    )


def test_the_circleci_job_reports_a_deployment(tmp_path: Path) -> None:
    with gateway() as there:
        env = runner(tmp_path / "spool", there.url, PYTHON, **CIRCLECI, DEPLOYTRAIL_TOKEN="of-the-context")
        _all_succeed(circleci_steps(), env, workspace(tmp_path / "repository", deploy=DEPLOY))

    assert _tokens(there) == {"Bearer of-the-context"}
    _one_deployment(
        there,
        **SAME,
        **BUILD,
        build_system="circleci",
        build_id="901",
        build_url="https://app.circleci.com/pipelines/workflows/901",
        repository="git@github.com:shop/checkout.git",
        job="deploy",
    )


def test_a_failing_deployment_fails_the_job_as_it_would_without_reports(tmp_path: Path) -> None:
    with gateway() as there:
        env = runner(tmp_path / "spool", there.url, PYTHON, **CIRCLECI)
        cwd = workspace(tmp_path / "repository", deploy="exit 7")
        codes = [run(step, env, cwd).returncode for step in circleci_steps()]

    assert codes == [0, 7]
    assert [(e["event_type"], e.get("exit_code")) for e in there.events] == [("started", None), ("failed", 7)]


def test_jenkins_pipelines_report_a_deployment_by_sh_and_by_the_shared_library(tmp_path: Path) -> None:
    folder = EXAMPLES / "jenkins"
    steps = shell_steps(folder / "shared_library/vars", folder / "Jenkinsfile", folder / "shared_library/Jenkinsfile")
    cwd = workspace(tmp_path / "repository", deploy=DEPLOY, rollback="echo undone")
    with gateway() as there:
        env = runner(tmp_path / "spool", there.url, PYTHON, **JENKINS)
        for step in steps:
            # Jenkins gives a credential's text to the variable that names it.
            known = {n: v.replace("credential:deploytrail-token", "secret-text") for n, v in step.variables.items()}
            done = subprocess.run(
                ["sh", "-xe", "-c", step.command],
                env=known | env,
                cwd=cwd,
                capture_output=True,
                timeout=200,
                check=False,
            )
            assert done.returncode == 0, done.stderr
    plain, by_library = there.events[:2], there.events[2:]

    assert len(steps) == 3
    assert _tokens(there) == {"Bearer secret-text"}
    for event in there.events:
        assert {name: event.get(name) for name in BUILD} == BUILD
        assert (event["build_system"], event["build_id"], event["stage"]) == (
            "jenkins",
            "jenkins-checkout-12",
            "Deploy",
        )
    assert [(e["event_type"], e["version"]) for e in plain] == [("started", COMMIT), ("succeeded", COMMIT)]
    assert [(e["event_type"], e["change_ticket"], e["tags"]["sprint"]) for e in by_library] == [
        ("started", "CHG0031337", "Q4 'late'"),
        ("succeeded", "CHG0031337", "Q4 'late'"),
    ]


def _shell(folder: Path, script: str, env: dict[str, str], *argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [EXAMPLES / script, *argv], env=env, cwd=folder, capture_output=True, text=True, timeout=200, check=False
    )


def _told(there: Received) -> list[tuple[str, str]]:
    return [(e["event_type"], e.get("kind", "unknown")) for e in there.events]


def test_the_bash_script_reports_its_canary_and_its_end(tmp_path: Path) -> None:
    cwd = workspace(tmp_path / "repository", roll_out='echo "$1 $2"')
    with gateway() as there:
        env = runner(tmp_path / "spool", there.url, PYTHON, DEPLOYTRAIL_REGION="eu-west-1")
        done = _shell(cwd, "bash/deploy.sh", env, "4.2.0")

    assert (done.returncode, done.stdout) == (0, "canary 4.2.0\neveryone 4.2.0\n")
    assert [(e["event_type"], e.get("cohort", ""), e["version"]) for e in there.events] == [
        ("started", "", "4.2.0"),
        ("progressed", "canary", "4.2.0"),
        ("succeeded", "", "4.2.0"),
    ]


def test_the_bash_script_reports_its_failure_and_its_rollback(tmp_path: Path) -> None:
    cwd = workspace(tmp_path / "repository", roll_out='test "$1" != everyone')
    with gateway() as there:
        env = runner(tmp_path / "spool", there.url, PYTHON, DEPLOYTRAIL_REGION="eu-west-1")
        done = _shell(cwd, "bash/deploy.sh", env, "4.2.0")
    failed, rollback = there.events[2], there.events[3]

    assert done.returncode == 1
    assert [e["event_type"] for e in there.events] == ["started", "progressed", "failed", "started", "succeeded"]
    assert (failed["error"], failed["exit_code"]) == ("everyone ended with status 1", 1)
    assert (rollback["kind"], rollback["rollback_of"]) == ("rollback", failed["deployment_id"])


@pytest.mark.parametrize(
    ("broken", "status", "told", "error"),
    [
        ("", 0, ["started", "succeeded"], ""),
        ("web2", 2, ["started", "failed"], "Install the new version on web2: non-zero return code"),
    ],
)
def test_the_playbook_reports_one_deployment_of_all_its_hosts(
    tmp_path: Path, broken: str, status: int, told: list[str], error: str
) -> None:
    cwd = workspace(tmp_path / "repository", roll_out=f'echo "$2 $1" >> rolled_out; test "$2" != "{broken}"')
    shutil.copy(EXAMPLES / "ansible/deploy.yml", cwd)
    (cwd / "hosts").write_text(
        f"[all:vars]\nansible_connection=local\nansible_python_interpreter={PYTHON}\n[web]\nweb1\nweb2\n"
    )
    with gateway() as there:
        env = runner(tmp_path / "spool", there.url, PYTHON, DEPLOYTRAIL_REGION="eu-west-1")
        env |= {"ANSIBLE_HOME": str(tmp_path / "ansible"), "ANSIBLE_LOCALHOST_WARNING": "false", "LC_ALL": "C.UTF-8"}
        done = subprocess.run(
            [PYTHON.with_name("ansible-playbook"), "-i", "hosts", "deploy.yml", "-e", "version=4.2.0"],
            env=env, cwd=cwd, capture_output=True, text=True, timeout=200, check=False,
        )  # fmt: skip

    assert done.returncode == status, done.stdout
    assert sorted((cwd / "rolled_out").read_text().split("\n")) == ["", "web1 4.2.0", "web2 4.2.0"]
    assert [e["event_type"] for e in there.events] == told
    assert {(e["service"], e["environment"], e["version"], e["tags"]["hosts"]) for e in there.events} == {
        ("checkout", "production", "4.2.0", "2")
    }
    assert there.events[-1].get("error", "") == error


def _rollout_command() -> str:
    """The provisioner's command, with the variable's default in its place."""
    import hcl2

    with (EXAMPLES / "terraform/main.tf").open() as file:
        parsed = json.loads(json.dumps(hcl2.load(file)).replace('\\"', ""))
    default = parsed["variable"][0]["app_version"]["default"]
    resource = parsed["resource"][0]["terraform_data"]["rollout"]
    command: str = resource["provisioner"][0]["local-exec"]["command"]
    return command.replace("${var.app_version}", default)


def test_the_provisioner_of_terraform_reports_what_it_rolls_out(tmp_path: Path) -> None:
    cwd = workspace(tmp_path / "repository", roll_out=DEPLOY)
    with gateway() as there:
        env = runner(tmp_path / "spool", there.url, PYTHON, DEPLOYTRAIL_REGION="eu-west-1")
        _all_succeed([Step(_rollout_command(), {})], env, cwd)

    _one_deployment(there, **SAME | {"version": "4.2.0"})


def test_an_apply_is_a_deployment_of_the_infrastructure(tmp_path: Path) -> None:
    """By the real Terraform where one is installed; else by a program of its name, which runs the provisioner."""
    cwd = workspace(tmp_path / "repository", roll_out=DEPLOY, instead=f'test "$*" = "apply -input=false -auto-approve" && {_rollout_command()}')  # fmt: skip  # noqa: E501
    shutil.copy(EXAMPLES / "terraform/main.tf", cwd)
    with gateway() as there:
        env = runner(tmp_path / "spool", there.url, PYTHON, DEPLOYTRAIL_REGION="eu-west-1", CHECKPOINT_DISABLE="1")
        terraform = shutil.which("terraform") or shutil.which("tofu")
        if terraform:
            subprocess.run([terraform, "init", "-input=false"], env=env, cwd=cwd, capture_output=True, timeout=200, check=True)  # fmt: skip  # noqa: E501
        env["TERRAFORM"] = terraform or os.fspath(cwd / "instead.sh")
        done = _shell(cwd, "terraform/apply.sh", env)
    outer, inner = there.events[0]["deployment_id"], there.events[1]["deployment_id"]

    assert done.returncode == 0, done.stdout + done.stderr
    assert [(e["event_type"], e["service"], e["deployment_id"]) for e in there.events] == [
        ("started", "platform", outer),
        ("started", "checkout", inner),
        ("succeeded", "checkout", inner),
        ("succeeded", "platform", outer),
    ]
    assert _told(there)[0] == ("started", "infrastructure")


def test_every_example_is_named_in_the_list(tmp_path: Path) -> None:
    listed = (EXAMPLES / "README.md").read_text()
    folders = sorted(path.name for path in EXAMPLES.iterdir() if path.is_dir())

    assert folders == ["ansible", "azure_pipelines", "bash", "circleci", "github_actions", "gitlab_ci", "jenkins", "terraform"]  # fmt: skip  # noqa: E501
    assert all(f"({folder}/" in listed for folder in folders)
