"""Lambdas that let only permitted artifacts go live on AWS. They fail closed.

`deploytrail.aws_hooks.codedeploy`: a lifecycle hook of CodeDeploy, for Lambda (BeforeAllowTraffic) and ECS
(BeforeInstall, BeforeAllowTraffic).
https://docs.aws.amazon.com/codedeploy/latest/userguide/reference-appspec-file-structure-hooks.html

`deploytrail.aws_hooks.ecs`: a lifecycle hook of ECS's own blue/green and rolling deployments (PRE_SCALE_UP).
https://docs.aws.amazon.com/AmazonECS/latest/developerguide/lambda-lifecycle-hooks.html

The permit is shown in the deployment's description, or in the docker label `deploytrail.dev/permit` of the
task definition. Settings: DEPLOYTRAIL_PERMIT_KEYS and _ISSUER, DEPLOYTRAIL_ENVIRONMENT, DEPLOYTRAIL_EXEMPT_IMAGES,
DEPLOYTRAIL_URL and _TOKEN for the record of the verdict. boto3 is part of Lambda's runtime.
"""

from __future__ import annotations

import base64
import json
import os
import re
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from deploytrail_schemas.errors import ConfigurationError, DeploytrailError
from deploytrail_schemas.ids import name_based_id
from deploytrail_schemas.permits import PermitProblem, PermitVerdict, Subject, verify_permit
from deploytrail_schemas.redaction import redact_text
from deploytrail_schemas.settings import Settings

from deploytrail import _permit_keys, aws_lambda
from deploytrail._images import Image, is_exempt
from deploytrail._names import names_of
from deploytrail.adapters.base import OTHER_REGION, items, mapping, text, texts

SOURCE = "aws_hook"
LABEL = "deploytrail.dev/permit"
_JWT = re.compile(r"eyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+", re.ASCII)
_clients: dict[str, Any] = {}


@dataclass(frozen=True, slots=True)
class Rollout:
    """What is about to go live: the digests of its artifacts, and the permit that it shows."""

    id: str
    service: str
    digests: tuple[str, ...]
    permit: str
    tags: Mapping[str, str]


def codedeploy(event: Mapping[str, Any], context: object = None) -> dict[str, str]:
    """Tell CodeDeploy whether the deployment of a hook's event may go on. What cannot be judged may not."""
    del context
    ids = {
        "deploymentId": str(event.get("DeploymentId", "")),
        "lifecycleEventHookExecutionId": str(event.get("LifecycleEventHookExecutionId", "")),
    }
    allowed = False
    try:
        settings = Settings.load()
        allowed = _judge(_of_codedeploy(ids["deploymentId"], settings), settings, ids["lifecycleEventHookExecutionId"])
    except Exception as error:  # whatever it is, the deployment must not wait an hour for an answer
        _say(f"no answer, so it may not go on: {type(error).__name__}: {error}")
    status = "Succeeded" if allowed else "Failed"
    _client("codedeploy").put_lifecycle_event_hook_execution_status(**ids, status=status)
    return {"status": status}


def ecs(event: Mapping[str, Any], context: object = None) -> dict[str, str]:
    """Whether the service revision of a hook's event may go on, as ECS reads it. What cannot be judged may not."""
    del context
    allowed = False
    try:
        settings = Settings.load()
        told = mapping(event, "executionDetails") or event
        revision = text(told, "targetServiceRevisionArn")
        allowed = _judge(_of_revision(revision, settings), settings, text(event, "executionId") or revision)
    except Exception as error:  # an exception would roll back too, without a word of why
        _say(f"no answer, so it may not go on: {type(error).__name__}: {error}")
    return {"hookStatus": "SUCCEEDED" if allowed else "FAILED"}


def _judge(rollout: Rollout, settings: Settings, execution: str) -> bool:
    authority = _permit_keys.authority(settings)
    if not settings.environment:
        raise ConfigurationError("DEPLOYTRAIL_ENVIRONMENT says which environment this account is; set it")
    region = settings.region or os.environ.get("AWS_REGION", "")
    now = time.time()
    problems: dict[PermitProblem, None] = {}
    verdict = PermitVerdict(())
    for digest in rollout.digests or ("",):
        subject = Subject(digest, rollout.service, settings.environment, region)
        verdict = verify_permit(rollout.permit, subject, authority, now=now)
        problems.update(dict.fromkeys(verdict.problems))
    allowed = not problems and verdict.is_allowed
    for problem in problems:
        _say(f"{rollout.id} is refused: {problem.reason}: {problem.detail}")
    record = _record(rollout, settings, region, verdict, tuple(problems), execution, allowed)
    try:
        aws_lambda.post(settings, "/v1/approvals", record)
    except DeploytrailError as error:  # the verdict stands, whether it can be recorded or not
        _say(f"the verdict could not be reported: {error}")
    return allowed


def _of_codedeploy(deployment_id: str, settings: Settings) -> Rollout:
    info = _client("codedeploy").get_deployment(deploymentId=deployment_id)["deploymentInfo"]
    application = text(info, "applicationName")
    spec = _app_spec(info)
    digests: list[str] = []
    permit = _permit_in(text(info, "description"))
    for resource in items(spec, "Resources") or items(spec, "resources"):
        for target in mapping(resource).values():
            properties = mapping(target, "Properties")
            if task := text(properties, "TaskDefinition"):
                found, label = _of_task(task, settings)
                digests += found
                permit = permit or label
            elif version := text(properties, "TargetVersion"):
                digests.append(_of_function(text(properties, "Name"), version))
    tags = texts(aws_deployment_id=deployment_id, application=application, creator=text(info, "creator"))
    return Rollout(deployment_id, settings.service or application, tuple(dict.fromkeys(digests)), permit, tags)


def _of_revision(arn: str, settings: Settings) -> Rollout:
    found = _client("ecs").describe_service_revisions(serviceRevisionArns=[arn])["serviceRevisions"][0]
    resolved = {text(image, "image"): text(image, "imageDigest") for image in items(found, "containerImages")}
    digests, permit = _of_task(text(found, "taskDefinition"), settings, resolved)
    service = text(found, "serviceArn").rpartition("/")[2]
    return Rollout(arn, settings.service or service, tuple(digests), permit, texts(service_revision=arn))


def _of_task(arn: str, settings: Settings, resolved: Mapping[str, str] | None = None) -> tuple[list[str], str]:
    """The digests of a task definition's images but the exempt ones, and the permit in a docker label."""
    task = _client("ecs").describe_task_definition(taskDefinition=arn)["taskDefinition"]
    containers = items(task, "containerDefinitions")
    images = [Image(text(container, "image")) for container in containers]
    exempt = names_of(settings.exempt_images)
    # A tag alone proves nothing: it is told as it is, and no permit fits it.
    digests = [
        image.digest or (resolved or {}).get(image.reference) or image.reference
        for image in images
        if not is_exempt(image, exempt)
    ]
    labels = (mapping(container, "dockerLabels").get(LABEL) for container in containers)
    return list(dict.fromkeys(digests)), next((label for label in labels if isinstance(label, str)), "")


def _of_function(name: str, version: str) -> str:
    """SHA-256 of a function's zip file, or the digest of its image."""
    found = _client("lambda").get_function(FunctionName=name, Qualifier=version)
    if image := text(found, "Code", "ResolvedImageUri"):
        return Image(image).digest
    return f"sha256:{base64.b64decode(text(found, 'Configuration', 'CodeSha256')).hex()}"


def _app_spec(info: Mapping[str, Any]) -> Mapping[str, Any]:
    """The AppSpec of a deployment, from wherever its revision lies. ConfigurationError where it cannot be read."""
    revision = mapping(info, "revision")
    content = mapping(revision, "appSpecContent").get("content") or mapping(revision, "string").get("content")
    if not content and (place := mapping(revision, "s3Location")):
        more = {"VersionId": place["version"]} if place.get("version") else {}
        content = _client("s3").get_object(Bucket=place["bucket"], Key=place["key"], **more)["Body"].read().decode()
    try:
        spec = json.loads(content or "")
    except ValueError:
        spec = _yaml(content)
    if not isinstance(spec, Mapping):
        raise ConfigurationError("the deployment has no AppSpec that can be read")
    return spec


def _yaml(content: Any) -> Any:
    try:
        import yaml
    except ImportError as error:
        raise ConfigurationError("the AppSpec is no JSON: write it as JSON, or package PyYAML with the hook") from error
    try:
        return yaml.safe_load(content or "")
    except yaml.YAMLError as error:
        raise ConfigurationError(f"the AppSpec is neither JSON nor YAML: {error}") from error


def _permit_in(description: str) -> str:
    found = _JWT.search(description)
    return found[0] if found else ""


def _record(
    rollout: Rollout,
    settings: Settings,
    region: str,
    verdict: PermitVerdict,
    problems: Sequence[PermitProblem],
    execution: str,
    allowed: bool,
) -> dict[str, Any]:
    permit = verdict.permit
    value = {
        "approval_id": name_based_id(SOURCE, rollout.id, execution),
        "approval_type": "permit_used" if allowed else "rejected",
        "occurred_at": time.time_ns() // 1000,
        "region": region or OTHER_REGION,
        "environment": settings.environment,
        "service": rollout.service or "unknown",
        "producer_id": SOURCE,
        "source": SOURCE,
        "deployment_id": permit.deployment_id if permit else "",
        "artifact_digest": rollout.digests[0] if rollout.digests else "",
        "change_ticket": permit.change_ticket if permit else "",
        "valid_from": permit.not_before * 1_000_000 if permit else None,
        "valid_until": permit.expires_at * 1_000_000 if permit else None,
        "justification": redact_text("; ".join(f"{p.reason}: {p.detail}" for p in problems)),
        "tags": {
            **rollout.tags,
            **texts(permit_id=permit.id if permit else "", reasons=",".join(dict.fromkeys(p.reason for p in problems))),
        },
    }
    return {name: item for name, item in value.items() if item not in (None, "", {})}


def _client(name: str) -> Any:
    if name not in _clients:
        import boto3

        _clients[name] = boto3.client(name)
    return _clients[name]


def _say(message: str) -> None:
    sys.stderr.write(f"deploytrail: {redact_text(message)}\n")
