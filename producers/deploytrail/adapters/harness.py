"""Harness: pipeline notifications by webhook; each service that is deployed to an environment is a deployment.

https://developer.harness.io/docs/continuous-delivery/x-platform-cd-features/cd-steps/notify-users-of-pipeline-events.
Service and environment are in `moduleInfo`: `services` and `environments`, or below `cd` `serviceIdentifiers` and
`envIdentifiers`; else in the webhook's URL. Stage and pipeline events of one service, environment and execution are one
deployment, so that either or both may be sent; an end tells of its start too, since a Stage Start comes before Harness
knows what it deploys. A stage of which no environment is known deploys nothing; a pipeline of several environments is
told by its stages.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from deploytrail_schemas.records import RecordType

from deploytrail.adapters.base import (
    Adapted,
    AdapterError,
    Defaults,
    Source,
    deployer,
    first,
    host_of,
    instant,
    items,
    mapping,
    placed,
    record,
    text,
    texts,
    usual,
)

NAME = "harness"
# Event types; PipelineEnd says in nodeStatus how it ended.
# https://github.com/harness/harness-core: PipelineEventType.java and ExecutionStatus.java
STATUSES = {
    "PipelineStart": "started",
    "PipelineSuccess": "succeeded",
    "PipelineFailed": "failed",
    "PipelinePaused": "progressed",
    "StageStart": "started",
    "StageSuccess": "succeeded",
    "StageFailed": "failed",
    "PipelineEnd/completed": "succeeded",
    "PipelineEnd/success": "succeeded",
    "PipelineEnd/failed": "failed",
    "PipelineEnd/errored": "failed",
    "PipelineEnd/ignorefailed": "succeeded",
    "PipelineEnd/expired": "failed",
    "PipelineEnd/aborted": "cancelled",
    "PipelineEnd/abortedbyfreeze": "cancelled",
    "PipelineEnd/approvalrejected": "cancelled",
    "PipelineEnd/skipped": "cancelled",
}
Payload = Mapping[str, Any]


def adapt(payload: Any, headers: Mapping[str, str], defaults: Defaults, received_at: int) -> Adapted:
    """One event each service of the pipeline or stage."""
    del headers
    event = mapping(payload, "eventData") or mapping(payload)
    kind, execution = text(event, "eventType"), text(event, "planExecutionId")
    if not kind:
        raise AdapterError("a Harness notification is a JSON object with eventData.eventType")
    if kind in ("StepFailed", "TriggerFailed"):
        return Adapted(ignored=f"Harness' {kind} says nothing of a deployment")
    if not execution:
        raise AdapterError("the notification has no planExecutionId")
    info = mapping(event, "moduleInfo", "cd") or mapping(event, "moduleInfo")
    environments = _names(info, "environments", "envIdentifiers")
    if kind.startswith("Stage") and not environments:
        return Adapted(ignored="the stage names no environment: it deploys nothing")
    if kind.startswith("Pipeline") and len(environments) > 1:
        return Adapted(ignored="the pipeline deploys to several environments: its stages tell of each")
    if not environments and not defaults.environment:
        return Adapted(ignored="neither the pipeline nor the webhook's URL names an environment")
    services = _names(info, "services", "serviceIdentifiers") or [first(defaults.service, _pipeline(event))]
    return Adapted(
        tuple(
            _event(told, info, execution, environment, service, defaults, received_at)
            for environment in environments or [defaults.environment]
            for service in services
            for told in (*_start(event), event)
        )
    )


def _start(event: Payload) -> tuple[Payload, ...]:
    """The start of what an event tells the end of, as its own notification would tell it."""
    kind = text(event, "eventType")
    if instant(event, "endTs") is None or instant(event, "startTs") is None:
        return ()
    return (
        {**event, "eventType": "StageStart" if kind.startswith("Stage") else "PipelineStart", "nodeStatus": "started"},
    )


def _names(info: Payload, *keys: str) -> list[str]:
    """Names of a list of texts or of objects; an expression that was not resolved yet is none."""
    given = next(filter(None, (items(info, key) for key in keys)), [])
    found = (text(n) or first(text(n, "identifier"), text(n, "name")) for n in given)
    return list(dict.fromkeys(name for name in found if name and "<+" not in name))


def _pipeline(event: Payload) -> str:
    return first(text(event, "pipelineName"), text(event, "pipelineIdentifier"))


def _event(
    event: Payload,
    info: Payload,
    execution: str,
    environment: str,
    service: str,
    defaults: Defaults,
    received_at: int,
) -> tuple[RecordType, dict[str, Any]]:
    kind, node = text(event, "eventType"), text(event, "nodeStatus")
    word = f"{kind}/{node.lower()}" if kind == "PipelineEnd" else kind
    event_type = STATUSES.get(word, "unknown")
    over = event_type in ("succeeded", "failed", "cancelled")
    at = instant(event, "endTs") if over else instant(event, "startTs")
    scope = "/".join(text(event, name) for name in ("accountIdentifier", "orgIdentifier", "projectIdentifier"))
    by = mapping(event, "triggeredBy")
    artifacts = _names(info, "artifactDisplayNames", "artifacts")
    return record(
        RecordType.DEPLOYMENT_EVENT,
        NAME,
        (scope, execution, environment, service, word, text(event, "stageIdentifier")),
        placed(defaults, NAME, environment=environment, service=service, host=host_of(text(event, "executionUrl"))),
        event_type=event_type,
        deployment_id=f"{NAME}:{execution}:{environment}:{service}",
        occurred_at=at or received_at,
        version=artifacts[0] if len(artifacts) == 1 else "",
        build_system=NAME,
        build_id=execution,
        build_url=text(event, "executionUrl"),
        pipeline=_pipeline(event),
        stage=text(event, "stageName"),
        raw_status="/".join(filter(None, (kind, node))),
        error=first(text(event, "errorMessage"), node) if event_type == "failed" else "",
        tags=texts(
            organization=text(event, "orgIdentifier"),
            project=text(event, "projectIdentifier"),
            trigger=text(by, "triggerType"),
            infrastructure=", ".join(_names(info, "infrastructures", "infrastructureIdentifiers")),
        ),
        **deployer(first(text(by, "email"), text(by, "name")), bot=text(by, "triggerType") not in ("", "MANUAL")),
    )


SOURCE = Source(
    name=NAME,
    title="Harness",
    adapt=adapt,
    statuses=STATUSES,
    fills={
        RecordType.DEPLOYMENT_EVENT: usual(
            RecordType.DEPLOYMENT_EVENT,
            *("version", "build_system", "build_id", "build_url", "pipeline", "stage", "deployer", "deployer_type"),
            *("error", "raw_status", "tags"),
            never=("region",),
        )
    },
)
