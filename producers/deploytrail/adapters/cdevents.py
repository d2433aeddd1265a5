"""CDEvents 0.4 and 0.5 (https://cdevents.dev): services deployed, incidents, over CloudEvents.

A `service.deployed` is the end of a deployment, not its start: it becomes one that succeeded. The
service is the subject; the region is `region` of customData.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

from deploytrail_schemas.ids import name_based_id
from deploytrail_schemas.records import RecordType

from deploytrail.adapters.base import (
    OTHER_REGION,
    UNKNOWN_PLACE,
    Adapted,
    AdapterError,
    Defaults,
    Source,
    first,
    instant,
    mapping,
    text,
)

NAME = "cdevents"
DEPLOYMENTS = {"deployed": "unknown", "upgraded": "unknown", "rolledback": "rollback"}
OBSERVATIONS = {"published": "running", "removed": "removed"}
INCIDENTS = {"detected": "incident_opened", "reported": "incident_opened", "resolved": "incident_resolved"}
_SEVERITIES = {"critical": "critical", "high": "error", "error": "error", "medium": "warning", "warning": "warning",
               "low": "info", "info": "info"}  # fmt: skip


def adapt(payload: Any, headers: Mapping[str, str], defaults: Defaults, received_at: int) -> Adapted:
    """The CDEvent may be the body itself or the data of a structured CloudEvent."""
    event = mapping(payload, "data") if mapping(payload, "data", "context") else payload
    context, subject = mapping(event, "context"), mapping(event, "subject")
    name = text(context, "type") or headers.get("ce-type", "")
    parts = name.split(".")
    if len(parts) < 5 or parts[:2] != ["dev", "cdevents"]:
        raise AdapterError(f"the event's type is {name!r}; expected dev.cdevents.SUBJECT.PREDICATE.VERSION")
    if not text(context, "id"):
        raise AdapterError("the event's context has no id")
    what, happened = parts[2], parts[3]
    place = _place(event, subject, defaults)
    occurred_at = instant(context, "timestamp") or received_at
    event_id = name_based_id(NAME, text(context, "source"), text(context, "id"), name)
    if what == "service" and happened in DEPLOYMENTS:
        return _one(RecordType.DEPLOYMENT_EVENT, _deployment(context, subject, place, happened), event_id, occurred_at)
    if what == "service" and happened in OBSERVATIONS:
        value = {"observation_type": OBSERVATIONS[happened], **_artifact(subject)}
        value = {name: value[name] for name in ("observation_type", "version", "artifact_digest") if name in value}
        return _one(RecordType.OBSERVATION, place | value, event_id, occurred_at)
    if what == "incident" and happened in INCIDENTS:
        return _one(RecordType.SIGNAL, _incident(event, subject, place, happened), event_id, occurred_at)
    return Adapted(ignored=f"{what}.{happened} says nothing of a deployment or an incident")


def _one(kind: RecordType, value: dict[str, Any], record_id: str, occurred_at: int) -> Adapted:
    return Adapted(((kind, value | {kind.id_field: record_id, "occurred_at": occurred_at, "source": NAME}),))


def _place(event: object, subject: Mapping[str, Any], defaults: Defaults) -> dict[str, Any]:
    content = mapping(subject, "content")
    return {
        "region": first(text(event, "customData", "region"), defaults.region, OTHER_REGION),
        "environment": first(text(content, "environment", "id"), defaults.environment, UNKNOWN_PLACE),
        "service": first(text(content, "service", "id"), defaults.service, text(subject, "id"), UNKNOWN_PLACE),
        "producer_id": f"{NAME}:{text(event, 'context', 'source')}",
    }


def _deployment(
    context: Mapping[str, Any], subject: Mapping[str, Any], place: dict[str, Any], happened: str
) -> dict[str, Any]:
    chain = first(text(context, "chainId"), f"{text(context, 'source')}:{text(context, 'id')}")
    return place | {
        "deployment_id": f"{NAME}:{chain}:{text(subject, 'id')}",
        "event_type": "succeeded",
        "kind": DEPLOYMENTS[happened],
        "raw_status": happened,
        **_artifact(subject),
    }


def _artifact(subject: Mapping[str, Any]) -> dict[str, str]:
    """Digest or version out of a package URL (https://github.com/package-url/purl-spec)."""
    uri = text(subject, "content", "artifactId")
    version = unquote(uri.partition("?")[0].rpartition("@")[2]) if "@" in uri else ""
    found = {"artifact_uri": uri, "version": version}
    return found | {"artifact_digest": version} if version.startswith("sha256:") else found


def _incident(event: object, subject: Mapping[str, Any], place: dict[str, Any], happened: str) -> dict[str, Any]:
    content, custom = mapping(subject, "content"), mapping(event, "customData")
    severity = first(text(custom, "severity"), "error").lower()
    return place | {
        "signal_type": INCIDENTS[happened],
        "fingerprint": f"{text(subject, 'source')}:{text(subject, 'id')}",
        "severity": _SEVERITIES.get(severity, "unknown"),
        "title": first(text(content, "description"), text(subject, "id")),
        "incident_id": text(subject, "id"),
        "ticket_id": text(content, "ticketURI"),
        "labels": {name: text(custom, name) for name in custom if isinstance(name, str) and text(custom, name)},
    }


SOURCE = Source(
    name=NAME,
    title="CDEvents and CloudEvents",
    adapt=adapt,
    signature="standard_webhooks",
    statuses={},
    fills={
        RecordType.DEPLOYMENT_EVENT: frozenset(
            {
                *("event_id", "event_type", "deployment_id", "occurred_at", "region", "environment", "service"),
                *("producer_id", "kind", "version", "artifact_digest", "artifact_uri", "source", "raw_status"),
            }
        ),
        RecordType.OBSERVATION: frozenset(
            {
                *("observation_id", "observation_type", "occurred_at", "region", "environment", "service"),
                *("producer_id", "version", "artifact_digest", "source"),
            }
        ),
        RecordType.SIGNAL: frozenset(
            {
                *("signal_id", "signal_type", "occurred_at", "region", "environment", "service", "producer_id"),
                *("source", "fingerprint", "severity", "title", "incident_id", "ticket_id", "labels"),
            }
        ),
    },
)
