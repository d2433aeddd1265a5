"""One production deployment as auditors ask for it: a row, and what is wrong with it.

The verdicts come from the processors, as they stand. Beside them some things are looked at here again, by the
record alone, so that a processor that did not run hides nothing: no approval, an approver who is the deployer, no
ticket or one that its system ties to something else, no end, an emergency that nobody looked at afterwards.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from deploytrail_schemas.people import is_same, person

Value = Mapping[str, Any]
COLUMNS = (
    *("deployment", "kind", "service", "team", "environment", "region", "artifact digest", "version", "commit"),
    *("ticket", "ticket state at approval", "requester", "authors", "approvers", "approved at", "approver roles"),
    *("deployer", "permit", "registered at", "started at", "± ms", "finished at", "± ms (end)", "outcome", "window"),
    *("emergency", "emergency review", "rolls back", "rolled back by", "incidents", "justification", "controls"),
    *("policy versions", "sources", "provenance", "conflicts"),
)
EXCEPTION_COLUMNS = (
    "exception",
    "deployment",
    "service",
    "environment",
    "region",
    "at",
    "severity",
    "what",
    "known by",
)
# What the processors say of controls; other rules speak of speed, causes and alerts.
CONTROLS = (
    *("approval", "unregistered_deployment", "missing_approval", "permit_misuse", "change_window"),
    *("change_window_overrun", "required_fields", "regime", "grain", "rollback_verification", "unreported_deployment"),
    *("success_criteria", "overdue", "drift"),
)
# Whether a deployment was a success is its outcome, and no breach of a control.
_OF_OUTCOME = frozenset({"success_criteria"})
_WINDOW = {"ok": "inside", "violation": "outside", "inconclusive": "uncertain"}
# Of what is superseded nobody told the end either.
_ENDED = frozenset({"succeeded", "failed", "cancelled", "rolled_back"})
_WITHDRAWN = frozenset({"rejected", "revoked", "expired"})
_RECORD = "the record"


@dataclass(frozen=True, slots=True)
class Audited:
    """A row of the full list, and its exceptions."""

    row: tuple[str, ...]
    exceptions: tuple[tuple[str, ...], ...]


def audited(
    deployment: Value,
    approvals: Sequence[Value],
    events: Sequence[Value],
    findings: Sequence[Value],
    named: Collection[str] | None = (),
) -> Audited:
    """All that is known of one deployment. `approvals`: the steps about it, in order of time; `named`: the deployments
    that the ticket system's own steps of its ticket name, None where that system never spoke of the ticket."""
    said = _Steps(deployment, approvals, events)
    verdicts = [f for f in findings if f["rule"] in CONTROLS]
    window = next((f for f in verdicts if f["rule"] == "change_window"), None)
    broke_glass = window is not None and window["reason"] == "break_glass"
    row = (
        deployment["deployment_id"],
        deployment["kind"],
        deployment["service"],
        deployment["team"],
        deployment["environment"],
        deployment["region"],
        deployment["artifact_digest"],
        deployment["version"],
        deployment["commit_sha"],
        said.ticket,
        said.ticket_state,
        said.requester,
        ", ".join(said.authors),
        ", ".join(a["approver"] or "?" for a in said.counting),
        ", ".join(instant(a["corrected_at"]) for a in said.counting),
        ", ".join(a["approver_role"] or "?" for a in said.counting),
        said.deployer,
        ", ".join(said.permits),
        instant(deployment["registered_at"]),
        instant(deployment["started_at"]),
        number(deployment["started_at_uncertainty_ms"]),
        instant(deployment["finished_at"]),
        number(deployment["finished_at_uncertainty_ms"]),
        deployment["state"],
        ("outside, break-glass" if broke_glass else _WINDOW.get(window["verdict"], "")) if window else "not judged",
        "yes" if said.emergency else "no",
        said.review,
        deployment["rollback_of"],
        deployment["rolled_back_by"],
        ", ".join(_incidents(findings)),
        said.justification,
        ", ".join(f"{f['rule']}: {f['verdict']} ({f['reason']})" for f in verdicts) or "not judged",
        ", ".join(sorted({f["policy_version"] for f in verdicts} - {""})),
        ", ".join(deployment["sources"]),
        f"{deployment['provenance']}, {deployment['confidence']:g}" if deployment["confidence"] < 1 else "reported",
        ", ".join(f"{name}: {text}" for name, text in sorted(deployment["conflicts"].items())),
    )
    return Audited(row, tuple(_exceptions(deployment, said, verdicts, named)))


def instant(at: datetime | None) -> str:
    """RFC 3339 in UTC with milliseconds; empty for none."""
    if at is None:
        return ""
    aware = at if at.tzinfo else at.replace(tzinfo=UTC)  # as ClickHouse's client gives what is in UTC
    return aware.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def number(value: int | None) -> str:
    """A number's text; empty for none."""
    return "" if value is None else str(value)


class _Steps:
    """What approvals and events say of who asked, who approved, and why."""

    def __init__(self, deployment: Value, approvals: Sequence[Value], events: Sequence[Value]) -> None:
        began = deployment["started_at"] or deployment["finished_at"]
        before = [s for s in approvals if began is None or s["corrected_at"] <= began]
        self.counting = _in_force(before)
        self.late = [s for s in approvals[len(before) :] if s["approval_type"] == "approved"]
        asked = [s for s in approvals if s["approval_type"] in ("registered", "requested")]
        own = [s for s in asked if s["approval_type"] == "registered"]
        self.ticket = deployment["change_ticket"] or _last(s["change_ticket"] for s in own)
        self.deployer = deployment["deployer"] or _last(s["tags"].get("deployer", "") for s in own)
        self.requester = next((s["approver"] or s["reporter"] for s in asked if s["approver"] or s["reporter"]), "")
        given = max((s["corrected_at"] for s in self.counting), default=None)
        self.ticket_state = _last(
            s["ticket_state"] for s in before if given is not None and s["corrected_at"] <= given
        )  # fmt: skip
        self.permits = _distinct(
            [e["permit_id"] for e in events]
            + [s["tags"].get("permit_id", "") for s in approvals if s["approval_type"].startswith("permit_")]
        )
        tags = [e["tags"] for e in events] + [s["tags"] for s in approvals]
        self.authors = _distinct(
            name.strip() for t in tags for key in ("commit_authors", "author") for name in t.get(key, "").split(",")
        )
        words = [e["justification"] for e in events]
        words += [s["justification"] for s in approvals if s["approval_type"] != "permit_refused"]
        self.justification = "; ".join(_distinct(words))
        self.emergency = deployment["emergency"] or any(s["emergency"] for s in self.counting)
        self.review = ""
        if self.emergency:
            gave = [s["approver"] for s in approvals if s["emergency"]]
            reviewers = [s for s in self.late if s["approver"] and not any(
                is_same(s["approver"], other) for other in (*gave, self.deployer))]  # fmt: skip
            self.review = ", ".join(f"{s['approver']} at {instant(s['corrected_at'])}" for s in reviewers) or "none"


def _in_force(steps: Iterable[Value]) -> list[Value]:
    """Of each person the latest approval, where nothing has withdrawn it."""
    latest: dict[str, Value] = {}
    for step in steps:
        who = person(step["approver"])
        if step["approval_type"] == "approved":
            latest[who] = step
        elif step["approval_type"] in _WITHDRAWN:
            for name in [who] if who in latest or step["approval_type"] == "rejected" else list(latest):
                latest.pop(name, None)
    return list(latest.values())


def _exceptions(
    deployment: Value, said: _Steps, verdicts: Sequence[Value], named: Collection[str] | None
) -> Iterable[tuple[str, ...]]:
    at = instant(deployment["began"])
    place = (deployment["deployment_id"], deployment["service"], deployment["environment"], deployment["region"], at)
    judged = {f["rule"] for f in verdicts}
    found = set()
    for finding in verdicts:
        if finding["verdict"] != "ok" and finding["rule"] not in _OF_OUTCOME:
            what = finding["explanation"] or finding["reason"]
            known = f"{finding['rule']} {finding['finding_id']}"
            reasons = (finding["reason"], *finding["evidence"].get("reasons", "").split(","))
            for reason in _distinct(reasons):
                found.add(reason)
                yield (reason, *place, finding["severity"], what, known)
    for name, what in _seen(deployment, said, judged, named):
        if name not in found:
            yield (name, *place, "warning", what, _RECORD)


def _seen(
    deployment: Value, said: _Steps, judged: Collection[str], named: Collection[str] | None
) -> Iterable[tuple[str, str]]:
    """What the record alone shows, by its name, in words."""
    if not said.counting and not {"approval", "missing_approval"} & set(judged):
        late = f"; {len(said.late)} came after it had begun" if said.late else ""
        yield "no_approval", f"nobody approved it before it began{late}"
    if any(is_same(s["approver"], said.deployer) for s in said.counting) and "missing_approval" not in judged:
        yield "self_approval", f"{said.deployer} deployed and approved it"
    if not said.deployer:
        yield "deployer_unknown", "nobody says who deployed it"
    if not said.ticket:
        if not deployment["rollback_of"]:
            yield "no_change_ticket", "it names no change ticket"
    elif named is None:
        yield "ticket_unknown", f"the ticket system never spoke of {said.ticket}"
    elif named and deployment["deployment_id"] not in named:
        some = ", ".join(sorted(named)[:5])
        yield "ticket_names_other_deployment", f"{said.ticket} is the ticket of {some}"
    if not deployment["artifact_digest"]:
        yield "no_artifact_digest", "nobody says which artifact it was"
    if deployment["state"] == "voided":
        yield "voided", "its record was declared void; it is listed all the same"
    elif deployment["state"] not in _ENDED:
        yield "no_end", f"its state is {deployment['state']}: no end was reported"
    if said.review == "none":
        yield "emergency_not_reviewed", "nobody but its deployer and approver looked at it afterwards"
    if deployment["provenance"] == "inferred":
        yield "not_reported", "it was inferred from what runs: nobody reported it"
    if deployment["conflicts"]:
        yield "sources_disagree", f"its sources disagree on {', '.join(sorted(deployment['conflicts']))}"


def _incidents(findings: Iterable[Value]) -> Iterable[str]:
    for finding in findings:
        if finding["rule"] == "incident_correlation" and finding["rank"] == 1:
            yield f"{finding['signal_id']} ({finding['probability']:.0%})"


def _distinct(texts: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(text for text in texts if text))


def _last(texts: Iterable[str]) -> str:
    """The last that says something; empty where none does."""
    return next((text for text in reversed([*texts]) if text), "")
