"""AWS: CodeDeploy, CodePipeline, CodeBuild, ECS and CloudWatch alarms, by EventBridge, SNS, SQS or Lambda.

Body: an event of EventBridge, an SNS message around one (or raw), a list of these, or the batch that
a Lambda is given. Region and account are the event's; each deployment is named after them.

Tell of each deployment once: where CodePipeline starts CodeDeploy or ECS, let the EventBridge rule
match the events of one of them, or say `?pipelines=none`. What a pipeline is, the URL decides:
`_aws_code.codepipeline`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from deploytrail_schemas.records import RecordType

from deploytrail.adapters import _aws_code as code
from deploytrail.adapters import _aws_running as running
from deploytrail.adapters._aws_event import NAME, AwsEvent, events
from deploytrail.adapters.base import Adapted, AdapterError, Defaults, Source, mapping, text, usual

_BY_KIND: dict[str, Callable[[AwsEvent], Adapted]] = {
    "CodeDeploy Deployment State-change Notification": code.codedeploy,
    "CodeDeploy Instance State-change Notification": code.codedeploy,
    "CodePipeline Pipeline Execution State Change": code.codepipeline,
    "CodePipeline Stage Execution State Change": code.codepipeline,
    "CodePipeline Action Execution State Change": code.codepipeline,
    "CodeBuild Build State Change": code.codebuild,
    "CodeBuild Build Phase Change": code.codebuild,
    "ECS Deployment State Change": running.ecs_deployment,
    "ECS Service Action": running.ecs_action,
    "ECS Task State Change": running.ecs_task,
    "CloudWatch Alarm State Change": running.alarm,
}
_UNTOLD = {
    "ECR Image Action": "an image in a registry runs nowhere yet",
    "ECR Image Scan": "a scan is no deployment",
    "ECS Container Instance State Change": "the machines below the tasks are no deployment",
}


def adapt(payload: Any, headers: Mapping[str, str], defaults: Defaults, received_at: int) -> Adapted:
    """A body that AWS posts, whatever it is wrapped in."""
    del headers
    return events(payload, defaults, received_at, _adapt)


def _adapt(event: AwsEvent) -> Adapted:
    if event.kind in _BY_KIND:
        return _BY_KIND[event.kind](event)
    if event.kind:
        why = _UNTOLD.get(event.kind, "it says nothing of a deployment")
        return Adapted(ignored=f"{event.kind}: {why}")
    message = event.message
    if text(message, "AlarmName"):
        return running.alarm(event)
    if text(message, "eventTriggerName") and text(message, "deploymentId"):
        return code.codedeploy(event)
    if mapping(message, "approval"):
        return code.approval_wanted(event)
    if "CodePipeline.job" in message:
        return Adapted(ignored="a job of CodePipeline is work for a Lambda, with credentials: do not post it")
    raise AdapterError("no AWS event: expected detail-type and detail, an SNS message, or a list of these")


SOURCE = Source(
    name=NAME,
    title="AWS (CodeDeploy, CodePipeline, CodeBuild, ECS, CloudWatch)",
    adapt=adapt,
    signature="sns",
    statuses={
        **{f"codedeploy {word}": ours for word, ours in code.CODEDEPLOY.items()},
        **{f"codepipeline {word}": ours for word, ours in code.CODEPIPELINE.items()},
        **{f"codepipeline approval {word}": ours for word, ours in code.APPROVAL.items()},
        **{f"codebuild {word}": ours for word, ours in code.CODEBUILD.items()},
        **{f"ecs {word}": ours for word, ours in running.ECS_DEPLOYMENT.items()},
        **{f"ecs task {word}": ours for word, ours in running.ECS_TASK.items()},
        **dict.fromkeys((f"ecs action {word}" for word in running.ECS_ACTION), "health_check"),
        **{f"cloudwatch {word}": ours for word, ours in running.ALARM.items()},
    },
    ignored={
        **_UNTOLD,
        "CodeBuild Build Phase Change": "a phase is a part of its build",
        **dict.fromkeys(
            (f"ecs task {word}" for word in running.ECS_TASK_ON_THE_WAY), "it neither runs nor has stopped"
        ),
    },
    options={
        code.PIPELINES: "what of a pipeline is a deployment: its `executions` (where the URL names the environment), "
        "its deploy `actions` (else), or `none`"
    },
    # SNS signs what it calls a message; EventBridge calls an event the same when it sends it again.
    delivery=("/MessageId", "/id"),
    fills={
        RecordType.DEPLOYMENT_EVENT: usual(
            RecordType.DEPLOYMENT_EVENT,
            *("kind", "strategy", "rollback_of", "instance", "version", "commit_sha", "repository", "ref"),
            *("build_system", "build_id", "build_number", "build_url", "pipeline", "job", "stage"),
            *("deployer", "deployer_type", "error", "raw_status", "tags"),
        ),
        RecordType.APPROVAL: usual(RecordType.APPROVAL, "deployment_id", "justification", "valid_until", "tags"),
        RecordType.OBSERVATION: usual(
            RecordType.OBSERVATION, "cluster", "instance", "version", "artifact_digest", "tags"
        ),
        RecordType.SIGNAL: usual(
            RecordType.SIGNAL,
            *("fingerprint", "severity", "title", "started_at", "ended_at", "healthy", "value", "labels"),
        ),
    },
)
