"""Google Cloud Run: audit logs of its services, by a log sink and a push subscription of Pub/Sub, wrapped or not.

https://cloud.google.com/run/docs/audit-logging, https://cloud.google.com/pubsub/docs/push
Filter of the sink: protoPayload.serviceName="run.googleapis.com" AND resource.type="cloud_run_revision".

The admin activity entry of CreateService or ReplaceService begins a deployment, the system event in which `Ready`
changes ends it; the API of version 2 tells the end in the last entry of its operation. The generation of the service
names it. Set the push subscription to authenticate (OIDC); the issuer's kind in DEPLOYTRAIL_OIDC is `google`.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any

from deploytrail_schemas.json_values import JsonError, parse_json
from deploytrail_schemas.records import RecordType

from deploytrail._images import Image
from deploytrail.adapters.base import (
    Adapted,
    AdapterError,
    Defaults,
    Source,
    deployer,
    first,
    instant,
    items,
    mapping,
    placed,
    record,
    text,
    texts,
    usual,
)

NAME = "cloud_run"
ACCEPTED = "accepted"
# Of a call that the API took, of the condition Ready (version 1), and of terminalCondition (version 2).
STATUSES = {
    ACCEPTED: "started",
    "True": "succeeded",
    "False": "failed",
    "CONDITION_SUCCEEDED": "succeeded",
    "CONDITION_FAILED": "failed",
}
IGNORED = {
    "Unknown": "the service is not ready yet: its next entry tells how it ended",
    "CONDITION_PENDING": "the service is not ready yet: its next entry tells how it ended",
    "CONDITION_RECONCILING": "the service is not ready yet: its next entry tells how it ended",
}
_CALLS = ("CreateService", "ReplaceService", "UpdateService")
Payload = Mapping[str, Any]


def adapt(payload: Any, headers: Mapping[str, str], defaults: Defaults, received_at: int) -> Adapted:
    """One event an audit log entry; `received_at` where it has no time of its own."""
    del headers
    entry = _entry(payload)
    audit = mapping(entry, "protoPayload")
    if text(audit, "serviceName") != "run.googleapis.com":
        raise AdapterError("no audit log entry of Cloud Run: expected protoPayload.serviceName run.googleapis.com")
    call = text(audit, "methodName").rpartition(".")[2]
    is_event = text(entry, "logName").endswith("system_event")
    if "/services/" not in text(audit, "resourceName") or (not is_event and call not in _CALLS):
        return Adapted(ignored=f"{first(call, 'the entry')} of {text(audit, 'resourceName')} deploys no service")
    if code := text(audit, "status", "code"):
        return Adapted(ignored=f"Cloud Run refused the call (code {code}): nothing was deployed")
    service = mapping(audit, "response")
    if not service:
        return Adapted(ignored="the call has no answer yet: the end of its operation tells the deployment")
    if is_event:
        ready = _ready(service)
        state = text(ready, "status")
    else:
        ready = mapping(service, "terminalCondition")
        state = text(ready, "state") or ACCEPTED
    if state in IGNORED:
        return Adapted(ignored=IGNORED[state])
    return Adapted((_event(entry, service, ready, state, defaults, received_at),))


def _event(
    entry: Payload, service: Payload, ready: Payload, state: str, defaults: Defaults, received_at: int
) -> tuple[RecordType, dict[str, Any]]:
    labels, audit = mapping(entry, "resource", "labels"), mapping(entry, "protoPayload")
    name = first(text(labels, "service_name"), text(audit, "resourceName").rpartition("/")[2])
    region, project = text(labels, "location"), text(labels, "project_id")
    generation = first(text(service, "metadata", "generation"), text(service, "generation"), text(entry, "insertId"))
    template = mapping(service, "spec", "template", "spec") or mapping(service, "template")
    image = Image(next((text(one, "image") for one in items(template, "containers")), ""))
    annotations = mapping(service, "metadata", "annotations")
    who = first(
        text(audit, "authenticationInfo", "principalEmail"),
        text(annotations, "serving.knative.dev/lastModifier"),
        text(service, "lastModifier"),
    )
    revision = first(
        text(service, "status", "latestCreatedRevisionName"),
        text(service, "latestCreatedRevision").rpartition("/")[2],
    )
    event_type = STATUSES.get(state, "unknown")
    return record(
        RecordType.DEPLOYMENT_EVENT,
        NAME,
        (project, region, name, generation, state),
        placed(defaults, NAME, region=region, service=name),
        event_type=event_type,
        deployment_id=f"{NAME}:{project}:{region}:{name}:{generation}",
        occurred_at=instant(ready, "lastTransitionTime") or instant(entry, "timestamp") or received_at,
        # Before the end the newest revision that is known may be the one before.
        version=revision if event_type in ("succeeded", "failed") else "",
        artifact_digest=image.digest,
        artifact_uri=image.reference,
        raw_status=state,
        error=first(text(ready, "message"), text(audit, "status", "message")) if event_type == "failed" else "",
        tags=texts(project=project, client=text(annotations, "run.googleapis.com/client-name")),
        **deployer(who, bot=who.endswith(".gserviceaccount.com")),
    )


def _ready(service: Payload) -> Payload:
    conditions = items(service, "status", "conditions")
    return next((mapping(one) for one in conditions if text(one, "type") == "Ready"), {})


def _entry(payload: Any) -> Payload:
    """The log entry of a push, whether Pub/Sub wrapped it in a message or not."""
    data = mapping(payload, "message").get("data")
    if not isinstance(data, str):
        return mapping(payload)
    try:
        return mapping(parse_json(base64.b64decode(data, validate=True)))
    except (binascii.Error, ValueError, JsonError) as error:
        raise AdapterError("message.data of the push is no base64 of a JSON log entry") from error


SOURCE = Source(
    name=NAME,
    title="Google Cloud Run",
    adapt=adapt,
    statuses=STATUSES,
    ignored=IGNORED,
    fills={
        RecordType.DEPLOYMENT_EVENT: usual(
            RecordType.DEPLOYMENT_EVENT,
            *("version", "artifact_digest", "artifact_uri", "deployer", "deployer_type", "error", "raw_status", "tags"),
            never=("environment",),
        )
    },
    delivery=("/message/messageId", "/message/message_id"),
)
