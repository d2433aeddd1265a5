"""Datadog monitors by the webhook integration: a monitor that alerts or recovers is a signal.

https://docs.datadoghq.com/integrations/webhooks/. Datadog lets its users write the payload; give the
webhook this one, and a custom header {"Authorization": "Bearer …"}:

    {"id": "$ID", "alert_id": "$ALERT_ID", "alert_cycle_key": "$ALERT_CYCLE_KEY", "aggreg_key": "$AGGREG_KEY",
     "transition": "$ALERT_TRANSITION", "alert_type": "$ALERT_TYPE", "priority": "$ALERT_PRIORITY",
     "title": "$ALERT_TITLE", "metric": "$ALERT_METRIC", "scope": "$ALERT_SCOPE", "tags": "$TAGS",
     "hostname": "$HOSTNAME", "link": "$LINK", "org_id": "$ORG_ID", "date": "$DATE", "last_updated": "$LAST_UPDATED"}

A variable that Datadog has no value for stays as it is written, or becomes `null`: both count as nothing. A
monitor that alerts again in the same cycle (Re-Triggered, Renotify) is the same signal; one that goes from a
warning to an alert is another, worse one. Missing data is an alert. A transition that is not listed here is
`unknown`, with its name as the label `raw_status`. The monitor's tags say where it is.
"""

from __future__ import annotations

import re
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
    text,
    texts,
    usual,
)

NAME = "datadog_monitors"
STATUSES = {
    "Triggered": "alert_firing",
    "Re-Triggered": "alert_firing",
    "Renotify": "alert_firing",
    "Warn": "alert_firing",
    "Re-Warn": "alert_firing",
    "No Data": "alert_firing",
    "Re-No Data": "alert_firing",
    "Recovered": "alert_resolved",
    "Warn Recovered": "alert_resolved",
    "No Data Recovered": "alert_resolved",
}
_WARNINGS = frozenset({"Warn", "Re-Warn"})
_BEGINS = frozenset({"Triggered", "Warn", "No Data"})
_UNFILLED = re.compile(r"\$[A-Z_]+(\[[^\]]*\])?|null|None|N/A", re.ASCII)


def adapt(payload: Any, headers: Mapping[str, str], defaults: Defaults, received_at: int) -> Adapted:
    """One notification of one monitor."""
    del headers
    monitor, transition = _given(payload, "alert_id"), _given(payload, "transition")
    if not monitor:
        raise AdapterError(
            "the payload has no alert_id; give Datadog's webhook the payload that deploytrail documents "
            "(deploytrail adapters datadog_monitors)"
        )
    if not transition:
        return Adapted(ignored="Datadog names no transition: this is a test, or no monitor's notification")
    return Adapted((_signal(monitor, transition, payload, defaults, received_at),))


def _signal(
    monitor: str, transition: str, payload: Mapping[str, Any], defaults: Defaults, received_at: int
) -> tuple[RecordType, dict[str, Any]]:
    signal_type, unknown = monitoring.type_of(STATUSES, transition)
    tags = [*_tags(payload, "tags"), *_tags(payload, "scope")]
    own = monitoring.labels_of_tags(tags)
    at = instant(_given(payload, "date")) or instant(_given(payload, "last_updated"))
    title = _given(payload, "title")
    priority, alert_type = _given(payload, "priority"), _given(payload, "alert_type")
    severity = "warning" if transition in _WARNINGS else monitoring.severity(priority, alert_type)
    cycle = _given(payload, "alert_cycle_key")
    organisation = _given(payload, "org_id")
    labels = own | texts(
        monitor=monitor,
        priority=priority,
        metric=_given(payload, "metric"),
        host=first(own.get("host", ""), _given(payload, "hostname")),
        url=_given(payload, "link"),
    )
    return monitoring.signal(
        NAME,
        # Without a cycle nobody can tell a repetition: each notification stands for itself.
        (organisation, monitor, signal_type, *((cycle, severity) if cycle and not unknown else (_one(payload),))),
        monitoring.place_of(own, defaults, NAME, host=organisation),
        signal_type=signal_type,
        occurred_at=at or received_at,
        fingerprint=first(_given(payload, "aggreg_key"), monitor),
        severity=severity,
        title=title,
        started_at=at if transition in _BEGINS else None,
        ended_at=at if signal_type == "alert_resolved" else None,
        labels=labels | unknown,
        source=monitoring.source_of(NAME, own, title=title),
    )


def _one(payload: Mapping[str, Any]) -> str:
    """The one notification."""
    return first(_given(payload, "id"), _given(payload, "date"), _given(payload, "last_updated"))


def _given(payload: Any, name: str) -> str:
    """The value of a template's variable; "" where Datadog had none."""
    found = text(payload, name).strip()
    return "" if _UNFILLED.fullmatch(found) else found


def _tags(payload: Mapping[str, Any], name: str) -> list[Any]:
    return items(payload, name) or _given(payload, name).split(",")


SOURCE = Source(
    name=NAME,
    title="Datadog monitors",
    adapt=adapt,
    statuses=STATUSES,
    fills={
        RecordType.SIGNAL: usual(
            RecordType.SIGNAL, "fingerprint", "severity", "title", "started_at", "ended_at", "labels"
        )
    },
)
