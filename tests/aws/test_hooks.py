"""The hooks of AWS against botocore's own models of its services: what is asked and answered fits them."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.stub import Stubber
from deploytrail import aws_hooks, aws_lambda
from deploytrail_schemas.json_values import validate
from deploytrail_schemas.records import RecordType
from support.gateways import Received, gateway
from support.permits import AUDIENCE, DIGEST, ISSUER, OTHER_DIGEST, jwks, permit

EVENT = {"DeploymentId": "d-ABCDEF", "LifecycleEventHookExecutionId": "execution-1"}
TASK = "arn:aws:ecs:eu-west-1:123456789012:task-definition/checkout:42"
REVISION = "arn:aws:ecs:eu-west-1:123456789012:service-revision/prod/checkout/0127"
IMAGE = f"123456789012.dkr.ecr.eu-west-1.amazonaws.com/checkout@{DIGEST}"
SIDECAR = "public.ecr.aws/platform/envoy:v1"


def fresh(**changed: Any) -> str:
    now = int(time.time())
    return permit(**{"iat": now, "nbf": now, "exp": now + 300, **changed})


@pytest.fixture
def there() -> Iterator[Received]:
    with gateway(lambda *_: (202, {"accepted": 1})) as received:
        yield received
    for _, record in received.requests:
        assert validate(RecordType.APPROVAL, record)[1] == []


@pytest.fixture(autouse=True)
def settings(there: Received, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "keys.json").write_bytes(jwks())
    said = {
        "URL": there.url,
        "PERMIT_KEYS": str(tmp_path / "keys.json"),
        "PERMIT_ISSUER": ISSUER,
        "PERMIT_AUDIENCE": AUDIENCE,
        "ENVIRONMENT": "production",
        "EXEMPT_IMAGES": "public.ecr.aws/platform/*",
    }
    for name in list(os.environ):
        if name.startswith("DEPLOYTRAIL_"):
            monkeypatch.delenv(name)
    for name, text in said.items():
        monkeypatch.setenv(f"DEPLOYTRAIL_{name}", text)
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    monkeypatch.setattr(aws_lambda, "_connection", None)


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Stubber]]:
    clients = {
        name: boto3.client(name, region_name="eu-west-1", aws_access_key_id="x", aws_secret_access_key="x")
        for name in ("codedeploy", "ecs", "lambda", "s3")
    }
    monkeypatch.setattr(aws_hooks, "_clients", clients)
    with contextlib.ExitStack() as stack:
        stubs = {name: stack.enter_context(Stubber(client)) for name, client in clients.items()}
        yield stubs
        for stub in stubs.values():
            stub.assert_no_pending_responses()


def deployment(spec: dict[str, Any] | str, description: str = "", application: str = "checkout") -> dict[str, Any]:
    content = spec if isinstance(spec, str) else json.dumps(spec)
    revision = {"revisionType": "AppSpecContent", "appSpecContent": {"content": content}}
    info = {"applicationName": application, "creator": "user", "revision": revision, "description": description}
    return {"deploymentInfo": info}


def task_spec() -> dict[str, Any]:
    target = {"Type": "AWS::ECS::Service", "Properties": {"TaskDefinition": TASK}}
    return {"version": 0.0, "Resources": [{"TargetService": target}]}


def task(*images: str, label: str = "") -> dict[str, Any]:
    labels = {"deploytrail.dev/permit": label} if label else {}
    containers = [
        {"name": f"c{n}", "image": image, "dockerLabels": labels} for n, image in enumerate(images or [IMAGE])
    ]
    return {"taskDefinition": {"taskDefinitionArn": TASK, "containerDefinitions": containers}}


def expect_status(aws: dict[str, Stubber], status: str) -> None:
    ids = {"deploymentId": "d-ABCDEF", "lifecycleEventHookExecutionId": "execution-1", "status": status}
    aws["codedeploy"].add_response("put_lifecycle_event_hook_execution_status", {}, ids)


@pytest.mark.requirement("M5.4", "M8.6")
@pytest.mark.parametrize("by_label", [False, True])
def test_a_permitted_task_definition_goes_on_and_is_recorded(
    aws: dict[str, Stubber], there: Received, by_label: bool
) -> None:
    text = fresh()
    shown = deployment(task_spec(), "" if by_label else f"checkout 4.2.0 {text}")
    aws["codedeploy"].add_response("get_deployment", shown, {"deploymentId": "d-ABCDEF"})
    images = task(IMAGE, SIDECAR, label=text if by_label else "")
    aws["ecs"].add_response("describe_task_definition", images, {"taskDefinition": TASK})
    expect_status(aws, "Succeeded")
    answer = aws_hooks.codedeploy(EVENT)
    [(headers, record)] = there.requests

    assert answer == {"status": "Succeeded"}
    assert headers["path"] == "/v1/approvals"
    assert (record["approval_type"], record["artifact_digest"], record["change_ticket"]) == (
        "permit_used",
        DIGEST,
        "CHG0031337",
    )
    assert record["tags"]["aws_deployment_id"] == "d-ABCDEF"


@pytest.mark.requirement("M5.4", "M8.6")
def test_a_permitted_function_goes_on_by_the_digest_of_its_code(aws: dict[str, Stubber]) -> None:
    properties = {"Name": "checkout", "Alias": "live", "CurrentVersion": "1", "TargetVersion": "2"}
    spec = {"version": 0.0, "Resources": [{"checkout": {"Type": "AWS::Lambda::Function", "Properties": properties}}]}
    code = base64.b64encode(bytes.fromhex(DIGEST.removeprefix("sha256:"))).decode()
    aws["codedeploy"].add_response("get_deployment", deployment(spec, fresh()), {"deploymentId": "d-ABCDEF"})
    asked = {"FunctionName": "checkout", "Qualifier": "2"}
    aws["lambda"].add_response("get_function", {"Configuration": {"CodeSha256": code}}, asked)
    expect_status(aws, "Succeeded")

    assert aws_hooks.codedeploy(EVENT) == {"status": "Succeeded"}


REFUSED = {
    "no permit": ({}, IMAGE, False, "no_permit"),
    "another image": ({"artifact_digest": OTHER_DIGEST}, IMAGE, True, "other_artifact"),
    "another environment": ({"environment": "staging"}, IMAGE, True, "other_environment"),
    "another service": ({"service": "cart"}, IMAGE, True, "other_service"),
    "another region": ({"region": "us-east-1"}, IMAGE, True, "other_region"),
    "a tag without a digest": ({}, "checkout:latest", True, "no_digest"),
    "nothing but sidecars": ({}, SIDECAR, True, "no_digest"),
}


@pytest.mark.requirement("M5.4", "M8.6")
@pytest.mark.parametrize("case", REFUSED)
def test_whatever_the_permit_is_not_for_is_stopped(aws: dict[str, Stubber], there: Received, case: str) -> None:
    changed, image, is_shown, reason = REFUSED[case]
    shown = deployment(task_spec(), fresh(**changed) if is_shown else "4.2.0")
    aws["codedeploy"].add_response("get_deployment", shown, {"deploymentId": "d-ABCDEF"})
    aws["ecs"].add_response("describe_task_definition", task(image), {"taskDefinition": TASK})
    expect_status(aws, "Failed")
    answer = aws_hooks.codedeploy(EVENT)
    [(_, record)] = there.requests

    assert answer == {"status": "Failed"}
    assert (record["approval_type"], record["tags"]["reasons"]) == ("rejected", reason)


@pytest.mark.requirement("M8.6")
def test_it_fails_closed_where_something_is_away(aws: dict[str, Stubber], monkeypatch: pytest.MonkeyPatch) -> None:
    aws["codedeploy"].add_client_error("get_deployment", "ThrottlingException")
    expect_status(aws, "Failed")
    throttled = aws_hooks.codedeploy(EVENT)
    monkeypatch.setenv("DEPLOYTRAIL_PERMIT_KEYS", "/nowhere/keys.json")
    aws["codedeploy"].add_response("get_deployment", deployment(task_spec(), fresh()), {"deploymentId": "d-ABCDEF"})
    aws["ecs"].add_response("describe_task_definition", task(), {"taskDefinition": TASK})
    expect_status(aws, "Failed")

    assert [throttled, aws_hooks.codedeploy(EVENT)] == [{"status": "Failed"}, {"status": "Failed"}]


def test_a_gateway_that_is_away_changes_no_verdict(aws: dict[str, Stubber], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEPLOYTRAIL_URL", "http://127.0.0.1:1")
    aws["codedeploy"].add_response("get_deployment", deployment(task_spec(), fresh()), {"deploymentId": "d-ABCDEF"})
    aws["ecs"].add_response("describe_task_definition", task(), {"taskDefinition": TASK})
    expect_status(aws, "Succeeded")

    assert aws_hooks.codedeploy(EVENT) == {"status": "Succeeded"}


@pytest.mark.requirement("M8.6")
@pytest.mark.parametrize(("digest", "expected"), [(DIGEST, "SUCCEEDED"), (OTHER_DIGEST, "FAILED")])
def test_ecs_itself_asks_about_the_images_that_it_resolved(
    aws: dict[str, Stubber], there: Received, digest: str, expected: str
) -> None:
    images = [{"containerName": "c0", "image": "checkout:4.2.0", "imageDigest": digest}]
    arn = "arn:aws:ecs:eu-west-1:123456789012:service/prod/checkout"
    revision = {"serviceRevisionArn": REVISION, "serviceArn": arn, "taskDefinition": TASK, "containerImages": images}
    asked = {"serviceRevisionArns": [REVISION]}
    aws["ecs"].add_response("describe_service_revisions", {"serviceRevisions": [revision]}, asked)
    described = task("checkout:4.2.0", label=fresh())
    aws["ecs"].add_response("describe_task_definition", described, {"taskDefinition": TASK})

    assert aws_hooks.ecs({"serviceArn": arn, "targetServiceRevisionArn": REVISION}) == {"hookStatus": expected}
    assert len(there.requests) == 1


@pytest.mark.requirement("M8.6")
def test_ecs_gets_a_no_where_nothing_can_be_judged(aws: dict[str, Stubber]) -> None:
    aws["ecs"].add_client_error("describe_service_revisions", "AccessDeniedException")

    assert aws_hooks.ecs({"targetServiceRevisionArn": REVISION}) == {"hookStatus": "FAILED"}


def test_an_app_spec_lies_in_s3_too(aws: dict[str, Stubber]) -> None:
    import io

    from botocore.response import StreamingBody

    place = {"bucket": "specs", "key": "appspec.json", "bundleType": "JSON", "version": "v1"}
    info = {
        "applicationName": "checkout",
        "description": fresh(),
        "revision": {"revisionType": "S3", "s3Location": place},
    }
    data = json.dumps(task_spec()).encode()
    aws["codedeploy"].add_response("get_deployment", {"deploymentInfo": info}, {"deploymentId": "d-ABCDEF"})
    body = {"Body": StreamingBody(io.BytesIO(data), len(data))}
    aws["s3"].add_response("get_object", body, {"Bucket": "specs", "Key": "appspec.json", "VersionId": "v1"})
    aws["ecs"].add_response("describe_task_definition", task(), {"taskDefinition": TASK})
    expect_status(aws, "Succeeded")

    assert aws_hooks.codedeploy(EVENT) == {"status": "Succeeded"}
