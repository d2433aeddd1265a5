"""Pages over HTTP: to Alertmanager's v2 API, or to a plain webhook.

A page that is sent twice carries the same key: Alertmanager merges equal labels, a webhook's
receiver knows it by `dedup_key` (also the header Idempotency-Key).
"""

from __future__ import annotations

import json
import urllib.parse
from typing import Any, Protocol

from deploytrail_schemas.errors import ConfigurationError
from deploytrail_schemas.instants import format_instant

from deploytrail_sinks.http_json import Refused, request, send
from deploytrail_sinks.on_call.incidents import Action
from deploytrail_sinks.on_call.ledger import Incident
from deploytrail_sinks.silences.mirror import CREATED_BY

# An open incident is sent once: it must not end by itself before somebody ends it.
_LASTS = 30 * 86_400_000_000
_ALERTMANAGER = "alertmanager+"
_LONGEST_NAME = 200


class Sender(Protocol):
    """A way to the people on call."""

    def send(self, incident: Incident, now: int) -> str:
        """Deliver the incident's intended action; the receiver's answer. RetryLater or Refused."""
        ...

    def acknowledged(self, incident: Incident) -> str:
        """Who has taken an open incident; empty: nobody. RetryLater."""
        ...


def sender_for(url: str) -> Sender:
    """The sender of DEPLOYTRAIL_ONCALL_URL; ConfigurationError for one that it cannot be."""
    address = url.removeprefix(_ALERTMANAGER)
    parts = urllib.parse.urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigurationError(
            f"DEPLOYTRAIL_ONCALL_URL is {url!r}; expected alertmanager+http://host:port or http(s)://… of a webhook"
        )
    return Alertmanager(address) if address != url else Webhook(address)


class Webhook:
    """POSTs one JSON object a change."""

    def __init__(self, url: str) -> None:
        self._url = url

    def send(self, incident: Incident, now: int) -> str:  # noqa: ARG002  # webhooks say when it was, not when they were sent
        """See Sender."""
        body: dict[str, Any] = {
            "dedup_key": incident.key,
            "action": incident.action.value,
            "severity": incident.severity,
            "title": incident.title,
            "source": "deploytrail",
            "occurred_at": format_instant(incident.at),
            "details": incident.details,
        }
        if incident.plan is not None and incident.step:
            plan, level = incident.plan, incident.plan.step(incident.step)
            body["escalation"] = {
                "policy": plan.policy,
                "step": incident.step,
                "steps": plan.steps,
                "notify": list(level.notify),
            }
        news = f"/{incident.sent}" if incident.sent and incident.action is Action.TRIGGER else ""
        key = f"{incident.key}/{incident.action.value}/{incident.at}{news}"
        return _post(self._url, body, {"Idempotency-Key": key})

    def acknowledged(self, incident: Incident) -> str:
        """See Sender: asks by GET with the `dedup_key`. Who answers anything but 200 with `acknowledged_by` in JSON has
        no word for it."""
        parts = urllib.parse.urlsplit(self._url)
        query = "&".join(filter(None, (parts.query, urllib.parse.urlencode({"dedup_key": incident.key}))))
        try:
            _, text = send("GET", urllib.parse.urlunsplit(parts._replace(query=query)))
            said = json.loads(text)
        except (Refused, ValueError):
            return ""
        return str(said.get("acknowledged_by") or "")[:_LONGEST_NAME] if isinstance(said, dict) else ""


class Alertmanager:
    """POSTs to /api/v2/alerts. Source: prometheus/alertmanager api/v2/openapi.yaml, postableAlerts.

    To Alertmanager an alert is its labels. Each step of an escalation is an alert of its own, whose labels
    `escalation_step` and `notify` its routes can tell apart.
    """

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/") + "/api/v2"

    def send(self, incident: Incident, now: int) -> str:
        """See Sender. An open alert is to end in a month, since Alertmanager forgets what is not repeated. One that has
        become graver is another alert to it: its end ends both."""
        resolved = incident.action is Action.RESOLVE
        told = incident.told if resolved and incident.told else (incident.labels,)
        ends = now if resolved else now + _LASTS
        return _post(self._url + "/alerts", [_alert(incident, labels, now, ends) for labels in told], {})

    def acknowledged(self, incident: Incident) -> str:
        """See Sender: who has silenced it. Silences that we have made ourselves are of alerts, and none of people. Who
        refuses to be asked, or says nothing of silences, has no word for it."""
        named = urllib.parse.quote(f"dedup_key={json.dumps(incident.key)}")
        for silence in _silences(self._asked(f"/alerts?filter={named}")):
            found = self._asked(f"/silence/{urllib.parse.quote(silence)}")
            by = found.get("createdBy") if isinstance(found, dict) else None
            if by is not None and by != CREATED_BY:
                return str(by)[:_LONGEST_NAME] or "somebody"
        return ""

    def _asked(self, what: str) -> Any:
        """The answer to a question; None where it is refused, or what was asked for is gone meanwhile. RetryLater."""
        try:
            return request("GET", self._url + what)
        except Refused:
            return None


def _silences(alerts: Any) -> list[str]:
    """The silences that an answer about alerts names, each once."""
    statuses = [alert.get("status") for alert in alerts if isinstance(alert, dict)] if isinstance(alerts, list) else []
    named = [status.get("silencedBy") for status in statuses if isinstance(status, dict)]
    return sorted({str(name) for names in named if isinstance(names, list) for name in names})


def _alert(incident: Incident, labels: dict[str, str], now: int, ends: int) -> dict[str, Any]:
    details = incident.details
    place = {name: details[name] for name in ("service", "environment", "region") if name in details}
    return {
        "labels": {
            "alertname": "Deploytrail" + "".join(part.capitalize() for part in _rule(incident.key).split("_")),
            "source": "deploytrail",
            "dedup_key": incident.key,
            **labels,
            **place,
        },
        "annotations": {"summary": incident.title} | {k: v for k, v in details.items() if k not in place},
        "startsAt": format_instant(min(incident.at, now)),
        "endsAt": format_instant(ends),
    }


def _rule(key: str) -> str:
    return key.partition("/")[0]


def _post(url: str, body: Any, headers: dict[str, str]) -> str:
    status, _ = send("POST", url, body, headers)
    return str(status)
