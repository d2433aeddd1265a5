"""Jira webhooks: changes and their approval, incidents; and what CI systems tell Jira of deployments.

https://developer.atlassian.com/cloud/jira/platform/webhooks/. Of an issue that is a change, each transition
is a step of its approval, by the name of the status that it goes to: who made it, when, with which comment.
A status that is not listed here is `unknown`, with its name as `ticket_state`; the URL of the webhook may
list more (`?approved=CAB+OK,Freigegeben`). A change that is deleted is revoked. Of an issue that is an
incident, its creation, its resolution and its return are signals. Other issues are ignored.

Where it is: labels `service:checkout`, `env:production`, `region:eu-west-1`, else the components (one record
each), the field Environment where it is one word, the webhook's URL.

What CI systems send to Jira of deployments and builds is read too (`_jira_deployments`), and so is a GitHub
payload that GitHub for Jira passes on as {"name", "payload"}: by the adapter of GitHub.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from deploytrail_schemas.records import RecordType

from deploytrail.adapters import _jira_deployments as deployments
from deploytrail.adapters import _monitoring as monitoring
from deploytrail.adapters import github
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
    record,
    text,
    texts,
    usual,
)

NAME = "jira"
# The statuses of Jira Service Management's workflows for changes, and what teams call them; in small letters.
# https://support.atlassian.com/jira-service-management-cloud/docs/what-is-the-change-management-workflow/
CHANGE_STATUSES = {
    **dict.fromkeys(("review", "in review", "under review", "peer review / change manager approval"), "requested"),
    **dict.fromkeys(("waiting for approval", "awaiting approval", "pending approval", "in approval"), "requested"),
    **dict.fromkeys(("approval requested", "awaiting cab approval", "cab approval", "authorize"), "requested"),
    **dict.fromkeys(("approved", "authorized", "scheduled", "awaiting implementation"), "approved"),
    **dict.fromkeys(("ready for implementation", "ready to deploy", "ready for release"), "approved"),
    **dict.fromkeys(("declined", "rejected", "denied", "not approved"), "rejected"),
    **dict.fromkeys(("canceled", "cancelled", "withdrawn", "approval withdrawn"), "revoked"),
    **dict.fromkeys(("expired", "approval expired"), "expired"),
}
OPTIONS = {
    "requested": "more names of statuses, separated by commas, in which a change waits for its approval",
    "approved": "more names of statuses in which a change is approved",
    "rejected": "more names of statuses in which a change is rejected",
    "revoked": "more names of statuses in which a change's approval no longer holds",
    "changes": "more names of issue types that are changes",
    "incidents": "more names of issue types that are incidents",
    "planned_start": "the field of a change from which its approval holds, e.g. customfield_10050",
    "planned_end": "the field of a change until which its approval holds",
}
_OVER = frozenset({"resolved", "closed", "done", "completed", "canceled", "cancelled"})
_ONE_WORD = re.compile(r"[\w.-]{1,64}")
_DECIDES = frozenset({"approved", "rejected", "revoked"})
Payload = Mapping[str, Any]


def adapt(payload: Any, headers: Mapping[str, str], defaults: Defaults, received_at: int) -> Adapted:
    """One delivery is one event of one issue, or a list of deployments or builds."""
    if not isinstance(payload, Mapping):
        raise AdapterError("a Jira webhook is a JSON object")
    if "webhookEvent" not in payload:
        if "name" in payload and isinstance(payload.get("payload"), Mapping):
            named = {**headers, "x-github-event": text(payload, "name")}
            return github.SOURCE.adapt(payload["payload"], named, defaults, received_at)
        return deployments.adapt(payload, NAME, defaults, received_at)
    event = text(payload, "webhookEvent").removeprefix("jira:")
    if event not in ("issue_created", "issue_updated", "issue_deleted"):
        return Adapted(ignored=f"Jira's {event or 'unnamed'} event is neither about a change nor about an incident")
    issue = mapping(payload, "issue")
    if not text(issue, "id") or not text(issue, "key"):
        raise AdapterError("the payload has no issue with an id and a key")
    kind = text(issue, "fields", "issuetype", "name")
    if _is_change(kind, defaults):
        return _change(event, payload, issue, defaults, received_at)
    if _is_incident(kind, defaults):
        return _incident(event, payload, issue, defaults, received_at)
    return Adapted(ignored=f"{text(issue, 'key')} is {kind or 'of no type'}, neither a change nor an incident")


def _is_change(kind: str, defaults: Defaults) -> bool:
    word = kind.strip().lower()
    return bool(re.search(r"\bchange\b", word)) or word == "rfc" or word in _listed(defaults, "changes")


def _is_incident(kind: str, defaults: Defaults) -> bool:
    word = kind.strip().lower()
    return bool(re.search(r"\bincident\b", word)) or word in _listed(defaults, "incidents")


def _listed(defaults: Defaults, option: str) -> list[str]:
    return [word.strip().lower() for word in defaults.options.get(option, "").split(",") if word.strip()]


# Changes


def _change(event: str, payload: Payload, issue: Payload, defaults: Defaults, received_at: int) -> Adapted:
    steps = list(_steps(event, payload, issue, defaults))
    return monitoring.adapted(
        (
            _approval(step, payload, issue, service, defaults, received_at)
            for step in steps
            for service in _services(issue)
        ),
        f"the status of {text(issue, 'key')} is as it was",
    )


def _steps(event: str, payload: Payload, issue: Payload, defaults: Defaults) -> Iterator[dict[str, str]]:
    """Of each step: its type, the status that the change is in and came from, and what tells it from the next."""
    status = text(issue, "fields", "status", "name")
    if event == "issue_deleted":
        yield {"type": "revoked", "state": "deleted", "from": status, "mark": "deleted"}
    elif event == "issue_created":
        yield {"type": "registered", "state": status, "from": "", "mark": "created"}
        if (known := _step_of(status, defaults)) != "unknown":
            yield {"type": known, "state": status, "from": "", "mark": f"created {known}"}
    else:
        for item in _moves(payload):
            state = text(item, "toString")
            mark = f"{_mark(payload)} {state}"
            yield {"type": _step_of(state, defaults), "state": state, "from": text(item, "fromString"), "mark": mark}


def _step_of(status: str, defaults: Defaults) -> str:
    word = status.strip().lower()
    for step in ("requested", "approved", "rejected", "revoked"):
        if word in _listed(defaults, step):
            return step
    return CHANGE_STATUSES.get(word, "unknown")


def _approval(
    step: dict[str, str], payload: Payload, issue: Payload, service: str, defaults: Defaults, received_at: int
) -> tuple[RecordType, dict[str, Any]]:
    fields, host = mapping(issue, "fields"), host_of(text(issue, "self"))
    kind, key, actor = text(fields, "issuetype", "name"), text(issue, "key"), _name_of(mapping(payload, "user"))
    labels = _labels(fields)
    decides = step["type"] in _DECIDES
    return record(
        RecordType.APPROVAL,
        NAME,
        (host, text(issue, "id"), step["mark"], service),
        _place(fields, labels, service, defaults, host),
        approval_type=step["type"],
        occurred_at=instant(payload, "timestamp") or received_at,
        change_ticket=key,
        ticket_state=step["state"],
        approver=actor if decides else "",
        justification=text(payload, "comment", "body"),
        valid_from=_planned(fields, "planned_start", defaults),
        valid_until=_planned(fields, "planned_end", defaults),
        emergency="emergency" in kind.lower() or "emergency" in (word.lower() for word in labels.values()),
        tags=labels
        | texts(
            title=text(fields, "summary"),
            issue_type=kind,
            from_status=step["from"],
            actor="" if decides else actor,
            url=f"https://{host}/browse/{key}" if host else "",
        ),
    )


def _planned(fields: Payload, option: str, defaults: Defaults) -> int | None:
    name = defaults.options.get(option, "")
    return instant(fields, name) if name else None


# Incidents


def _incident(event: str, payload: Payload, issue: Payload, defaults: Defaults, received_at: int) -> Adapted:
    signal_type = _signal_type(event, payload, issue)
    if not signal_type:
        return Adapted(ignored=f"{text(issue, 'key')} neither opens nor ends")
    return Adapted(
        tuple(_signal(signal_type, event, payload, issue, s, defaults, received_at) for s in _services(issue))
    )


def _signal_type(event: str, payload: Payload, issue: Payload) -> str:
    if event == "issue_created":
        return "incident_opened"
    if event == "issue_deleted":
        return "incident_resolved"
    moves = list(_moves(payload))
    if not moves:
        return ""
    was, now = (text(moves[0], "fromString").lower() in _OVER, text(moves[-1], "toString").lower() in _OVER)
    was = was or any(_cleared(item) for item in items(payload, "changelog", "items"))
    now = now or text(issue, "fields", "status", "statusCategory", "key") == "done"
    if was == now:
        return ""
    return "incident_resolved" if now else "incident_opened"


def _cleared(item: object) -> bool:
    return text(item, "field") == "resolution" and bool(text(item, "fromString")) and not text(item, "toString")


def _signal(
    signal_type: str,
    event: str,
    payload: Payload,
    issue: Payload,
    service: str,
    defaults: Defaults,
    received_at: int,
) -> tuple[RecordType, dict[str, Any]]:
    fields, host, key = mapping(issue, "fields"), host_of(text(issue, "self")), text(issue, "key")
    at = instant(payload, "timestamp") or received_at
    created, labels, title = instant(fields, "created"), _labels(fields), text(fields, "summary")
    resolved, anew = signal_type == "incident_resolved", event == "issue_updated"
    return monitoring.signal(
        NAME,
        (host, text(issue, "id"), _mark(payload) if anew else event, signal_type, service),
        _place(fields, labels, service, defaults, host),
        signal_type=signal_type,
        occurred_at=at if resolved or anew else created or at,
        fingerprint=f"{host}:{key}",
        severity=monitoring.severity(labels.get("severity", ""), text(fields, "priority", "name")),
        title=title,
        started_at=created if resolved or not anew else at,
        ended_at=(instant(fields, "resolutiondate") or at) if resolved else None,
        incident_id=key,
        ticket_id=key,
        labels=labels
        | texts(
            status=text(fields, "status", "name"),
            priority=text(fields, "priority", "name"),
            issue_type=text(fields, "issuetype", "name"),
            actor=_name_of(mapping(payload, "user")),
            url=f"https://{host}/browse/{key}" if host else "",
        ),
        source=monitoring.source_of(NAME, labels, title=title, sender=_name_of(mapping(fields, "reporter"))),
    )


# What both read


def _moves(payload: Payload) -> Iterator[Payload]:
    return (item for item in items(payload, "changelog", "items") if text(item, "field") == "status")


def _mark(payload: Payload) -> str:
    """What tells one change of an issue from the next."""
    return first(text(payload, "changelog", "id"), text(payload, "timestamp"))


def _services(issue: Payload) -> list[str]:
    named = _labels(mapping(issue, "fields")).get("service", "")
    found = [text(component, "name") for component in items(issue, "fields", "components")]
    return [named] if named else list(dict.fromkeys(filter(None, found))) or [""]


def _labels(fields: Payload) -> dict[str, str]:
    return monitoring.labels_of_tags(items(fields, "labels"))


def _place(fields: Payload, labels: dict[str, str], service: str, defaults: Defaults, host: str) -> dict[str, str]:
    # Labels are set on purpose; the field Environment is often prose.
    given = text(fields, "environment").strip()
    url = replace(defaults, environment=given) if _ONE_WORD.fullmatch(given) else defaults
    return monitoring.place_of(labels | texts(service=service), url, NAME, host=host)


def _name_of(user: Payload) -> str:
    return first(*(text(user, name) for name in ("name", "emailAddress", "displayName", "accountId")))


SOURCE = Source(
    name=NAME,
    title="Jira and Jira Service Management",
    adapt=adapt,
    signature="hub_signature",
    delivery=("x-atlassian-webhook-identifier",),
    statuses={
        "change created": "registered",
        **{f"change {status}": step for status, step in CHANGE_STATUSES.items()},
        "change deleted": "revoked",
        "incident created": "incident_opened",
        "incident resolved": "incident_resolved",
        "incident reopened": "incident_opened",
        "incident deleted": "incident_resolved",
        **{f"deployment {state}": event for state, event in deployments.STATUSES.items()},
    },
    options=OPTIONS,
    fills={
        RecordType.APPROVAL: usual(
            RecordType.APPROVAL,
            *("change_ticket", "ticket_state", "approver", "justification", "valid_from", "valid_until"),
            *("emergency", "tags"),
        ),
        RecordType.SIGNAL: usual(
            RecordType.SIGNAL,
            *("fingerprint", "severity", "title", "started_at", "ended_at", "incident_id", "ticket_id", "labels"),
        ),
        RecordType.DEPLOYMENT_EVENT: deployments.FILLS,
    },
)
