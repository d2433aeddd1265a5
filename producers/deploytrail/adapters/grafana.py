"""Grafana's alerting webhook: each alert is a signal.

https://grafana.com/docs/grafana/latest/alerting/configure-notifications/manage-contact-points/integrations/webhook-notifier/.
The shape is Alertmanager's with `values`: of the results that an alert rule computed, by the letters of its
expressions, the first is the measured one (thresholds come after what they judge) and becomes `value`; all
of them are kept as labels `value_A`, `value_B`, … Grafana's test notification is no alert. The legacy
alerting of Grafana 4 to 10 is refused: its payload names neither the alert's instance nor its start, so that
neither an end nor a repetition could be told from another alert.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from deploytrail_schemas.records import RecordType

from deploytrail.adapters import _monitoring as monitoring
from deploytrail.adapters.base import Adapted, AdapterError, Defaults, Source, mapping, text

NAME = "grafana"


def adapt(payload: Any, headers: Mapping[str, str], defaults: Defaults, received_at: int) -> Adapted:
    """One signal an alert; the same alert sent again gives the same signal."""
    del headers
    if isinstance(payload, Mapping) and "alerts" not in payload and ("ruleId" in payload or "evalMatches" in payload):
        raise AdapterError(
            "this is a webhook of Grafana's legacy alerting, which names neither the alert's instance nor its start; "
            "use a contact point of Grafana Alerting (Grafana 9 or newer)"
        )
    found = [alert for alert in monitoring.alerts(payload, "a Grafana") if not _is_test(alert)]
    return monitoring.adapted(
        (_signal(alert, payload, defaults, received_at) for alert in found), "no alerts, or Grafana's test notification"
    )


def _is_test(alert: Mapping[str, Any]) -> bool:
    return text(alert, "labels", "alertname") == "TestAlert" and text(alert, "labels", "instance") == "Grafana"


def _signal(
    alert: Mapping[str, Any], payload: Mapping[str, Any], defaults: Defaults, received_at: int
) -> tuple[RecordType, dict[str, Any]]:
    values = {letter: value for letter, value in sorted(mapping(alert, "values").items()) if _is_number(value)}
    kind, signal = monitoring.signal_of_alert(
        alert, payload, NAME, defaults, received_at, value=float(next(iter(values.values()))) if values else None
    )
    more = {f"value_{letter}": text(value) for letter, value in values.items()}
    more |= {"org_id": text(payload, "orgId")} if text(payload, "orgId") else {}
    return kind, signal | {"labels": signal.get("labels", {}) | more}


def _is_number(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return abs(value) < 1e300 and math.isfinite(value)


SOURCE = Source(
    name=NAME,
    title="Grafana Alerting",
    adapt=adapt,
    signature="grafana",
    statuses=monitoring.ALERT_STATUSES,
    fills={RecordType.SIGNAL: monitoring.ALERT_FIELDS | {"value"}},
)
