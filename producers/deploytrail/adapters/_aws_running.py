"""Amazon ECS, ECR and CloudWatch alarms: what is rolled out, what runs, and how it does.

https://docs.aws.amazon.com/AmazonECS/latest/developerguide/ecs_cwe_events.html,
https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/cloudwatch-and-eventbridge.html
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from deploytrail_schemas.records import RecordType

from deploytrail.adapters._aws_event import AwsEvent, Record, last_part
from deploytrail.adapters.base import Adapted, AdapterError, first, instant, items, mapping, text, texts

ECS_DEPLOYMENT = {
    "SERVICE_DEPLOYMENT_IN_PROGRESS": "started",
    "SERVICE_DEPLOYMENT_COMPLETED": "succeeded",
    "SERVICE_DEPLOYMENT_FAILED": "failed",
}
ECS_TASK = {"RUNNING": "running", "STOPPED": "removed", "DELETED": "removed"}
# On the way between the two: https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task-lifecycle-explanation.html
ECS_TASK_ON_THE_WAY = (
    *("PROVISIONING", "PENDING", "ACTIVATING"),
    *("DEACTIVATING", "STOPPING", "DEPROVISIONING"),
)
# Actions of a service that say how it does; whether that is well.
ECS_ACTION = {
    "SERVICE_STEADY_STATE": True,
    "TASKSET_STEADY_STATE": True,
    "SERVICE_TASK_START_IMPAIRED": False,
    "SERVICE_DISCOVERY_INSTANCE_UNHEALTHY": False,
    "SERVICE_DAEMON_PLACEMENT_CONSTRAINT_VIOLATED": False,
    "SERVICE_DISCOVERY_OPERATION_THROTTLED": False,
    "SERVICE_TASK_PLACEMENT_FAILURE": False,
    "SERVICE_TASK_CONFIGURATION_FAILURE": False,
    "SERVICE_HEALTH_UNKNOWN": False,
    "ECS_OPERATION_THROTTLED": False,
}
ALARM = {"ALARM": "alert_firing", "OK": "alert_resolved", "INSUFFICIENT_DATA": "unknown"}
_EVENT_TYPES = {"INFO": "info", "WARN": "warning", "ERROR": "error"}
# AWS gives alarms no severity: people write it into their names.
_SEVERITIES = {
    **dict.fromkeys(("critical", "crit", "page", "p1", "sev1"), "critical"),
    **dict.fromkeys(("error", "high", "p2", "sev2"), "error"),
    **dict.fromkeys(("warning", "warn", "p3", "sev3"), "warning"),
    **dict.fromkeys(("info", "low", "p4", "sev4"), "info"),
}
_SERVICE_DIMENSIONS = ("ServiceName", "Service", "FunctionName", "ApiName", "ApplicationName")
_ENVIRONMENT_DIMENSIONS = ("Environment", "EnvironmentName", "Stage")
_REGION = re.compile(r"[a-z]{2,3}(-[a-z]+){1,2}-[0-9]{1,2}")


def ecs_deployment(event: AwsEvent) -> Adapted:
    """A rolling deployment of a service. Going back to the one before is a deployment of its own, as ECS does it."""
    cluster, service = _service_of(event)
    number, name = text(event.detail, "deploymentId"), text(event.detail, "eventName")
    if not number:
        raise AdapterError("an ECS deployment event has no deploymentId")
    event_type, reason = ECS_DEPLOYMENT.get(name, "unknown"), text(event.detail, "reason")
    return _one(
        event.record(
            RecordType.DEPLOYMENT_EVENT,
            *("ecs", cluster, service, number, name),
            at=instant(event.detail, "updatedAt"),
            environment=first(event.defaults.environment, cluster),
            service=service,
            event_type=event_type,
            deployment_id=event.id_of("ecs", cluster, service, number),
            kind="rollback" if "rolling back" in reason else "unknown",
            strategy="rolling",
            error=reason if event_type == "failed" else "",
            raw_status=name,
            tags=texts(cluster=cluster, reason=reason),
        )
    )


def ecs_action(event: AwsEvent) -> Adapted:
    """How a service does, as a health check."""
    cluster, service = _service_of(event)
    name, kind = text(event.detail, "eventName"), text(event.detail, "eventType")
    if name not in ECS_ACTION:
        return Adapted(ignored=f"ECS's {name or 'unnamed'} action says nothing of how the service does")
    return _one(
        event.record(
            RecordType.SIGNAL,
            *("ecs-action", cluster, service, name, str(event.at)),
            at=instant(event.detail, "createdAt"),
            environment=first(event.defaults.environment, cluster),
            service=service,
            signal_type="health_check",
            fingerprint=event.id_of("ecs", cluster, service, "health"),
            severity=_EVENT_TYPES.get(kind, "unknown"),
            title=first(text(event.detail, "reason"), name),
            healthy=ECS_ACTION[name],
            labels=texts(cluster=cluster, action=name),
        )
    )


def ecs_task(event: AwsEvent) -> Adapted:
    """A task that runs, or runs no more: the container that is named after its service, else the first."""
    detail = event.detail
    state, task = text(detail, "lastStatus"), last_part(text(detail, "taskArn"))
    if not task:
        raise AdapterError("an ECS task event has no taskArn")
    if state not in ECS_TASK:
        what = "is on its way" if state in ECS_TASK_ON_THE_WAY else "is no state of a task that we know"
        return Adapted(ignored=f"a task that is {state or 'in no state'} neither runs nor has stopped: it {what}")
    group = text(detail, "group")
    definition = text(detail, "taskDefinitionArn").rpartition("/")[2]
    service = first(group.partition(":")[2], definition.partition(":")[0])
    named = {text(container, "name"): container for container in items(detail, "containers")}
    name = service if service in named else next(iter(named), "")
    image = text(named.get(name), "image")
    cluster = last_part(text(detail, "clusterArn"))
    others = [other for other in named if other not in ("", name)]
    return _one(
        event.record(
            RecordType.OBSERVATION,
            *("ecs-task", cluster, task, state),
            at=instant(detail, "updatedAt"),
            environment=first(event.defaults.environment, cluster),
            service=service,
            observation_type=ECS_TASK[state],
            cluster=cluster,
            instance=task,
            version=_tag_of(image),
            artifact_digest=first(text(named.get(name), "imageDigest"), image.partition("@")[2]),
            tags=texts(
                task_definition=definition,
                deployment=text(detail, "startedBy"),
                image=image,
                container=name,
                other_containers=",".join(others),
                stopped=text(detail, "stoppedReason"),
            ),
        )
    )


def alarm(event: AwsEvent) -> Adapted:
    """An alarm of CloudWatch: an EventBridge event, or what the alarm itself sends to a topic."""
    told = event.detail or event.message
    own = not event.detail
    name = first(text(told, "alarmName"), text(told, "AlarmName"))
    if not name:
        raise AdapterError("a CloudWatch alarm has no name")
    state = first(text(told, "state", "value"), text(told, "NewStateValue"))
    at = instant(told, "state", "timestamp") or instant(told, "StateChangeTime") or event.at
    arn = first(text(told, "AlarmArn"), next(iter(event.resources), ""))
    of_arn = arn.split(":") if arn.count(":") > 4 else [""] * 6
    # In its own message the region is a name for people, "EU (Ireland)"; the ARN has its code.
    code = of_arn[3] if _REGION.fullmatch(of_arn[3]) else ""
    region = first(code, text(told, "Region") if _REGION.fullmatch(text(told, "Region")) else "") if own else ""
    dimensions = _dimensions(told)
    signal_type = ALARM.get(state, "unknown")
    before = first(text(told, "previousState", "value"), text(told, "OldStateValue"))
    return _one(
        event.record(
            RecordType.SIGNAL,
            *("alarm", first(arn, name), state, str(at)),
            at=at,
            region=region,
            environment=first(*(dimensions.get(d, "") for d in _ENVIRONMENT_DIMENSIONS)),
            service=first(*(dimensions.get(d, "") for d in _SERVICE_DIMENSIONS)),
            signal_type=signal_type,
            fingerprint=first(arn, f"{event.account}:{event.region}:{name}"),
            severity=_severity(name),
            title=name,
            started_at=at if signal_type == "alert_firing" else None,
            ended_at=at if signal_type == "alert_resolved" else None,
            value=_value(told),
            labels=dimensions
            | texts(
                state=state,
                before=before,
                reason=first(text(told, "state", "reason"), text(told, "NewStateReason")),
                description=first(text(told, "configuration", "description"), text(told, "AlarmDescription")),
            ),
        )
    )


def _one(record: Record) -> Adapted:
    return Adapted((record,))


def _service_of(event: AwsEvent) -> tuple[str, str]:
    """Cluster and service of `arn:aws:ecs:REGION:ACCOUNT:service/CLUSTER/SERVICE`; older ARNs lack the cluster."""
    arn = next((arn for arn in event.resources if ":service/" in arn), "")
    parts = arn.partition(":service/")[2].split("/")
    if not parts[0]:
        raise AdapterError("an ECS event names no service among its resources")
    return parts[0] if len(parts) > 1 else last_part(text(event.detail, "clusterArn")), parts[-1]


def _tag_of(image: str) -> str:
    tag = image.partition("@")[0].rpartition("/")[2].partition(":")[2]
    return "" if tag == "latest" else tag


def _severity(name: str) -> str:
    words = re.findall(r"[a-z0-9]+", name.lower())
    return next((_SEVERITIES[word] for word in words if word in _SEVERITIES), "unknown")


def _dimensions(told: Mapping[str, Any]) -> dict[str, str]:
    """What the alarm's metrics are about; the first metric that says it."""
    found: dict[str, str] = {}
    metrics = [
        *(mapping(m, "metricStat", "metric") for m in items(told, "configuration", "metrics")),
        *(mapping(m, "MetricStat", "Metric") for m in items(told, "Trigger", "Metrics")),
        mapping(told, "Trigger"),
    ]
    for metric in metrics:
        for name, value in mapping(metric, "dimensions").items():
            found.setdefault(str(name), text(value))
        for pair in items(metric, "Dimensions"):
            found.setdefault(text(pair, "name"), text(pair, "value"))
    return {name: value for name, value in found.items() if name and value}


def _value(told: Mapping[str, Any]) -> float | None:
    """The latest data point of the metric, where the alarm says it."""
    data: Any = text(told, "state", "reasonData")
    try:
        data = json.loads(data) if data else {}
    except (ValueError, RecursionError):
        return None
    points = items(data, "recentDatapoints")
    last = points[-1] if points else None
    return float(last) if isinstance(last, (int, float)) and not isinstance(last, bool) and abs(last) < 1e300 else None
