"""Sentry's integration platform: issues, issue alerts and metric alerts are signals.

https://docs.sentry.io/organization/integrations/integration-platform/webhooks/. The resource is in the
header Sentry-Hook-Resource. An issue is an alert that fires when it is new or comes back, and ends when it is
resolved; an issue alert is a firing of its issue, so that resolving the issue ends it; a metric alert is one
signal a project. Archiving or assigning an issue neither starts nor ends it. An action that is not listed
here is `unknown`, with its name as the label `raw_status`.

The project hints at the service, the event's or rule's environment is the environment. Tags named `user…`
stay out: they are about a person.
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
    host_of,
    instant,
    items,
    mapping,
    text,
    texts,
    usual,
)

NAME = "sentry"
STATUSES = {
    "issue.created": "alert_firing",
    "issue.unresolved": "alert_firing",
    "issue.resolved": "alert_resolved",
    "event_alert.triggered": "alert_firing",
    "metric_alert.critical": "alert_firing",
    "metric_alert.warning": "alert_firing",
    "metric_alert.resolved": "alert_resolved",
}
IGNORED = {
    "issue.assigned": "it says who works on the issue",
    "issue.archived": "the issue goes on, though nobody wants to be told",
    "issue.ignored": "the issue goes on, though nobody wants to be told",
    "error": "each single error is no alert; subscribe to issues and alerts",
    "comment": "it is what people say of an issue",
    "activity_alert": "it repeats what the issue's own webhooks say",
    "installation": "it is about the integration itself",
    "seer": "it is what Sentry's assistant says of an issue",
    "preprod_artifact": "it is about a build, not about what runs",
}
_PROJECT = re.compile(r"/projects/[^/]+/([^/]+)/")


def adapt(payload: Any, headers: Mapping[str, str], defaults: Defaults, received_at: int) -> Adapted:
    """One delivery is one action; of a metric alert over several projects, one signal each."""
    data, action = mapping(payload, "data"), text(payload, "action")
    resource = headers.get("sentry-hook-resource", "") or _guess(data)
    word = f"{resource}.{action}"
    if reason := IGNORED.get(resource) or IGNORED.get(word):
        return Adapted(ignored=f"Sentry's {word}: {reason}")
    if not action:
        raise AdapterError("a Sentry webhook is a JSON object with an action and data")
    sent = instant(headers.get("sentry-hook-timestamp", ""))
    if resource == "issue":
        return Adapted((_issue(word, mapping(data, "issue"), defaults, sent or received_at),))
    if resource == "event_alert":
        return Adapted((_event(word, data, defaults, sent or received_at),))
    if resource == "metric_alert":
        return _metric(word, data, defaults, sent or received_at)
    return Adapted(ignored=f"Sentry's {resource or 'unnamed'} webhook is no alert")


def _guess(data: Mapping[str, Any]) -> str:
    # Proxies drop headers; the data is named after its resource.
    names = {"metric_alert": "metric_alert", "triggered_rule": "event_alert", "issue": "issue"}
    return next((resource for name, resource in names.items() if name in data), "")


def _issue(word: str, issue: Mapping[str, Any], defaults: Defaults, sent: int) -> tuple[RecordType, dict[str, Any]]:
    number = _id_of(issue, "id", "issue")
    signal_type, unknown = monitoring.type_of(STATUSES, word)
    begun, last = instant(issue, "firstSeen"), instant(issue, "lastSeen")
    resolved = signal_type == "alert_resolved"
    title = text(issue, "title")
    labels = texts(
        short_id=text(issue, "shortId"),
        culprit=text(issue, "culprit"),
        level=text(issue, "level"),
        substatus=text(issue, "substatus"),
        project=text(issue, "project", "slug"),
        url=first(text(issue, "web_url"), text(issue, "permalink")),
    )
    return monitoring.signal(
        NAME,
        # Resolved and back again, an issue has been seen in between.
        ("issue", number, word, text(issue, "lastSeen")),
        monitoring.place_of({}, defaults, NAME, host=_host(issue), hint=text(issue, "project", "slug")),
        signal_type=signal_type,
        occurred_at={"issue.created": begun, "issue.unresolved": last}.get(word) or sent,
        fingerprint=f"issue:{number}",
        severity=monitoring.severity(text(issue, "level")),
        title=title,
        started_at=last if word == "issue.unresolved" else begun,
        ended_at=sent if resolved else None,
        incident_id=text(issue, "shortId"),
        labels=labels | unknown,
        source=monitoring.source_of(NAME, {}, title=title),
    )


def _event(word: str, data: Mapping[str, Any], defaults: Defaults, sent: int) -> tuple[RecordType, dict[str, Any]]:
    event = mapping(data, "event")
    number, identity = _id_of(event, "issue_id", "event"), _id_of(event, "event_id", "event")
    signal_type, unknown = monitoring.type_of(STATUSES, word)
    at = instant(event, "datetime") or instant(event, "timestamp")
    named = [(text(pair[0]), text(pair[1])) for pair in items(event, "tags") if _is_pair(pair)]
    tags = {name: value for name, value in named if name and value and not name.startswith("user")}
    project = _PROJECT.search(text(event, "url"))
    rule = text(data, "triggered_rule")
    title = text(event, "title")
    environment = texts(environment=text(event, "environment"))
    labels = (
        tags
        | environment
        | texts(
            rule=rule,
            release=text(event, "release"),
            level=text(event, "level"),
            project=project[1] if project else "",
            url=text(event, "web_url"),
        )
    )
    return monitoring.signal(
        NAME,
        ("event_alert", identity, rule, word),
        monitoring.place_of(tags | environment, defaults, NAME, host=_host(event), hint=project[1] if project else ""),
        signal_type=signal_type,
        occurred_at=at or sent,
        fingerprint=f"issue:{number}",
        severity=monitoring.severity(text(event, "level")),
        title=title,
        started_at=at,
        labels=labels | unknown,
        source=monitoring.source_of(NAME, tags, title=title),
    )


def _metric(word: str, data: Mapping[str, Any], defaults: Defaults, sent: int) -> Adapted:
    alert, rule = mapping(data, "metric_alert"), mapping(data, "metric_alert", "alert_rule")
    number, rule_id = _id_of(alert, "id", "metric_alert"), text(rule, "id")
    signal_type, unknown = monitoring.type_of(STATUSES, word)
    begun, closed = instant(alert, "date_started"), instant(alert, "date_closed")
    resolved = signal_type == "alert_resolved"
    named = [text(project) for project in items(alert, "projects") or items(rule, "projects")]
    environment = texts(environment=text(rule, "environment"))
    title = first(text(data, "description_title"), text(rule, "name"))
    labels = environment | texts(
        rule=text(rule, "name"),
        aggregate=text(rule, "aggregate"),
        query=text(rule, "query"),
        description=text(data, "description_text"),
        url=text(data, "web_url"),
    )
    return Adapted(
        tuple(
            monitoring.signal(
                NAME,
                ("metric_alert", text(alert, "organization_id"), number, word, project),
                monitoring.place_of(environment, defaults, NAME, host=host_of(text(data, "web_url")), hint=project),
                signal_type=signal_type,
                # Sentry's alert began when its window crossed the line, which it notices later.
                occurred_at=(closed if resolved else begun) or sent,
                fingerprint=f"metric_alert:{rule_id or number}:{project}",
                severity=monitoring.severity(word.partition(".")[2]),
                title=title,
                started_at=begun,
                ended_at=(closed or sent) if resolved else None,
                incident_id=text(alert, "identifier"),
                labels=labels | texts(project=project) | unknown,
                source=monitoring.source_of(NAME, {}, title=title),
            )
            for project in dict.fromkeys(filter(None, named)) or [""]
        )
    )


def _is_pair(value: object) -> bool:
    return isinstance(value, (list, tuple)) and len(value) == 2


def _id_of(thing: Mapping[str, Any], name: str, what: str) -> str:
    number = text(thing, name)
    if not number:
        raise AdapterError(f"the payload's {what} has no {name}")
    return number


def _host(thing: Mapping[str, Any]) -> str:
    """Which Sentry it is."""
    return host_of(first(text(thing, "web_url"), text(thing, "url"), text(thing, "permalink")))


SOURCE = Source(
    name=NAME,
    title="Sentry",
    adapt=adapt,
    signature="sentry",
    statuses=STATUSES,
    ignored=IGNORED,
    fills={
        RecordType.SIGNAL: usual(
            RecordType.SIGNAL,
            *("fingerprint", "severity", "title", "started_at", "ended_at", "incident_id", "labels"),
        )
    },
)
