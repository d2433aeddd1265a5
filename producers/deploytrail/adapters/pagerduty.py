"""PagerDuty webhooks, version 3: an incident that opens or ends is a signal.

https://developer.pagerduty.com/docs/webhooks-overview (event types, `event.data`). An incident opens when it
is triggered or reopened, and ends when it is resolved; what happens in between (who works on it, how urgent
it is found to be) opens no incident anew and is ignored. Of PagerDuty's event types outside incidents none
is a signal. An incident event that is not listed here is `unknown`, with its type as the label `raw_status`.

The severity is the incident's priority (P1, SEV-1, …), or else its urgency. PagerDuty names a service, and
neither region nor environment: give them in the webhook's URL, one subscription each.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from deploytrail_schemas.records import RecordType

from deploytrail.adapters import _monitoring as monitoring
from deploytrail.adapters.base import (
    Adapted,
    AdapterError,
    Defaults,
    Source,
    first,
    host_of,
    instant,
    items,
    mapping,
    text,
    texts,
    usual,
)

NAME = "pagerduty"
STATUSES = {
    "incident.triggered": "incident_opened",
    "incident.reopened": "incident_opened",
    "incident.resolved": "incident_resolved",
}
_WHO = "it says who works on an open incident"
_HOW_BAD = "it says how an open incident is judged; that it opened was told"
_TALK = "it says what people tell of an open incident"
IGNORED = {
    "incident.acknowledged": _WHO,
    "incident.unacknowledged": _WHO,
    "incident.escalated": _WHO,
    "incident.delegated": _WHO,
    "incident.reassigned": _WHO,
    "incident.responder.added": _WHO,
    "incident.responder.replied": _WHO,
    "incident.role.*": _WHO,
    "incident.task.*": _WHO,
    "incident.service_updated": _HOW_BAD,
    "incident.priority_updated": _HOW_BAD,
    "incident.urgency_updated": _HOW_BAD,
    "incident.title_updated": _HOW_BAD,
    "incident.custom_field_values.updated": _HOW_BAD,
    "incident.incident_type.changed": _HOW_BAD,
    "incident.annotated": _TALK,
    "incident.status_update_published": _TALK,
    "incident.conference_bridge.updated": _TALK,
    "incident.workflow.*": "a workflow of PagerDuty's is no change of the incident",
    "incident.action_invocation.*": "what a person ran by hand is no change of the incident",
    "pagey.ping": "it is PagerDuty's test of the webhook",
    "service.*": "it is about PagerDuty's own list of services",
}


def adapt(payload: Any, headers: Mapping[str, str], defaults: Defaults, received_at: int) -> Adapted:
    """One delivery is one event; sent again, out of order or not, it gives the same signal."""
    del headers
    event = mapping(payload, "event")
    kind = text(event, "event_type")
    if not kind:
        raise AdapterError("a PagerDuty v3 webhook is a JSON object with an event that has an event_type")
    if reason := _why_ignored(kind):
        return Adapted(ignored=f"PagerDuty's {kind}: {reason}")
    data = mapping(event, "data")
    # Notes, answers and their like name their incident beside themselves.
    incident = mapping(data, "incident") or data
    identity = text(incident, "id")
    if not identity:
        raise AdapterError("the event's data has no incident with an id")
    return Adapted((_signal(kind, event, incident, defaults, received_at),))


def _why_ignored(kind: str) -> str:
    family = ".".join(kind.split(".")[:-1]) + ".*"
    return (
        IGNORED.get(kind) or IGNORED.get(family) or ("" if kind.startswith("incident.") else "it is about no incident")
    )


def _signal(
    kind: str, event: Mapping[str, Any], incident: Mapping[str, Any], defaults: Defaults, received_at: int
) -> tuple[RecordType, dict[str, Any]]:
    identity, url = text(incident, "id"), text(incident, "html_url")
    happened, opened = instant(event, "occurred_at"), instant(incident, "created_at")
    signal_type, unknown = monitoring.type_of(STATUSES, kind)
    title = first(text(incident, "title"), text(incident, "summary"))
    client = text(event, "client", "name")
    labels = texts(
        url=url,
        number=text(incident, "number"),
        urgency=text(incident, "urgency"),
        priority=text(incident, "priority", "summary"),
        escalation_policy=text(incident, "escalation_policy", "summary"),
        teams=",".join(filter(None, (text(team, "summary") for team in items(incident, "teams")))),
        agent=text(event, "agent", "summary"),
        client=client,
        resolve_reason=text(incident, "resolve_reason", "type"),
    )
    return monitoring.signal(
        NAME,
        # Triggered once, an incident may be reopened and resolved several times: when tells them apart, and two
        # subscriptions that tell of the same one agree on it.
        (identity, kind, "" if kind == "incident.triggered" else first(text(event, "occurred_at"), text(event, "id"))),
        monitoring.place_of({}, defaults, NAME, host=host_of(url), hint=text(incident, "service", "summary")),
        signal_type=signal_type,
        occurred_at=happened or opened or received_at,
        fingerprint=first(text(incident, "incident_key"), identity),
        severity=monitoring.severity(text(incident, "priority", "summary"), text(incident, "urgency")),
        title=title,
        started_at=happened if kind == "incident.reopened" else opened,
        ended_at=happened if signal_type == "incident_resolved" else None,
        incident_id=identity,
        labels=labels | unknown,
        source=monitoring.source_of(NAME, {}, title=title, sender=client),
    )


SOURCE = Source(
    name=NAME,
    title="PagerDuty (webhooks v3)",
    adapt=adapt,
    signature="pagerduty",
    delivery=("/event/id",),
    statuses=STATUSES,
    ignored=IGNORED,
    fills={
        RecordType.SIGNAL: usual(
            RecordType.SIGNAL,
            *("fingerprint", "severity", "title", "started_at", "ended_at", "incident_id", "labels"),
            never=("environment", "region"),
        )
    },
)
