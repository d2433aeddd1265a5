"""Prometheus Alertmanager webhooks, version 4: each alert is a signal.

https://prometheus.io/docs/alerting/latest/configuration/#webhook_config. Where an alert is about
is read from its labels, the first of each list that is there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

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

NAME = "alertmanager"
SERVICE_LABELS = ("service", "app", "app_kubernetes_io_name", "job")
ENVIRONMENT_LABELS = ("environment", "env", "stage")
REGION_LABELS = ("region", "datacenter", "dc")
SEVERITIES = {"critical": "critical", "page": "critical", "error": "error", "high": "error", "major": "error",
              "warning": "warning", "warn": "warning", "minor": "warning", "info": "info", "none": "info"}  # fmt: skip
STATUSES = {"firing": "alert_firing", "resolved": "alert_resolved"}
OURS = "deploytrail"  # the label `source` of alerts that our own pages are


def adapt(payload: Any, headers: Mapping[str, str], defaults: Defaults, received_at: int) -> Adapted:
    """One signal an alert; the same alert sent again gives the same signal."""
    del headers
    alerts = payload.get("alerts") if isinstance(payload, Mapping) else None
    if not isinstance(alerts, list):
        raise AdapterError("an Alertmanager webhook is a JSON object with a list of alerts")
    records = [
        (RecordType.SIGNAL, _signal(alert, payload, defaults, received_at))
        for alert in alerts
        if isinstance(alert, Mapping)
    ]
    if len(records) < len(alerts):
        raise AdapterError("every alert is an object")
    return Adapted(tuple(records), "" if records else "no alerts")


def _signal(alert: Mapping[str, Any], payload: Any, defaults: Defaults, received_at: int) -> dict[str, Any]:
    labels = {str(k): text(v) for k, v in {**mapping(payload, "commonLabels"), **mapping(alert, "labels")}.items()}
    status = first(text(alert, "status"), text(payload, "status"))
    started, ended = instant(alert, "startsAt"), instant(alert, "endsAt")
    fingerprint = first(text(alert, "fingerprint"), _fingerprint(labels))
    resolved = status == "resolved"
    begun = text(alert, "startsAt")
    severity = labels.get("severity", "").lower()
    return {
        "signal_id": name_based_id(NAME, text(payload, "externalURL"), fingerprint, begun, status),
        "signal_type": STATUSES.get(status, "unknown"),
        "occurred_at": (ended if resolved else started) or started or received_at,
        "region": first(*(labels.get(n, "") for n in REGION_LABELS), defaults.region, OTHER_REGION),
        "environment": first(*(labels.get(n, "") for n in ENVIRONMENT_LABELS), defaults.environment, UNKNOWN_PLACE),
        "service": first(*(labels.get(n, "") for n in SERVICE_LABELS), defaults.service, UNKNOWN_PLACE),
        "producer_id": f"{NAME}:{text(payload, 'externalURL')}",
        "source": OURS if labels.get("source") == OURS else NAME,
        "fingerprint": fingerprint,
        "severity": SEVERITIES.get(severity, "unknown"),
        "title": first(labels.get("alertname", ""), text(alert, "annotations", "summary")),
        "started_at": started,
        "ended_at": ended if resolved else None,
        "labels": labels,
    }


def _fingerprint(labels: dict[str, str]) -> str:
    """Alertmanager before 0.19 sends none: the digest of the labels takes its place."""
    return hashlib.sha256(repr(sorted(labels.items())).encode("utf-8", "replace")).hexdigest()[:16]


SOURCE = Source(
    name=NAME,
    title="Prometheus Alertmanager",
    adapt=adapt,
    statuses=STATUSES,
    fills={
        RecordType.SIGNAL: frozenset(
            {
                *("signal_id", "signal_type", "occurred_at", "region", "environment", "service", "producer_id"),
                *("source", "fingerprint", "severity", "title", "started_at", "ended_at", "labels"),
            }
        )
    },
)
