"""HCP Terraform and Terraform Enterprise: each run of a workspace is a deployment, its drift an alert.

https://developer.hashicorp.com/terraform/cloud-docs/api-docs/notification-configurations, destination type `generic`.
The service is the workspace, where the webhook's URL names none; environment and region are the URL's. A verification,
which is sent when the configuration is saved, is answered and says nothing.
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

NAME = "terraform_cloud"
# https://developer.hashicorp.com/terraform/cloud-docs/api-docs/run#run-states. What only planned changed nothing.
STATUSES = {
    "pending": "queued",
    "fetching": "queued",
    "fetching_completed": "queued",
    "pre_plan_running": "queued",
    "pre_plan_completed": "queued",
    "pre_plan_awaiting_decision": "queued",
    "queuing": "queued",
    "plan_queued": "queued",
    "planning": "queued",
    "planned": "queued",
    "planned_and_finished": "cancelled",
    "planned_and_saved": "queued",
    "cost_estimating": "queued",
    "cost_estimated": "queued",
    "policy_checking": "queued",
    "policy_override": "queued",
    "policy_soft_failed": "cancelled",
    "policy_checked": "queued",
    "post_plan_running": "queued",
    "post_plan_completed": "queued",
    "post_plan_awaiting_decision": "queued",
    "confirmed": "queued",
    "queuing_apply": "queued",
    "apply_queued": "queued",
    "pre_apply_running": "started",
    "pre_apply_completed": "progressed",
    "pre_apply_awaiting_decision": "progressed",
    "applying": "started",
    "post_apply_running": "progressed",
    "post_apply_completed": "progressed",
    "applied": "succeeded",
    "discarded": "cancelled",
    "errored": "failed",
    "canceled": "cancelled",
    "force_canceled": "cancelled",
}
# Health assessments, and what each is of the alert.
ASSESSMENTS = {
    "assessment:drifted": "alert_firing",
    "assessment:check_failure": "alert_firing",
    "assessment:failed": "alert_firing",
}
Payload = Mapping[str, Any]


def adapt(payload: Any, headers: Mapping[str, str], defaults: Defaults, received_at: int) -> Adapted:
    """One event a notification of a run; of an assessment one signal."""
    del headers
    if not text(payload, "notification_configuration_id"):
        raise AdapterError("an HCP Terraform notification is a JSON object with notification_configuration_id")
    if text(payload, "trigger_scope") == "assessment" or text(payload, "trigger").startswith("assessment:"):
        return _assessment(payload, defaults, received_at)
    given = items(payload, "notifications")
    if any(text(notification, "trigger") == "verification" for notification in given):
        return Adapted(ignored="a verification: the notification configuration reaches this gateway")
    if not text(payload, "run_id"):
        return Adapted(ignored=f"{first(text(payload, 'trigger'), 'this notification')} is not about a run")
    found = tuple(
        _event(payload, notification, defaults, received_at)
        for notification in given
        if isinstance(notification, Mapping)
    )
    return Adapted(found, "" if found else "no notifications")


def _event(
    payload: Payload, notification: Payload, defaults: Defaults, received_at: int
) -> tuple[RecordType, dict[str, Any]]:
    run, status = text(payload, "run_id"), text(notification, "run_status")
    event_type = STATUSES.get(status, "unknown")
    at = instant(notification, "run_updated_at") or instant(payload, "run_created_at") or received_at
    return record(
        RecordType.DEPLOYMENT_EVENT,
        NAME,
        (run, status),
        placed(
            defaults,
            NAME,
            service=first(defaults.service, text(payload, "workspace_name")),
            host=host_of(text(payload, "run_url")),
        ),
        event_type=event_type,
        deployment_id=f"{NAME}:{run}",
        occurred_at=at,
        kind="infrastructure",
        version=run,
        build_system=NAME,
        build_id=run,
        build_url=text(payload, "run_url"),
        pipeline=text(payload, "workspace_name"),
        justification=text(payload, "run_message"),
        raw_status=status,
        error=first(text(notification, "message"), status) if event_type == "failed" else "",
        tags=texts(
            organization=text(payload, "organization_name"),
            workspace=text(payload, "workspace_name"),
            trigger=text(notification, "trigger"),
            updated_by=text(notification, "run_updated_by"),
        ),
        **deployer(text(payload, "run_created_by")),
    )


def _assessment(payload: Payload, defaults: Defaults, received_at: int) -> Adapted:
    details, trigger = mapping(payload, "details"), text(payload, "trigger")
    result = mapping(details, "new_assessment_result")
    workspace = first(text(details, "workspace_id"), text(payload, "workspace_id"))
    name = first(text(details, "workspace_name"), text(payload, "workspace_name"))
    if not text(result, "id") or not workspace:
        raise AdapterError("the payload's assessment has no id or no workspace")
    at = instant(result, "created_at") or received_at
    signal = record(
        RecordType.SIGNAL,
        NAME,
        (workspace, trigger, text(result, "id")),
        placed(defaults, NAME, service=first(defaults.service, name), host=host_of(_url(payload))),
        signal_type=ASSESSMENTS.get(trigger, "unknown"),
        occurred_at=at,
        fingerprint=f"{workspace}:{trigger}",
        severity="warning",
        title=first(text(payload, "message"), f"{name}: {trigger}"),
        started_at=at,
        labels=texts(
            organization=first(text(details, "organization_name"), text(payload, "organization_name")),
            workspace=name,
            trigger=trigger,
            resources_drifted=text(result, "resources_drifted"),
            checks_failed=text(result, "checks_failed"),
            url=text(result, "url"),
        ),
    )
    return Adapted((signal,))


def _url(payload: Payload) -> str:
    return first(text(payload, "run_url"), text(payload, "notification_configuration_url"))


SOURCE = Source(
    name=NAME,
    title="HCP Terraform and Terraform Enterprise",
    adapt=adapt,
    signature="terraform_cloud",
    statuses=STATUSES,
    fills={
        RecordType.DEPLOYMENT_EVENT: usual(
            RecordType.DEPLOYMENT_EVENT,
            *("kind", "version", "build_system", "build_id", "build_url", "pipeline", "justification", "deployer"),
            *("deployer_type", "error", "raw_status", "tags"),
            never=("environment", "region"),
        ),
        RecordType.SIGNAL: usual(
            RecordType.SIGNAL,
            *("fingerprint", "severity", "title", "started_at", "labels"),
            never=("environment", "region"),
        ),
    },
)
