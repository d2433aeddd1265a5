"""Datadog's DORA metrics API: its bodies of deployments and failures, for those who used to send them there.

https://docs.datadoghq.com/api/latest/dora-metrics/: POST /api/v2/dora/deployment, /failure and /incident, with the
header DD-API-KEY. A deployment is sent once it has finished, so that it becomes its start and its success; a failure
becomes an incident of each of its services. The region is the custom tag `region`, else what the webhook's URL says.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from deploytrail_schemas.records import RecordType

from deploytrail.adapters._repositories import repository_of
from deploytrail.adapters.base import (
    Adapted,
    AdapterError,
    Defaults,
    Source,
    first,
    instant,
    items,
    mapping,
    placed,
    record,
    text,
    usual,
)

NAME = "datadog_deployments"
# Severities are the sender's own words: Datadog's Incident Management says SEV-1 to SEV-5.
SEVERITIES = {"sev-0": "critical", "sev-1": "critical", "critical": "critical", "sev-2": "error", "high": "error",
              "error": "error", "sev-3": "warning", "medium": "warning", "warning": "warning", "sev-4": "info",
              "sev-5": "info", "low": "info", "info": "info"}  # fmt: skip
Payload = Mapping[str, Any]


def adapt(payload: Any, headers: Mapping[str, str], defaults: Defaults, received_at: int) -> Adapted:
    """Two events of a deployment; of a failure one signal a service, and one more where it has ended."""
    del headers, received_at
    data = mapping(payload, "data")
    given = mapping(data, "attributes")
    if not given:
        raise AdapterError("a body of Datadog's DORA API is a JSON object with data.attributes")
    if text(data, "type").endswith("_patch_request"):
        return Adapted(ignored="a correction of a deployment names neither its service nor its environment")
    if instant(given, "started_at") is None:
        raise AdapterError(
            "data.attributes.started_at is missing or no Unix time of seconds, milliseconds or nanoseconds"
        )
    return Adapted(tuple(_deployment(given, defaults) if text(given, "service") else _failure(given, defaults)))


def _deployment(given: Payload, defaults: Defaults) -> list[tuple[RecordType, dict[str, Any]]]:
    tags = _tags(given)
    service, begun, ended = text(given, "service"), instant(given, "started_at"), instant(given, "finished_at")
    place = _place(given, tags, defaults, service)
    # Datadog makes up an id where the sender gives none; what was deployed when is as good.
    known_as = first(text(given, "id"), f"{service}:{text(given, 'env')}:{begun}:{text(given, 'git', 'commit_sha')}")
    times = {"started": begun} | ({"succeeded": ended} if ended is not None else {})
    return [
        record(
            RecordType.DEPLOYMENT_EVENT,
            NAME,
            (known_as, event_type),
            place,
            event_type=event_type,
            deployment_id=f"{NAME}:{known_as}",
            occurred_at=at,
            team=first(text(given, "team"), tags.get("team", "")),
            version=text(given, "version"),
            commit_sha=text(given, "git", "commit_sha"),
            repository=repository_of(text(given, "git", "repository_url")),
            tags=tags,
        )
        for event_type, at in times.items()
    ]


def _failure(given: Payload, defaults: Defaults) -> list[tuple[RecordType, dict[str, Any]]]:
    tags = _tags(given)
    begun, ended = instant(given, "started_at"), instant(given, "finished_at")
    name, severity = text(given, "name"), text(given, "severity")
    services = [text(service) for service in items(given, "services") if text(service)]
    known_as = first(text(given, "id"), f"{name}:{text(given, 'env')}:{begun}")
    times = {"incident_opened": begun} | ({"incident_resolved": ended} if ended is not None else {})
    return [
        record(
            RecordType.SIGNAL,
            NAME,
            (known_as, service, signal_type),
            _place(given, tags, defaults, service),
            signal_type=signal_type,
            occurred_at=at,
            fingerprint=f"{known_as}:{service}" if service else known_as,
            severity=SEVERITIES.get(severity.lower(), "unknown"),
            title=first(name, known_as),
            started_at=begun,
            ended_at=ended if signal_type == "incident_resolved" else None,
            incident_id=known_as,
            labels=tags
            | {
                label: said
                for label, said in {
                    "severity": severity,
                    "team": text(given, "team"),
                    "version": text(given, "version"),
                    "commit_sha": text(given, "git", "commit_sha"),
                }.items()
                if said
            },
        )
        for service in services or [""]
        for signal_type, at in times.items()
    ]


def _place(given: Payload, tags: Mapping[str, str], defaults: Defaults, service: str) -> dict[str, str]:
    return placed(
        defaults, NAME, region=tags.get("region", ""), environment=text(given, "env"), service=service, host=""
    )


def _tags(given: Payload) -> dict[str, str]:
    """custom_tags: a list of `key:value`."""
    pairs = (text(tag).partition(":") for tag in items(given, "custom_tags"))
    return {name.strip(): value.strip() for name, _, value in pairs if name.strip() and value.strip()}


SOURCE = Source(
    name=NAME,
    title="Datadog DORA metrics API",
    adapt=adapt,
    signature="datadog_api_key",
    fills={
        RecordType.DEPLOYMENT_EVENT: usual(
            RecordType.DEPLOYMENT_EVENT, "team", "version", "commit_sha", "repository", "tags"
        ),
        RecordType.SIGNAL: usual(
            RecordType.SIGNAL,
            *("fingerprint", "severity", "title", "started_at", "ended_at", "incident_id", "labels"),
        ),
    },
)
