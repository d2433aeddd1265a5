"""AWS CodeDeploy, CodePipeline and CodeBuild: their deployments, approvals and builds that deploy.

https://docs.aws.amazon.com/codedeploy/latest/userguide/monitoring-cloudwatch-events.html,
https://docs.aws.amazon.com/codepipeline/latest/userguide/detect-state-changes-cloudwatch-events.html,
https://docs.aws.amazon.com/codebuild/latest/userguide/sample-build-notifications.html
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from deploytrail_schemas.records import RecordType

from deploytrail.adapters._aws_event import AwsEvent, Record, last_part
from deploytrail.adapters.base import Adapted, AdapterError, deployer, first, instant, items, mapping, text, texts

# EventBridge's words, and those of CodeDeploy's own triggers (SNS).
CODEDEPLOY = {
    "START": "started",
    "READY": "progressed",  # the green instances wait for their traffic
    "SUCCESS": "succeeded",
    "FAILURE": "failed",
    "STOP": "cancelled",
    "CREATED": "started",
    "QUEUED": "queued",
    "INPROGRESS": "progressed",
    "BAKING": "progressed",
    "SUCCEEDED": "succeeded",
    "FAILED": "failed",
    "STOPPED": "cancelled",
    "ABORTED": "cancelled",
}
CODEPIPELINE = {
    "STARTED": "started",
    "RESUMED": "progressed",  # a failed stage is tried again
    "STOPPING": "progressed",
    "SUCCEEDED": "succeeded",
    "FAILED": "failed",
    "STOPPED": "cancelled",
    "CANCELED": "cancelled",
    "ABANDONED": "cancelled",
    "SUPERSEDED": "cancelled",  # a newer execution overtook it
}
APPROVAL = {
    "STARTED": "requested",
    "SUCCEEDED": "approved",
    "FAILED": "rejected",  # also where nobody answered in time
    "CANCELED": "revoked",
    "ABANDONED": "revoked",
}
CODEBUILD = {
    "IN_PROGRESS": "started",
    "SUCCEEDED": "succeeded",
    "FAILED": "failed",
    "FAULT": "failed",
    "TIMED_OUT": "failed",
    "STOPPED": "cancelled",
}
# What the webhook's URL may say of pipelines, beside its environment.
PIPELINES = "pipelines"
_BY = ("executions", "actions", "none")
_COMMIT = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")
_EVENT = RecordType.DEPLOYMENT_EVENT


def codedeploy(event: AwsEvent) -> Adapted:
    """A deployment's state, or that of one of its instances, which is progress of the whole."""
    detail = event.detail or event.message  # a trigger's message has no envelope
    number = text(detail, "deploymentId")
    if not number:
        raise AdapterError("a CodeDeploy event has no deploymentId")
    instance = last_part(text(detail, "instanceId"))
    state = first(text(detail, "state"), text(detail, "status"), text(detail, "instanceStatus"))
    event_type = "progressed" if instance else CODEDEPLOY.get(state.upper(), "unknown")
    group = first(text(detail, "deploymentGroup"), text(detail, "deploymentGroupName"))
    undone = text(_object(detail.get("rollbackInformation")), "RollbackTriggeringDeploymentId")
    failed = _object(detail.get("errorInformation"))
    # A state is reached once: EventBridge and a trigger tell the same.
    told = event_type if event_type not in ("progressed", "unknown") else state.upper()
    return _one(
        event.record(
            _EVENT,
            *("codedeploy", number, instance, told),
            at=None if event.detail else instant(detail, "lastUpdatedAt"),
            # A group is only likely to be named after its environment: what the URL says is sure.
            environment=first(event.defaults.environment, group),
            service=first(text(detail, "application"), text(detail, "applicationName")),
            event_type=event_type,
            deployment_id=event.id_of("codedeploy", number),
            rollback_of=event.id_of("codedeploy", undone) if undone not in ("", number) else "",
            kind="rollback" if undone not in ("", number) else "unknown",
            instance=instance,
            error=text(failed, "ErrorMessage") if event_type == "failed" else "",
            raw_status=state,
            tags=texts(deployment_group=group),
        )
    )


def codepipeline(event: AwsEvent) -> Adapted:
    """An execution of a pipeline, of one of its stages, or of an action.

    By `executions` the pipeline's execution is one deployment, stages and actions are its progress;
    so it is where the webhook's URL names the environment. By `actions` each action of the category
    Deploy is one, in the environment that its stage is named after and in its own region; the rest
    is no deployment. By `none` nothing is, where CodeDeploy or ECS tell of the same.
    """
    detail = event.detail
    by = event.defaults.options.get(PIPELINES) or ("executions" if event.defaults.environment else "actions")
    if by not in _BY:
        raise AdapterError(f"{PIPELINES} of the URL is {by!r}; expected {', '.join(_BY)}")
    pipeline, execution = text(detail, "pipeline"), text(detail, "execution-id")
    if not pipeline or not execution:
        raise AdapterError("a CodePipeline event has no pipeline or no execution-id")
    stage, action, state = text(detail, "stage"), text(detail, "action"), text(detail, "state")
    category = text(detail, "type", "category")
    whole = event.id_of("codepipeline", pipeline, execution)
    identity = ("codepipeline", pipeline, execution, stage, action, state, str(event.at))
    place: dict[str, Any] = {"service": first(event.defaults.service, pipeline)}
    if action and category == "Approval":
        return _one(
            event.record(
                RecordType.APPROVAL,
                *identity,
                **place,
                environment=first(event.defaults.environment, stage),
                approval_type=APPROVAL.get(state, "unknown"),
                deployment_id=whole if by == "executions" else "",
                justification=text(detail, "execution-result", "external-execution-summary"),
                tags=texts(pipeline=pipeline, execution=execution, stage=stage, action=action, state=state),
            )
        )
    if by == "none":
        return Adapted(ignored=f"the URL says that no pipeline is a deployment: {event.kind} of {pipeline}")
    result = mapping(detail, "execution-result")
    fields: dict[str, Any] = {
        "build_system": "codepipeline",
        "build_id": execution,
        "build_url": _console(event, pipeline, execution),
        "pipeline": pipeline,
        "stage": stage,
        "job": action,
        "raw_status": state,
        "tags": texts(
            provider=text(detail, "type", "provider"),
            action_region=text(detail, "region"),
            external_execution=text(result, "external-execution-id"),
        ),
    }
    event_type = CODEPIPELINE.get(state, "unknown")
    if event_type == "failed":
        fields["error"] = text(result, "external-execution-summary")
    if by == "executions":
        part = "progressed" if stage or action or "Stage" in event.kind else event_type
        fields |= _who(text(detail, "execution-trigger", "trigger-detail"))
        return _one(event.record(_EVENT, *identity, **place, event_type=part, deployment_id=whole, **fields))
    if category != "Deploy":
        return Adapted(ignored=f"{event.kind} of {pipeline}: its deploy actions are the deployments")
    return _one(
        event.record(
            _EVENT,
            *identity,
            **place,
            environment=first(event.defaults.environment, stage),
            region=text(detail, "region"),
            event_type=event_type,
            deployment_id=f"{whole}:{stage}:{action}",
            **fields,
        )
    )


def approval_wanted(event: AwsEvent) -> Adapted:
    """The message that a manual approval sends to its topic.

    Its token lets whoever has it approve: it is not kept.
    https://docs.aws.amazon.com/codepipeline/latest/userguide/approvals-json-format.html
    """
    wanted = mapping(event.message, "approval")
    pipeline, stage, action = (text(wanted, name) for name in ("pipelineName", "stageName", "actionName"))
    return _one(
        event.record(
            RecordType.APPROVAL,
            *("codepipeline", pipeline, stage, action, "wanted", text(wanted, "token")),
            service=first(event.defaults.service, pipeline),
            environment=first(event.defaults.environment, stage),
            approval_type="requested",
            justification=text(wanted, "customData"),
            valid_until=instant(text(wanted, "expires").replace("Z", ":00Z")),  # it has no seconds
            tags=texts(pipeline=pipeline, stage=stage, action=action, link=text(wanted, "externalEntityLink")),
        )
    )


def codebuild(event: AwsEvent) -> Adapted:
    """A build, which deploys only where its plain variable DEPLOYTRAIL_ENVIRONMENT says to which environment."""
    detail, more = event.detail, mapping(event.detail, "additional-information")
    build, project = text(detail, "build-id"), text(detail, "project-name")
    if not build:
        raise AdapterError("a CodeBuild event has no build-id")
    if "Phase" in event.kind:
        return Adapted(ignored="a phase is a part of its build")
    said = {
        text(variable, "name"): text(variable, "value")
        for variable in items(more, "environment", "environment-variables")
        if text(variable, "type") in ("PLAINTEXT", "")
    }
    by = text(more, "initiator")
    if not said.get("DEPLOYTRAIL_ENVIRONMENT"):
        return Adapted(ignored="a build without the variable DEPLOYTRAIL_ENVIRONMENT deploys nothing")
    if by.startswith("codepipeline/") and event.defaults.environment:
        return Adapted(ignored=f"the build is a part of {by}, which tells of the deployment")
    state, number = text(detail, "build-status"), text(more, "build-number").removesuffix(".0")
    event_type = CODEBUILD.get(state, "unknown")
    version = text(more, "source-version")
    by_pipeline = by.removeprefix("codepipeline/") if by.startswith("codepipeline/") else ""
    who: dict[str, Any] = {} if by_pipeline else deployer(by, bot="/" in by)
    return _one(
        event.record(
            _EVENT,
            *("codebuild", build, state),
            region=said.get("DEPLOYTRAIL_REGION", ""),
            environment=said["DEPLOYTRAIL_ENVIRONMENT"],
            service=first(said.get("DEPLOYTRAIL_SERVICE", ""), event.defaults.service, project),
            event_type=event_type,
            deployment_id=event.id_of("codebuild", build.rpartition(":")[2]),
            version=said.get("DEPLOYTRAIL_VERSION", ""),
            commit_sha=version if _COMMIT.fullmatch(version) else "",
            repository=text(more, "source", "location"),
            ref=version if not _COMMIT.fullmatch(version) else "",
            build_system="codebuild",
            build_id=build,
            build_number=number,
            build_url=text(more, "logs", "deep-link"),
            pipeline=by_pipeline,
            job=project,
            raw_status=state,
            **who,
        )
    )


def _one(record: Record) -> Adapted:
    return Adapted((record,))


def _object(given: object) -> Mapping[str, Any]:
    """Triggers write objects as their text."""
    if isinstance(given, str):
        try:
            given = json.loads(given)
        except (ValueError, RecursionError):
            return {}
    return given if isinstance(given, Mapping) else {}


def _who(trigger: str) -> dict[str, str]:
    """Who started an execution: the session of an assumed role, or a user; nobody for a hook of a repository."""
    if ":assumed-role/" in trigger or ":user/" in trigger:
        return deployer(last_part(trigger))
    return {}


def _console(event: AwsEvent, pipeline: str, execution: str) -> str:
    if not event.region:
        return ""
    return (
        f"https://{event.region}.console.aws.amazon.com/codesuite/codepipeline/pipelines/{pipeline}"
        f"/executions/{execution}/timeline?region={event.region}"
    )
