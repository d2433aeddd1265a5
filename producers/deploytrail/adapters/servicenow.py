"""ServiceNow: changes and their approval, and incidents, as a business rule posts them or the Table API shows them.

ServiceNow has no webhooks of its own: an after-update business rule (or a Flow's REST step) on the tables
change_request, sysapproval_approver and incident posts the record. Give it this script, with the fields that
your tables have; all but table, sys_id and number may be missing:

    var r = new sn_ws.RESTMessageV2();
    r.setHttpMethod("post");
    r.setEndpoint("https://GATEWAY/webhooks/servicenow");
    r.setRequestHeader("Authorization", "Bearer TOKEN");
    var o = {table: current.getTableName(), sys_id: current.getUniqueValue(),
             instance: gs.getProperty("instance_name"), updated_by: gs.getUserName(),
             previous: {state: "" + previous.state, approval: "" + previous.approval},
             service: current.cmdb_ci.getDisplayValue(), environment: "production", region: "eu-west-1"};
    ["number", "state", "approval", "type", "short_description", "justification", "start_date", "end_date",
     "priority", "comments", "opened_at", "resolved_at", "closed_at", "reopen_count", "reopened_time",
     "sys_created_on", "sys_updated_on", "sys_mod_count"].forEach(function (n) { o[n] = "" + current[n]; });
    if (o.table == "sysapproval_approver") {  // who decides, on which change, in which role
      o.approver = "" + current.approver.user_name;
      o.change = "" + current.sysapproval.number;
      o.approver_role = "" + current.group.assignment_group.getDisplayValue();
    }
    r.setRequestBody(JSON.stringify(o));
    r.executeAsync();

`deployment_id` and `artifact_digest` are read where they are given. The Table API's {"result": …} is read too,
one record or several, values as text or as {"value", "display_value", "link"}.

A change is approved by its field `approval`. `previous` tells the decision, and who made it, from later updates
of a change that was decided. Without it, nobody is named as approver who is not given as `approver`, and a
change that is implemented, reviewed or closed is told with its state as `unknown`: whoever closes a change did
not approve it. A cancelled change is revoked. An incident opens
when it is new (or is opened anew) and ends when it is resolved, closed or cancelled.
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
    mapping,
    placed,
    record,
    text,
    texts,
    usual,
)

NAME = "servicenow"
# ServiceNow documentation, Change Management, "State model"; approvals: the choices of task.approval.
CHANGE_STATES = {
    "-5": "new",
    "-4": "assess",
    "-3": "authorize",
    "-2": "scheduled",
    "-1": "implement",
    "0": "review",
    "3": "closed",
    "4": "canceled",
}
APPROVALS = {
    "not requested": "registered",
    "requested": "requested",
    "approved": "approved",
    "rejected": "rejected",
    "cancelled": "revoked",
    "not required": "unknown",
    "duplicate": "unknown",
}
INCIDENT_STATES = {
    "new": "incident_opened",
    "in progress": "incident_opened",
    "on hold": "incident_opened",
    "resolved": "incident_resolved",
    "closed": "incident_resolved",
    "canceled": "incident_resolved",
}
_INCIDENT_NUMBERS = {"1": "new", "2": "in progress", "3": "on hold", "6": "resolved", "7": "closed", "8": "canceled"}
_PRIORITIES = {"1": "critical", "2": "error", "3": "warning", "4": "info", "5": "info"}
_DECIDED_LONG_AGO = frozenset({"implement", "review", "closed"})
_DECIDES = frozenset({"approved", "rejected", "revoked"})
_NOBODY = frozenset({"system", "guest"})
_TIME = re.compile(r"(\d{4}-\d\d-\d\d) (\d\d:\d\d:\d\d)", re.ASCII)
_SYS_ID = re.compile(r"[0-9a-f]{32}")
Payload = Mapping[str, Any]
Record = tuple[RecordType, dict[str, Any]]


def adapt(payload: Any, headers: Mapping[str, str], defaults: Defaults, received_at: int) -> Adapted:
    """A record, or the Table API's list of them; each is read by the table that it is of."""
    del headers
    if not isinstance(payload, Mapping):
        raise AdapterError("what ServiceNow posts is a JSON object: a record, or the Table API's result")
    result = payload.get("result", payload)
    found: list[Record] = []
    reasons = []
    for one in result if isinstance(result, (list, tuple)) else [result]:
        adapted = _adapt(one, defaults, received_at)
        found += adapted.records
        reasons.append(adapted.ignored)
    return monitoring.adapted(found, "; ".join(dict.fromkeys(filter(None, reasons))) or "the result is empty")


def _adapt(given: Any, defaults: Defaults, received_at: int) -> Adapted:
    if not _text(given, "sys_id"):
        raise AdapterError("a record of ServiceNow has a sys_id")
    table = first(_text(given, "table"), _text(given, "sys_class_name"), _table_of(_text(given, "number")))
    if table == "sysapproval_approver":
        return Adapted((_approver(given, defaults, received_at),))
    if table == "change_request":
        return Adapted((_change(given, defaults, received_at),))
    if table == "incident":
        return _incident(given, defaults, received_at)
    return Adapted(ignored=f"ServiceNow's table {table or 'without a name'} is neither of changes nor of incidents")


def _table_of(number: str) -> str:
    # The Table API names no table where sys_class_name was not asked for.
    return {"CHG": "change_request", "INC": "incident"}.get(number[:3], "")


# Changes


def _change(given: Payload, defaults: Defaults, received_at: int) -> Record:
    state = _state(given, CHANGE_STATES)
    approval = _text(given, "approval").lower().replace("_", " ")
    kind = _step(given, state, approval)
    actor = first(_text(given, "updated_by"), _text(given, "sys_updated_by"))
    return _approval(
        given,
        defaults,
        kind,
        occurred_at=_time(given, "sys_updated_on") or received_at,
        change_ticket=_text(given, "number"),
        ticket_state=state,
        approver=_approver_of(given, actor, kind),
        justification=_text(given, "justification"),
        valid_from=_time(given, "start_date"),
        valid_until=_time(given, "end_date"),
        emergency=_text(given, "type").lower() == "emergency",
        tags=texts(
            approval=approval,
            type=_text(given, "type"),
            title=_text(given, "short_description"),
            actor="" if kind in _DECIDES else actor,
        ),
    )


def _step(given: Payload, state: str, approval: str) -> str:
    previous = mapping(given, "previous")
    if state == "canceled":
        return "unknown" if _state(previous, CHANGE_STATES) == state else "revoked"
    if previous:
        before = _text(previous, "approval").lower().replace("_", " ")
        was_told = before == approval and (before != "not requested" or _state(previous, CHANGE_STATES) != state)
    else:
        was_told = state in _DECIDED_LONG_AGO
    return "unknown" if was_told else APPROVALS.get(approval, "unknown")


def _approver_of(given: Payload, actor: str, kind: str) -> str:
    if kind not in _DECIDES:
        return ""
    named = first(_named(given, "approver"), actor if mapping(given, "previous") else "")
    return "" if named.lower() in _NOBODY else named


def _approver(given: Payload, defaults: Defaults, received_at: int) -> Record:
    """One person's decision on a change: the table sysapproval_approver."""
    state = _text(given, "state").lower().replace("_", " ")
    kind = APPROVALS.get(state, "unknown")
    return _approval(
        given,
        defaults,
        kind,
        occurred_at=_time(given, "sys_updated_on") or received_at,
        change_ticket=first(_text(given, "change"), _named(given, "sysapproval")),
        ticket_state=state,
        approver=_approver_of(given, "", kind),
        approver_role=_named(given, "approver_role"),
        justification=_text(given, "comments"),
        valid_until=_time(given, "due_date"),
        tags=texts(asked="" if kind in _DECIDES else _named(given, "approver")),
    )


def _approval(given: Payload, defaults: Defaults, kind: str, **fields: Any) -> Record:
    change = first(_text(given, "sys_mod_count"), _text(given, "sys_updated_on"))
    return record(
        RecordType.APPROVAL,
        NAME,
        (_text(given, "sys_id"), "" if kind == "registered" else change, kind),
        _place(given, defaults),
        approval_type=kind,
        deployment_id=_text(given, "deployment_id"),
        artifact_digest=_text(given, "artifact_digest"),
        **fields,
    )


# Incidents


def _incident(given: Payload, defaults: Defaults, received_at: int) -> Adapted:
    state = _state(given, _INCIDENT_NUMBERS)
    signal_type, unknown = monitoring.type_of(INCIDENT_STATES, state)
    times_reopened = first(_text(given, "reopen_count"), "0")
    anew = times_reopened != "0"
    opened = _first_time(given, "opened_at", "sys_created_on")
    began = _first_time(given, "reopened_time", "sys_updated_on") if anew else opened
    updated = _time(given, "sys_updated_on") or received_at
    ended = _first_time(given, "resolved_at", "closed_at") or updated
    number, title = _text(given, "number"), _text(given, "short_description")
    at = {"incident_opened": began, "incident_resolved": ended}.get(signal_type) or updated
    priority = _text(given, "priority")
    mark = "" if not unknown else first(_text(given, "sys_mod_count"), _text(given, "sys_updated_on"))
    return Adapted(
        (
            monitoring.signal(
                NAME,
                # On hold it is as open as it was when it was new; closed, it ended when it was resolved.
                (_text(given, "sys_id"), signal_type, times_reopened, mark),
                _place(given, defaults),
                signal_type=signal_type,
                occurred_at=at,
                fingerprint=first(number, _text(given, "sys_id")),
                severity=_PRIORITIES.get(priority[:1], "unknown"),
                title=title,
                started_at=began if signal_type == "incident_opened" else opened,
                ended_at=ended if signal_type == "incident_resolved" else None,
                incident_id=number,
                ticket_id=number,
                labels=texts(
                    state=state,
                    priority=priority,
                    category=_text(given, "category"),
                    assignment_group=_named(given, "assignment_group"),
                )
                | unknown,
                source=monitoring.source_of(NAME, {}, title=title, sender=_named(given, "opened_by")),
            ),
        )
    )


# Values of the Table API and of a business rule


def _text(given: object, name: str) -> str:
    """The value of a field, also of {"value", "display_value"}: the value is what does not depend on who asks."""
    inner = mapping(given, name)
    found = (text(inner, "value") if inner else text(given, name)).strip()
    return "" if found in ("undefined", "null") else found


def _named(given: object, name: str) -> str:
    """The name of what a field refers to; "" where only its sys_id is told."""
    inner = mapping(given, name)
    found = first(text(inner, "display_value"), text(inner, "value")) if inner else text(given, name)
    return "" if _SYS_ID.fullmatch(found) or found in ("undefined", "null") else found.strip()


def _state(given: object, names: Mapping[str, str]) -> str:
    value = _text(given, "state").lower()
    return names.get(value, value)


def _time(given: object, name: str) -> int | None:
    """The instant of `YYYY-MM-DD HH:MM:SS`, which is UTC in ServiceNow's database."""
    written = _TIME.fullmatch(_text(given, name))
    return instant(f"{written[1]}T{written[2]}Z") if written else None


def _first_time(given: object, *names: str) -> int | None:
    """The first of these fields that holds a time."""
    return next((at for name in names if (at := _time(given, name)) is not None), None)


def _place(given: Payload, defaults: Defaults) -> dict[str, str]:
    link = next((host for name in given if (host := host_of(text(mapping(given, name), "link")))), "")
    return placed(
        defaults,
        NAME,
        region=first(_named(given, "region"), _named(given, "u_region")),
        environment=first(_named(given, "environment"), _named(given, "u_environment")),
        service=first(*(_named(given, name) for name in ("service", "u_service", "cmdb_ci", "business_service"))),
        host=first(_text(given, "instance"), link),
    )


SOURCE = Source(
    name=NAME,
    title="ServiceNow",
    adapt=adapt,
    statuses={
        **{f"change, approval {approval}": step for approval, step in APPROVALS.items()},
        "change, state canceled": "revoked",
        **{f"change, state {state}": "unknown" for state in sorted(_DECIDED_LONG_AGO)},
        **{f"incident, state {state}": signal for state, signal in INCIDENT_STATES.items()},
    },
    fills={
        RecordType.APPROVAL: usual(
            RecordType.APPROVAL,
            *("deployment_id", "artifact_digest", "change_ticket", "ticket_state", "approver", "approver_role"),
            *("justification", "valid_from", "valid_until", "emergency", "tags"),
        ),
        RecordType.SIGNAL: usual(
            RecordType.SIGNAL,
            *("fingerprint", "severity", "title", "started_at", "ended_at", "incident_id", "ticket_id", "labels"),
        ),
    },
)
