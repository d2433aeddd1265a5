"""The Lambda behind EventBridge hands every event to the gateway, or raises so that Lambda tries again."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from deploytrail import aws_lambda
from deploytrail.adapters import aws
from deploytrail_schemas.errors import ConfigurationError, RetryLater
from deploytrail_schemas.records import RecordType
from support.gateways import gateway

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared/fixtures/aws"
EVENT = {
    "version": "0",
    "id": "c071bfbf-83c4-49ca-a6ff-3df053957145",
    "detail-type": "CodeDeploy Deployment State-change Notification",
    "source": "aws.codedeploy",
    "account": "123456789012",
    "time": "2026-11-02T12:00:00Z",
    "region": "eu-west-1",
    "resources": [],
    "detail": {"application": "checkout", "deploymentGroup": "prod", "deploymentId": "d-1", "state": "SUCCESS"},
}


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(aws_lambda, "_connection", None)
    for name, text in {"TOKEN": "dtk_x", "ENVIRONMENT": "production", "REGION": "", "SERVICE": ""}.items():
        monkeypatch.setenv(f"DEPLOYTRAIL_{name}", text)
    yield
    if aws_lambda._connection is not None:
        aws_lambda._connection.close()


@pytest.mark.requirement("M8.6")
def test_an_event_is_handed_over_with_the_token_and_what_the_account_is(monkeypatch: pytest.MonkeyPatch) -> None:
    with gateway(lambda *_: (202, {"accepted": 1})) as there:
        monkeypatch.setenv("DEPLOYTRAIL_URL", f"{there.url}/base/")
        began = time.perf_counter()
        answers = [aws_lambda.handler(EVENT, None) for _ in range(3)]
        took = (time.perf_counter() - began) / 3
        [(headers, event), *_] = there.requests
        print(f"handed over in {took * 1000:.1f} ms")  # noqa: T201  # shown by pytest -rP

        assert answers == [{"status": 202, "accepted": 1}] * 3
        assert there.connections == 1
    assert event == EVENT
    assert headers["path"] == "/base/webhooks/aws?environment=production"
    assert headers["Authorization"] == "Bearer dtk_x"


@pytest.mark.requirement("M8.6")
@pytest.mark.parametrize(
    ("status", "error"),
    [(503, RetryLater), (429, RetryLater), (401, RetryLater), (422, aws_lambda.Refused), (403, aws_lambda.Refused)],
)
def test_what_is_not_accepted_raises(monkeypatch: pytest.MonkeyPatch, status: int, error: type[Exception]) -> None:
    with gateway(lambda *_: (status, {"detail": "why"})) as there:
        monkeypatch.setenv("DEPLOYTRAIL_URL", there.url)
        with pytest.raises(error, match=f"the gateway answers {status}: why"):
            aws_lambda.handler(EVENT)


@pytest.mark.requirement("M8.6")
def test_a_gateway_that_is_away_or_not_named_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEPLOYTRAIL_URL", "http://127.0.0.1:1")
    with pytest.raises(RetryLater, match="cannot be reached"):
        aws_lambda.handler(EVENT)
    monkeypatch.setenv("DEPLOYTRAIL_URL", "")
    with pytest.raises(ConfigurationError, match="DEPLOYTRAIL_URL"):
        aws_lambda.handler(EVENT)


def test_a_connection_that_was_closed_meanwhile_is_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    with gateway(lambda *_: (202, {"accepted": 1})) as there:
        monkeypatch.setenv("DEPLOYTRAIL_URL", there.url)
        aws_lambda.handler(EVENT)
        assert aws_lambda._connection is not None and aws_lambda._connection.sock is not None
        aws_lambda._connection.sock.shutdown(2)

        assert aws_lambda.handler(EVENT)["status"] == 202
        assert there.connections == 2


class _Tag(yaml.SafeLoader):
    """Reads CloudFormation's tags as what stands behind them."""


_Tag.add_multi_constructor("!", lambda loader, _, node: loader.construct_scalar(node))


def rule() -> dict[str, Any]:
    template = yaml.load((ROOT / "deploy/aws/template.yaml").read_text("utf-8"), _Tag)  # a safe loader
    pattern: dict[str, Any] = template["Resources"]["Deployments"]["Properties"]["EventPattern"]
    return pattern


def fits(pattern: dict[str, Any], event: dict[str, Any]) -> bool:
    """Whether every field has one of its values.

    https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-event-patterns.html
    """
    return all(event.get(name) in values for name, values in pattern.items())


@pytest.mark.requirement("M8.6")
def test_the_rule_lets_through_what_the_gateway_understands() -> None:
    pattern = rule()

    assert fits(pattern, EVENT)
    assert set(pattern["detail-type"]) <= set(aws._BY_KIND)
    assert not fits(pattern, EVENT | {"detail-type": "CodeDeploy Instance State-change Notification"})


@pytest.mark.requirement("M8.6")
def test_published_events_pass_the_rule_and_become_records() -> None:
    if not SHARED.is_dir():
        pytest.skip(f"{SHARED.name} of the shared fixtures is missing")
    event = json.loads((SHARED / "codedeploy-deployment-event.json").read_text("utf-8"))
    found = aws.SOURCE.adapt(event, {}, aws.Defaults(environment="production"), 1_793_620_800_000_000)

    assert fits(rule(), event)
    assert [kind for kind, _ in found.records] == [RecordType.DEPLOYMENT_EVENT]


def test_a_token_that_no_header_can_carry_does_not_show_in_the_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEPLOYTRAIL_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("DEPLOYTRAIL_TOKEN", "sesame\nopen")
    with pytest.raises(ConfigurationError) as told:
        aws_lambda.handler(EVENT, None)

    assert "sesame" not in str(told.value)


def test_a_cold_start_loads_nothing_heavy() -> None:
    script = "import sys, deploytrail.aws_lambda; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=True)

    assert not {"fastavro", "confluent_kafka", "cryptography", "starlette", "boto3"} & set(done.stdout.split())


@pytest.mark.requirement("M5.4", "M8.6")
@pytest.mark.timeout(600)
def test_the_hooks_of_aws_fit_its_services_and_the_template_its_specification() -> None:
    """tests/aws, in an environment of its own: boto3 wants an older dateutil than the rules' tests do."""
    have = shutil.which("uv", path=str(Path(sys.executable).parent)) or shutil.which("uv")
    if have is None:
        pytest.skip("uv is not installed")
    words = [have, "run", "--quiet", "--isolated", "--locked", "--package", "deploytrail", "--extra", "signing"]
    words += ["--no-default-groups", "--with", "boto3<2", "--with", "cfn-lint<2", "--with", "pyjwt[crypto]<3"]
    words += ["--with", "pytest<10", "--with", "pytest-timeout<3"]
    there = subprocess.run(
        [*words, "python", "-c", "import boto3, cfnlint"], cwd=ROOT, capture_output=True, timeout=300, check=False
    )
    if there.returncode:
        pytest.skip("boto3 and cfn-lint cannot be installed here: is there a package registry?")
    done = subprocess.run(
        [*words, "pytest", "tests/aws", "-q", "-p", "no:cacheprovider"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )

    assert done.returncode == 0, done.stdout[-4000:]
