"""Prometheus Alertmanager webhooks, version 4: each alert is a signal.

https://prometheus.io/docs/alerting/latest/configuration/#webhook_config. Where an alert is about, and how
bad it is, is read from its labels (`_monitoring`). An alert that is notified again, by the same Alertmanager
or by another replica, is the same signal; one that fires anew is another. How many alerts a notification
left out (`max_alerts`) is kept as the label `truncated_alerts`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from deploytrail_schemas.records import RecordType

from deploytrail.adapters import _monitoring as monitoring
from deploytrail.adapters.base import Adapted, Defaults, Source

NAME = "alertmanager"


def adapt(payload: Any, headers: Mapping[str, str], defaults: Defaults, received_at: int) -> Adapted:
    """One signal an alert; the same alert sent again gives the same signal."""
    del headers
    found = monitoring.alerts(payload, "an Alertmanager")
    return monitoring.adapted(
        (monitoring.signal_of_alert(alert, payload, NAME, defaults, received_at) for alert in found), "no alerts"
    )


SOURCE = Source(
    name=NAME,
    title="Prometheus Alertmanager",
    adapt=adapt,
    statuses=monitoring.ALERT_STATUSES,
    fills={RecordType.SIGNAL: monitoring.ALERT_FIELDS},
)
