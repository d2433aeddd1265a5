"""What a policy means, in words: `deploytrail policy explain`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from deploytrail_schemas.counted import counted
from deploytrail_schemas.instants import format_instant
from deploytrail_schemas.policies.document import Document
from deploytrail_schemas.policies.scope import SCOPE_FIELDS, Scope

from deploytrail_processors.rules import window_words
from deploytrail_processors.rules.policies.break_glass import BreakGlass
from deploytrail_processors.rules.policies.policy_set import Policies
from deploytrail_processors.rules.policies.schema import spec_schema

Raw = Mapping[str, Any]


def in_words(document: Document, policies: Policies, *, at: int) -> list[str]:
    """A heading and sentences about a valid document, as it was written; of a change window also its next times from
    `at` (microseconds) on, as far as `policies`, the documents beside it, leave them."""
    since = f"from {format_instant(document.effective_from)}" if document.effective_from else "from when it is applied"
    raw = json.loads(document.text)
    say = _WORDS.get(document.kind)
    if document.kind == "change_window":
        told = window_words.explain(document, policies, at=at)
    else:
        told = list(say(document.name, raw)) if say else list(_fields(document.kind, raw))
    if "scope" in spec_schema(document.kind)["properties"]:
        told.append(f"It applies to {_scope(document.scope)}.")
    return [f"{document.kind}/{document.name}, {since}:", *told]


def _service(name: str, raw: Raw) -> Iterator[str]:
    team, tier = raw.get("team"), raw.get("tier")
    yield f"{name} is owned by {team}." if team else f"Nobody is said to own {name}."
    if tier:
        yield f"Its tier is {tier}."
    yield from _aliases(name, raw)
    if raw.get("depends_on"):
        yield f"It cannot do without {_and(raw['depends_on'])}: their deployments may be the cause of its alerts."
    if "expected_duration_minutes" in raw:
        yield f"Its deployments are overdue after {_minutes(raw['expected_duration_minutes'])}."
    if raw.get("grain"):
        yield f"One deployment of it covers {_GRAINS[raw['grain']]}; other reports become findings."
    if raw.get("regimes"):
        yield f"It is under {_and(raw['regimes'])}."


_GRAINS = {"environment": "a whole environment", "region": "one region", "instance": "one instance"}


def _required_fields(_: str, raw: Raw) -> Iterator[str]:
    yield f"A deployment must say {_and(_asked(raw))}; without, it is quarantined until they are found."
    for name, tickets in raw.get("heal", {}).items():
        yield f"{name} is also taken from other records of the same {_or(tickets)}."


def _regime(name: str, raw: Raw) -> Iterator[str]:
    yield f"{name} holds for the services whose policy lists it."
    if _asked(raw):
        yield f"Each of their deployments must say {_and(_asked(raw))}."
    yield from (f"{_CONTROLS[control]}." for control in raw.get("controls", []))


def _asked(raw: Raw) -> list[str]:
    return [*raw.get("fields", []), *(f"the tag {tag}" for tag in raw.get("tags", []))]


_CONTROLS = {
    "registered": "It must be registered",
    "approved": "Somebody must have approved it",
    "permit": "It must have a permit of the gate",
    "authenticated_reporter": "Every report of it must come from somebody authenticated",
}


def _velocity(_: str, raw: Raw) -> Iterator[str]:
    if "budget" in raw:
        span = _minutes(raw.get("budget_minutes", 7 * 24 * 60))
        yield f"A service may have {raw['budget']} changes in {span} in an environment; more are over its budget."
    if "burst" in raw:
        yield f"{raw['burst']} changes within {_minutes(raw.get('burst_minutes', 60))} are a burst."


def _approval(_: str, raw: Raw) -> Iterator[str]:
    count, roles = raw.get("count", 1), raw.get("roles")
    if count:
        people = "one person" if count == 1 else f"{count} different people"
        yield f"A deployment needs the approval of {people}{f' in the role {_or(roles)}' if roles else ''}."
        yield f"One that does not say how long it holds, holds for {_minutes(raw.get('valid_minutes', 24 * 60))}."
        if raw.get("four_eyes", True):
            yield "Neither the deployer nor an author of its commits may give it."
        if raw.get("unbound"):
            yield "It counts also where it names no artifact and was given before the registration."
    else:
        yield "A deployment needs no approval."
    for role, people in sorted(raw.get("holders", {}).items()):
        yield f"In the role {role} is {_and(people)}." if people else f"Nobody is in the role {role}."
    if raw.get("registration", True):
        yield "It must be registered before it begins."
    if raw.get("permit"):
        yield "It must have a permit of the gate."


def _suppression(_: str, raw: Raw) -> Iterator[str]:
    severities = raw.get("severities", ["error", "warning", "info"])
    yield f"While a deployment runs, known alerts of the severity {_or(severities)} keep quiet; critical and new never."
    if "lead_minutes" in raw:
        yield f"That begins {_minutes(raw['lead_minutes'])} before its start."
    yield f"It ends with it, or {_minutes(raw.get('max_minutes', 60))} after its start; what fires then is told."
    if raw.get("dependents"):
        yield "Alerts of services that declare to depend on it keep quiet, too."
    if raw.get("any_cohort"):
        yield "So do those of every cohort, where it goes cohort by cohort."


def _rollback_verification(_: str, raw: Raw) -> Iterator[str]:
    checks = raw.get("required", ["digest", "health", "alert"])
    deadline, before = _minutes(raw.get("deadline_minutes", 15)), _minutes(raw.get("baseline_minutes", 60))
    yield f"A rollback has helped if within {deadline} these hold: {_and([_CHECKS[check] for check in checks])}."
    if "health" in checks:
        yield f"Usual health is that of the {before} before what was rolled back."


def _reconciliation(_: str, raw: Raw) -> Iterator[str]:
    grace = _minutes(raw.get("grace_minutes", 15))
    if raw.get("infer", True):
        yield f"What runs for {grace} without a deployment that explains it is recorded as an inferred one."
        settle = _minutes(raw.get("settle_minutes", 2))
        yield f"For {settle} after the end of a deployment the version before it may still start."
    else:
        yield "No deployments are inferred."
    if raw.get("drift", True):
        yield f"What differs from what is declared is found once it has for {grace} and nothing is being deployed."
    else:
        yield "Nobody looks whether what runs differs from what is declared."


_CHECKS = {"digest": "the earlier artifact runs", "health": "health is as usual", "alert": "the alert has ended"}


def _success_criteria(_: str, raw: Raw) -> Iterator[str]:
    yield "A deployment is a success if it succeeds, and is not rolled back."
    if "max_duration_minutes" in raw:
        yield f"It takes {_minutes(raw['max_duration_minutes'])} at most."
    if (rate := raw.get("rollback_rate")) is not None:
        span = (
            f"of the last {counted(rate['days'], 'day')}"
            if "days" in rate
            else f"of the last {rate.get('deployments')}"
        )
        yield f"Of the changes {span} of its service there, {rate.get('max_percent')} % at most were rolled back."
    if (incident := raw.get("incident")) is not None:
        severity, within = incident.get("severity", "error"), _minutes(incident.get("within_minutes", 60))
        yield f"It likely caused no alert or incident of the severity {severity} or graver within {within}."
    if (health := raw.get("health")) is not None:
        yield f"Within {_minutes(health.get('within_minutes', 15))}, health checks are as they were before it."


def _escalation(_: str, raw: Raw) -> Iterator[str]:
    severities = raw.get("severities") or ["critical", "error"]
    yield f"What is found with the severity {_or(severities)} is told until somebody acknowledges it."
    for number, level in enumerate(raw["levels"], 1):
        minutes = _minutes(level.get("acknowledge_minutes", 10))
        yield f"Level {number}: {_and(level['notify'])}; after {minutes} without an answer it goes on."
    if raw.get("rounds", 1) > 1:
        yield f"The levels are gone through {counted(raw['rounds'], 'time')}."


def _retention(_: str, raw: Raw) -> Iterator[str]:
    firm = f", locked by {raw['lock']}" if raw.get("lock") else ""
    yield f"The archive keeps these records for {counted(raw['days'], 'day')} as {raw['class']}{firm}."
    if raw.get("regimes"):
        yield f"They are those of services under {_or(raw['regimes'])}."


def _place(name: str, raw: Raw) -> Iterator[str]:
    if raw.get("production"):
        yield f"{name} is production."
    yield from _aliases(name, raw)


def _aliases(name: str, raw: Raw) -> Iterator[str]:
    names = [str(alias) for alias in raw.get("aliases", [])]
    exact = [alias for alias in names if not set(alias) & set("*?")]
    patterns = [alias for alias in names if set(alias) & set("*?")]
    if exact:
        yield f"What is reported as {_or(exact)} is recorded as {name}."
    if patterns:
        yield f"So is what looks like {_or(patterns)}, where no name and no longer pattern says otherwise."


def _thresholds(name: str, raw: Raw) -> Iterator[str]:
    if name != "default":
        yield "No rule reads thresholds of this name; those that count are thresholds/default."
    for field, said in (
        ("lost_after_minutes", "A deployment of which nothing is heard counts as lost after"),
        ("overdue_after_minutes", "One whose service does not say how long it takes is overdue after"),
        ("correlation_window_minutes", "A deployment is a candidate for the cause of an alert for"),
        ("same_deployment_minutes", "What two sources report of one artifact in one place is one deployment within"),
    ):
        if field in raw:
            yield f"{said} {_minutes(raw[field])}."
    if "storm_alerts" in raw:
        yield f"From {raw['storm_alerts']:g} on, related alerts are one incident, a storm."
    if "storm_minutes" in raw:
        yield f"An incident takes in more alerts until {_minutes(raw['storm_minutes'])} after its first."


def _intake(_: str, raw: Raw) -> Iterator[str]:
    if raw["unsigned"] == "accept":
        yield "Records that come from Kafka without a signature are accepted."
    else:
        yield "Records that come from Kafka without a signature are refused, and set aside as dead letters."


def _calendar(_: str, raw: Raw) -> Iterator[str]:
    if raw.get("dates"):
        yield f"Its days are {_and(raw['dates'])}."
    if raw.get("ics"):
        events = str(raw["ics"]).upper().count("BEGIN:VEVENT")
        yield f"Its iCalendar text has {events} {'event' if events == 1 else 'events'}."
    where = f"in {raw['zone']}" if raw.get("zone") else "where the window lies that leaves them out"
    yield f"Days and times without a zone are {where}."


def _break_glass(_: str, raw: Raw) -> Iterator[str]:
    yield (
        "An emergency may start while windows are closed, if somebody other than its deployer and authors has approved "
        "it as one, with a reason and an end."
    )
    if raw.get("approver_roles"):
        yield f"Who approves is {_or(raw['approver_roles'])}."
    yield f"The approval holds for {_minutes(raw.get('max_minutes', BreakGlass(Scope()).max_minutes))} at most."
    if raw.get("approve_within_minutes"):
        yield f"It may be given up to {_minutes(raw['approve_within_minutes'])} after the start."


def _fields(kind: str, raw: Raw) -> Iterator[str]:
    """Where nobody wrote sentences: each field, its value, and what the field means."""
    properties = spec_schema(kind)["properties"]
    for name, value in raw.items():
        if name != "scope":
            said = properties.get(name, {}).get("description", "")
            yield f"{name}: {_value(value)}{' (' + said.rstrip('.') + ')' if said else ''}"


def _scope(scope: Scope) -> str:
    said = [f"{name} {_or(list(getattr(scope, name)))}" for name in SCOPE_FIELDS if getattr(scope, name)]
    return " in ".join(said) if said else "everything"


def _value(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return str(value)


def _minutes(value: float) -> str:
    if value >= 120 and value % 60 == 0:
        return counted(value / 60, "hour")
    return counted(value, "minute")


def _and(words: list[Any]) -> str:
    return _joined(words, "and")


def _or(words: list[Any]) -> str:
    return _joined(words, "or")


def _joined(words: list[Any], last: str) -> str:
    texts = list(map(str, words))
    return texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} {last} {texts[-1]}"


_WORDS: Mapping[str, Callable[[str, Raw], Iterator[str]]] = {
    "service": _service,
    "environment": _place,
    "region": _place,
    "calendar": _calendar,
    "break_glass": _break_glass,
    "thresholds": _thresholds,
    "approval": _approval,
    "suppression": _suppression,
    "rollback_verification": _rollback_verification,
    "success_criteria": _success_criteria,
    "escalation": _escalation,
    "retention": _retention,
    "intake": _intake,
    "required_fields": _required_fields,
    "regime": _regime,
    "velocity": _velocity,
    "reconciliation": _reconciliation,
}
