"""Opsgenie's webhook integration, and Jira Service Management's, which is the same: an alert that opens or closes.

https://support.atlassian.com/opsgenie/docs/integrate-opsgenie-with-webhook/. An alert fires when it is
created and ends when it is closed or deleted; every other action is about who works on it. Several
integrations may be told of one creation: it is one signal. An action that is not listed here (a custom
action has any name) is `unknown`, with its name as the label `raw_status`.

Tick "Add alert description" and "Add alert details": details, and tags of the form `service:checkout`, say
where it is, else the alert's entity hints at a service.
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
    instant,
    items,
    mapping,
    text,
    texts,
    usual,
)

NAME = "opsgenie"
STATUSES = {"Create": "alert_firing", "Close": "alert_resolved", "Delete": "alert_resolved"}
_WHO = "it says who works on an open alert"
_WHAT = "it changes what is said of an open alert; that it opened was told"
IGNORED = {
    "Acknowledge": _WHO,
    "UnAcknowledge": _WHO,
    "AssignOwnership": _WHO,
    "TakeOwnership": _WHO,
    "AddRecipient": _WHO,
    "AddResponder": _WHO,
    "AddTeam": _WHO,
    "EscalateNext": _WHO,
    "Escalate": _WHO,
    "Snooze": _WHO,
    "SnoozeEnded": _WHO,
    "AddNote": _WHAT,
    "AddTags": _WHAT,
    "RemoveTags": _WHAT,
    "AddDetails": _WHAT,
    "RemoveDetails": _WHAT,
    "UpdatePriority": _WHAT,
    "UpdateMessage": _WHAT,
    "UpdateDescription": _WHAT,
}


def adapt(payload: Any, headers: Mapping[str, str], defaults: Defaults, received_at: int) -> Adapted:
    """One delivery is one action on one alert."""
    del headers
    alert, action = mapping(payload, "alert"), text(payload, "action")
    identity = text(alert, "alertId")
    if not action or not identity:
        raise AdapterError("an Opsgenie webhook is a JSON object with an action and an alert that has an alertId")
    if action in IGNORED:
        return Adapted(ignored=f"Opsgenie's {action}: {IGNORED[action]}")
    return Adapted((_signal(action, payload, alert, defaults, received_at),))


def _signal(
    action: str, payload: Mapping[str, Any], alert: Mapping[str, Any], defaults: Defaults, received_at: int
) -> tuple[RecordType, dict[str, Any]]:
    identity, title = text(alert, "alertId"), text(alert, "message")
    signal_type, unknown = monitoring.type_of(STATUSES, action)
    # createdAt counts milliseconds, updatedAt nanoseconds.
    opened, changed = instant(alert, "createdAt"), instant(alert, "updatedAt")
    resolved = signal_type == "alert_resolved"
    own = monitoring.labels_of_tags(items(alert, "tags")) | monitoring.plain_labels(mapping(alert, "details"))
    labels = own | texts(
        alert_id=identity,
        tiny_id=text(alert, "tinyId"),
        entity=text(alert, "entity"),
        priority=text(alert, "priority"),
        username=text(alert, "username"),
        integration=text(payload, "integrationName"),
    )
    return monitoring.signal(
        NAME,
        # A closed alert is never opened again: the next one of its alias is another alert.
        (identity, signal_type, "" if action in STATUSES else f"{action} {text(alert, 'updatedAt')}"),
        monitoring.place_of(own, defaults, NAME, hint=text(alert, "entity")),
        signal_type=signal_type,
        occurred_at=(opened if action == "Create" else changed) or received_at,
        fingerprint=first(text(alert, "alias"), identity),
        severity=monitoring.severity(text(alert, "priority")),
        title=title,
        started_at=opened,
        ended_at=(changed or received_at) if resolved else None,
        labels=labels | unknown,
        source=monitoring.source_of(NAME, own, title=title, sender=text(alert, "source")),
    )


SOURCE = Source(
    name=NAME,
    title="Opsgenie and Jira Service Management alerts",
    adapt=adapt,
    statuses=STATUSES,
    ignored=IGNORED,
    fills={
        RecordType.SIGNAL: usual(
            RecordType.SIGNAL,
            *("fingerprint", "severity", "title", "started_at", "ended_at", "labels"),
        )
    },
)
