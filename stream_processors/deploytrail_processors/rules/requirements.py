"""Is all known of a deployment that somebody requires: fields, business tags, the controls of a regime?

In: what was reported of it (`State`, which grows with each event or approval in any order), the
policies of its first time, what other records of its tickets tell. Out: a standing finding for each
requirement that it misses, superseded when less is missing and healed when nothing is. Nothing is
ever dropped for a gap: the deployment is quarantined in the word of its finding.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from deploytrail_schemas.instants import from_micros
from deploytrail_schemas.reasons import Reason

from deploytrail_processors.rules import approval_steps
from deploytrail_processors.rules.approval_steps import Moment
from deploytrail_processors.rules.findings import Finding, finding, in_place_of
from deploytrail_processors.rules.policies import Document, Policies, Requirement
from deploytrail_processors.rules.policies.requirement import REQUIRABLE, TICKETS

State = dict[str, Any]
Known = Mapping[tuple[str, str], Mapping[str, str]]  # ticket field and ticket → name → value
_EMPTY = frozenset({"", None, "unknown"})
_PLACE = ("region", "environment", "service", "kind", "team", "tier")
_CONTROL_OF = {"registered": "registered", "permit_issued": "permit", "permit_used": "permit"}
# What approvals are judged by, besides the place.
_TOLD = ("artifact_digest", "deployer", "change_ticket")
MOST_TAGS = 100
# And of all that speak of one deployment: so many tags, and tickets of a kind, the first by name.
MOST_NAMED, MOST_TICKETS = 1024, 64


@dataclass(frozen=True, slots=True)
class Asked:
    """A requirement that applies to a deployment. `requirement` None: it cannot be met, for `reason`."""

    rule: str  # required_fields or regime
    name: str
    document: Document | None
    requirement: Requirement | None
    reason: Reason | None = None


def new_state(deployment_id: str) -> State:
    """Nothing is known yet."""
    return {"id": deployment_id, "since": None, "place": None, "started": None, "told": {}, "has": [], "tickets": {},
            "controls": [], "unauthenticated": False, "voided": False}  # fmt: skip


def with_event(state: State, event: Mapping[str, Any]) -> State:
    """The state with one more event of the deployment; equal for every order and repetition."""
    has = {name for name in REQUIRABLE if event[name] not in _EMPTY}
    has |= {f"tags.{name}" for name, value in sorted(event["tags"].items())[:MOST_TAGS] if value}
    controls = {"registered"} if event["event_type"] == "registered" else set()
    controls |= {"permit"} if event["permit_id"] else set()
    rank = [event["corrected_at"], event["event_id"]]
    place = [rank, {name: event[name] for name in _PLACE}]
    started = [*rank, event["uncertainty_ms"] or 0] if event["event_type"] == "started" else None
    told = {name: [rank, event[name]] for name in _TOLD if event[name] not in _EMPTY}
    return _grown(state, has, controls, event) | {
        "since": min(filter(None, (state["since"], event["corrected_at"]))),
        "place": max(filter(None, (state["place"], place)), key=lambda one: one[0]),
        "started": min(filter(None, (state["started"], started)), default=None),
        "told": state["told"] | {name: max(one, state["told"].get(name, one)) for name, one in told.items()},
        "unauthenticated": state["unauthenticated"] or not event["reporter"],
        "voided": state["voided"] or event["event_type"] == "voided",
    }


def with_approval(state: State, approval: Mapping[str, Any]) -> State:
    """The state with one more approval that names the deployment; it may tell its ticket and tags too."""
    has = {name for name in ("change_ticket", "justification") if approval[name] not in _EMPTY}
    has |= {f"tags.{name}" for name, value in sorted(approval["tags"].items())[:MOST_TAGS] if value}
    control = _CONTROL_OF.get(approval["approval_type"])
    return _grown(state, has, {control} if control else set(), approval)


def _grown(state: State, has: set[str], controls: set[str], said: Mapping[str, Any]) -> State:
    tickets = {name: said[name] for name in TICKETS if said.get(name) not in _EMPTY}
    return state | {
        "has": _first({*state["has"], *has}),
        "controls": sorted({*state["controls"], *controls}),
        "tickets": {
            name: sorted({*state["tickets"].get(name, []), ticket})[:MOST_TICKETS] for name, ticket in tickets.items()
        }
        | {name: known for name, known in state["tickets"].items() if name not in tickets},
    }


def _first(has: set[str]) -> list[str]:
    """Every field, and the first tags by name: the same in every order of an id that is used for ever."""
    tags = sorted(name for name in has if name.startswith("tags."))[:MOST_NAMED]
    return sorted({name for name in has if not name.startswith("tags.")}) + tags


def together(states: Sequence[State], known_as: str) -> State:
    """What is known of one deployment under several names. Equal for every order."""
    every = sorted(states, key=lambda state: str(state["id"]))
    told: dict[str, list[Any]] = {}
    tickets: dict[str, set[str]] = {}
    for state in every:
        for name, one in state["told"].items():
            told[name] = max(one, told.get(name, one))
        for name, some in state["tickets"].items():
            tickets.setdefault(name, set()).update(some)
    return {
        "id": known_as,
        "since": min((s["since"] for s in every if s["since"] is not None), default=None),
        "place": max((s["place"] for s in every if s["place"]), key=lambda one: one[0], default=None),
        "started": min((s["started"] for s in every if s["started"]), default=None),
        "told": told,
        "has": _first({name for s in every for name in s["has"]}),
        "tickets": {name: sorted(some)[:MOST_TICKETS] for name, some in tickets.items()},
        "controls": sorted({name for s in every for name in s["controls"]}),
        "unauthenticated": any(s["unauthenticated"] for s in every),
        "voided": any(s["voided"] for s in every),
    }


def told_of_tickets(record: Mapping[str, Any], policies: Policies) -> Iterator[tuple[str, str, dict[str, str]]]:
    """What a record tells of its tickets that some policy heals by: ticket field, ticket, name → value."""
    wanted: dict[str, set[str]] = {}
    for document in policies.of_kind("required_fields"):
        if isinstance(document.spec, Requirement):
            for name, tickets in document.spec.heal.items():
                for ticket in tickets:
                    wanted.setdefault(ticket, set()).add(name)
    for ticket, names in sorted(wanted.items()):
        if record.get(ticket) not in _EMPTY:
            values = {name: _value(record, name) for name in sorted(names)}
            told = {name: value for name, value in values.items() if value}
            if told:
                yield ticket, record[ticket], told


def _value(record: Mapping[str, Any], name: str) -> str:
    value = record["tags"].get(name.removeprefix("tags.")) if name.startswith("tags.") else record.get(name)
    return "" if value in _EMPTY else str(value)


def asked_of(state: State, policies: Policies) -> list[Asked]:
    """The requirements that apply to a deployment. An invalid policy cannot be met: it fails closed."""
    service = policies.service(state["place"][1]["service"])
    subject = subject_of(state, policies)
    found = [_asked("required_fields", d) for d in policies.of_kind("required_fields") if d.scope.restricts(subject)]
    for name in service.regimes:
        document = policies.document("regime", name)
        if document is None:
            found.append(Asked("regime", name, None, None, Reason.REGIME_UNKNOWN))
        elif document.scope.restricts(subject):
            found.append(_asked("regime", document))
    return found


def subject_of(state: State, policies: Policies) -> dict[str, str]:
    """The place of a deployment, with the team and tier that policies declare."""
    place: dict[str, str] = state["place"][1]
    service = policies.service(place["service"])
    return place | {"team": service.team or place["team"], "tier": service.tier or place["tier"]}


def _asked(rule: str, document: Document) -> Asked:
    if isinstance(document.spec, Requirement):
        return Asked(rule, document.name, document, document.spec)
    return Asked(rule, document.name, document, None, Reason.POLICY_INVALID)


def approval_asked(state: State, policies: Policies) -> tuple[approval_steps.Asked, Moment]:
    """What approvals are judged by: the deployment, and its start. Before it has started every approval counts."""
    told = {name: one[1] for name, one in state["told"].items()}
    place = subject_of(state, policies)
    asked = approval_steps.Asked(
        deployment_id=state["id"],
        artifact_digest=told.get("artifact_digest", ""),
        deployer=told.get("deployer", ""),
        **{name: place[name] for name in _PLACE},
    )
    if state["started"] is None:
        return asked, Moment(state["since"], is_now=True)
    at, _, uncertainty_ms = state["started"]
    return asked, Moment(at, uncertainty_ms * 1000)


def judge(
    state: State, asked: Asked, known: Known, standing: Finding | None, *, approved: bool = False
) -> Finding | None:
    """The finding that stands now; None while nothing was missing. `standing` is what was written last, `approved`
    whether the deployment has the approvals that it needs."""
    fields, controls, healed = _missing(state, asked.requirement, known, approved)
    reason = asked.reason or _reason(fields, controls)
    if state["voided"]:
        reason = None
    if reason is None and (standing is None or standing["verdict"] == "ok"):
        return standing
    found = _finding(state, asked, reason, fields + controls, healed)
    return in_place_of(standing, found)


def _missing(
    state: State, requirement: Requirement | None, known: Known, approved: bool
) -> tuple[list[str], list[str], list[str]]:
    """Names that are missing, controls that are, and what other records have healed."""
    if requirement is None:
        return [], [], []
    missing, healed = [], []
    for name in requirement.names:
        if name not in state["has"]:
            source = next(_healers(state, requirement, name, known), None)
            if source is None:
                missing.append(name)
            else:
                healed.append(source)
    controls = [c for c in requirement.controls if not (approved if c == "approved" else _has_control(state, c))]
    return missing, controls, healed


def _healers(state: State, requirement: Requirement, name: str, known: Known) -> Iterator[str]:
    for ticket in requirement.heal.get(name, ()):
        for number in state["tickets"].get(ticket, []):
            value = known.get((ticket, number), {}).get(name)
            if value:
                yield f"{name}={value} of {ticket} {number}"


def _has_control(state: State, control: str) -> bool:
    if control == "authenticated_reporter":
        return not state["unauthenticated"]
    return control in state["controls"]


def _reason(fields: list[str], controls: list[str]) -> Reason | None:
    if fields and controls:
        return Reason.FIELDS_AND_CONTROLS_MISSING
    return Reason.FIELDS_MISSING if fields else Reason.CONTROLS_MISSING if controls else None


def _finding(state: State, asked: Asked, reason: Reason | None, missing: list[str], healed: list[str]) -> Finding:
    place = state["place"][1]
    evidence = {
        "policy": asked.name,
        "missing": ", ".join(missing),
        "quarantined": "false" if reason is None else "true",
        "healed_by": "; ".join(healed),
        "since": from_micros(state["since"]).isoformat(),
    }
    what = f"{asked.rule} {asked.name}"
    if reason is None:
        words = f"was voided; {what} asks nothing of it" if state["voided"] else f"has all that {what} asks for, by now"
    elif missing:
        words = f"lacks {', '.join(missing)}, which {what} asks for"
    else:
        words = f"is under {what}, which no valid policy describes"
    return finding(
        asked.rule,
        "ok" if reason is None else "violation",
        reason or Reason.HEALED,
        subject=f"{state['id']}/{asked.name}",
        place=place,
        occurred_at=state["since"],
        severity="info" if reason is None else "error" if asked.rule == "regime" else "warning",
        explanation=f"deployment {state['id']} of {place['service']} {words}",
        evidence={name: text for name, text in evidence.items() if text},
        deployment_id=state["id"],
        policy_version=asked.document.key if asked.document else "",
    )
