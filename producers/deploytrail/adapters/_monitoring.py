"""What monitoring sources share: which labels say where an alert is, how bad it is, and whose page it is.

Labels that name a place come first, then the webhook's URL, then what only hints at a service (the
name of a PagerDuty service, a Sentry project).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from typing import Any

from deploytrail_schemas.records import RecordType

from deploytrail.adapters.base import (
    Adapted,
    AdapterError,
    Defaults,
    first,
    instant,
    mapping,
    placed,
    record,
    text,
    usual,
)

SERVICE_LABELS = ("service", "service_name", "app", "application", "app_kubernetes_io_name", "job")
ENVIRONMENT_LABELS = ("environment", "env", "deployment_environment", "stage")
REGION_LABELS = ("region", "cloud_region", "aws_region", "datacenter", "dc")
SEVERITY_LABELS = ("severity", "level", "priority", "criticality")
SEVERITIES = {
    **dict.fromkeys(("critical", "crit", "fatal", "emergency", "page", "blocker", "highest", "p1", "sev1"), "critical"),
    **dict.fromkeys(("error", "err", "high", "major", "p2", "sev2"), "error"),
    **dict.fromkeys(("warning", "warn", "medium", "moderate", "minor", "p3", "sev3"), "warning"),
    **dict.fromkeys(("info", "information", "informational", "notice", "low", "lowest", "trivial"), "info"),
    **dict.fromkeys(("none", "debug", "p4", "p5", "sev4", "sev5"), "info"),
}
OURS = "deploytrail"  # the label `source` of alerts that our own pages are
# Where a source keeps no labels, the alert's name in its title: DeploytrailChangeWindow, …
_OUR_TITLE = re.compile(r"\bDeploytrail[A-Z]")


def severity(*words: str) -> str:
    """How bad it is, by the first word that says so: `SEV-1`, `P1`, `Critical`, `page`."""
    for word in words:
        if known := SEVERITIES.get(re.sub(r"[\s_-]", "", word.lower())):
            return known
    return "unknown"


def severity_of(labels: Mapping[str, str]) -> str:
    """How bad an alert is, by the first of its labels that says so."""
    return severity(*_values(labels, SEVERITY_LABELS))


def source_of(name: str, labels: Mapping[str, str], *, title: str = "", sender: str = "") -> str:
    """The signal's source: ours where our own page caused it, so that no rule asks which deployment did."""
    ours = OURS in (labels.get("source", "").lower(), sender.lower()) or _OUR_TITLE.search(title)
    return OURS if ours else name


def place_of(
    labels: Mapping[str, str], defaults: Defaults, name: str, *, host: str = "", hint: str = ""
) -> dict[str, str]:
    """Where an alert is: its labels, the webhook's URL, then the hint at a service."""
    return placed(
        defaults,
        name,
        region=first(*_values(labels, REGION_LABELS)),
        environment=first(*_values(labels, ENVIRONMENT_LABELS)),
        service=first(*_values(labels, SERVICE_LABELS), defaults.service, hint),
        host=host,
    )


def _values(labels: Mapping[str, str], names: Iterable[str]) -> list[str]:
    # app.kubernetes.io/name, deployment.environment and app_kubernetes_io_name are the same name.
    plain = {re.sub(r"\W", "_", label.lower()): value for label, value in labels.items()}
    return [plain.get(name, "") for name in names]


def type_of(statuses: Mapping[str, str], word: str) -> tuple[str, dict[str, str]]:
    """What a status word is for us; where it is none that we know, the word itself as a label."""
    known = statuses.get(word)
    return (known, {}) if known else ("unknown", {"raw_status": word} if word else {})


def labels_of_tags(tags: Iterable[object]) -> dict[str, str]:
    """Tags of the form `name:value` or `name=value` as labels; plain ones together as the label `tags`."""
    labels: dict[str, str] = {}
    plain = []
    for tag in map(str.strip, map(text, tags)):
        name, mark, value = tag.partition(":" if ":" in tag else "=")
        if mark and name.strip():
            labels.setdefault(name.strip(), value.strip())
        elif tag:
            plain.append(tag)
    return labels | ({"tags": ",".join(plain)} if plain else {})


def plain_labels(given: Mapping[str, Any]) -> dict[str, str]:
    """An object of texts and numbers as labels."""
    return {str(name): text(value) for name, value in given.items() if text(value)}


def signal(
    name: str, identity: tuple[str, ...], place: Mapping[str, str], *, source: str, **fields: Any
) -> tuple[RecordType, dict[str, Any]]:
    """A signal that the adapter `name` read; `source` as `source_of` says it."""
    kind, value = record(RecordType.SIGNAL, name, identity, place, **fields)
    return kind, value | {"source": source}


# Alertmanager's webhook and Grafana's are of one shape: a list of alerts with labels, a start and an end.

ALERT_STATUSES = {"firing": "alert_firing", "resolved": "alert_resolved"}
ALERT_FIELDS = usual(RecordType.SIGNAL, "fingerprint", "severity", "title", "started_at", "ended_at", "labels")


def alerts(payload: Any, whose: str) -> list[Mapping[str, Any]]:
    """The alerts of a payload; AdapterError where they are none."""
    found = payload.get("alerts") if isinstance(payload, Mapping) else None
    if not isinstance(found, list):
        raise AdapterError(f"{whose} webhook is a JSON object with a list of alerts")
    if not all(isinstance(alert, Mapping) for alert in found):
        raise AdapterError("every alert is an object")
    return found


def signal_of_alert(
    alert: Mapping[str, Any],
    payload: Mapping[str, Any],
    name: str,
    defaults: Defaults,
    received_at: int,
    **more: Any,
) -> tuple[RecordType, dict[str, Any]]:
    """The signal of one alert, known by fingerprint, start and status, whichever replica sends it and how often."""
    labels = plain_labels({**mapping(payload, "commonLabels"), **mapping(alert, "labels")})
    status = first(text(alert, "status"), text(payload, "status"))
    kind, unknown = type_of(ALERT_STATUSES, status)
    started, ended = instant(alert, "startsAt"), instant(alert, "endsAt")
    fingerprint = first(text(alert, "fingerprint"), fingerprint_of(labels))
    resolved = kind == "alert_resolved"
    omitted = text(payload, "truncatedAlerts")
    title = first(labels.get("alertname", ""), text(alert, "annotations", "summary"))
    return signal(
        name,
        (fingerprint, text(alert, "startsAt"), status),
        place_of(labels, defaults, name, host=text(payload, "externalURL")),
        signal_type=kind,
        occurred_at=(ended if resolved else started) or started or received_at,
        fingerprint=fingerprint,
        severity=severity_of(labels),
        title=title,
        started_at=started,
        ended_at=ended if resolved else None,
        labels=labels | unknown | ({"truncated_alerts": omitted} if omitted not in ("", "0") else {}),
        source=source_of(name, labels),
        **more,
    )


def fingerprint_of(labels: Mapping[str, str]) -> str:
    """Alertmanager before 0.19 sends none: the digest of the labels takes its place."""
    return hashlib.sha256(repr(sorted(labels.items())).encode("utf-8", "replace")).hexdigest()[:16]


def adapted(records: Iterable[tuple[RecordType, dict[str, Any]]], ignored: str) -> Adapted:
    """The records; the reason where there are none."""
    found = tuple(records)
    return Adapted(found, "" if found else ignored)
