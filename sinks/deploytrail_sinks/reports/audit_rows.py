"""One production deployment as auditors ask for it: a row, and what is wrong with it.

The verdicts come from the processors, as they stand. Beside them some things are looked at here again, by the
record alone, so that a processor that did not run hides nothing: no approval, an approver who is the deployer, no
ticket, no end, an emergency that nobody looked at afterwards.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

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
_WINDOW = {"ok": "inside", "violation": "outside", "inconclusive": "uncertain"}
# Of what is superseded nobody told the end either.
_ENDED = frozenset({"succeeded", "failed", "cancelled", "rolled_back"})
_RECORD = "the record"


@dataclass(frozen=True, slots=True)
class Audited:
    """A row of the full list, and its exceptions."""

    row: tuple[str, ...]
    exceptions: tuple[tuple[str, ...], ...]


def audited(
    deployment: Value, approvals: Sequence[Value], events: Sequence[Value], findings: Sequence[Value]
) -> Audited:
    """All that is known of one deployment. `approvals`: the steps about it, in order of time."""
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
        deployment["change_ticket"],
        said.ticket_state,
        said.requester,
        ", ".join(said.authors),
        ", ".join(a["approver"] or "?" for a in said.counting),
        ", ".join(instant(a["corrected_at"]) for a in said.counting),
        ", ".join(a["approver_role"] or "?" for a in said.counting),
        deployment["deployer"],
        ", ".join(said.permits),
        instant(deployment["registered_at"]),
        instant(deployment["started_at"]),
        number(deployment["started_at_uncertainty_ms"]),
        instant(deployment["finished_at"]),
        number(deployment["finished_at_uncertainty_ms"]),
        deployment["state"],
        ("outside, break-glass" if broke_glass else _WINDOW.get(window["verdict"], "")) if window else "not judged",
        "yes" if deployment["emergency"] else "no",
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
    return Audited(row, tuple(_exceptions(deployment, said, verdicts)))


def about(deployment: Value, approvals: Iterable[Value]) -> list[Value]:
    """The steps that speak of a deployment: by its id, or by its ticket alone."""
    mine, ticket = deployment["deployment_id"], deployment["change_ticket"]
    place = (deployment["environment"], deployment["service"])
    return [
        step
        for step in approvals
        if step["deployment_id"] == mine
        or (not step["deployment_id"] and ticket and step["change_ticket"] == ticket and _reaches(step, place))
    ]


def instant(at: datetime | None) -> str:
    """RFC 3339 in UTC with milliseconds; empty for none."""
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z") if at is not None else ""


def number(value: int | None) -> str:
    """A number's text; empty for none."""
    return "" if value is None else str(value)


class _Steps:
    """What approvals and events say of who asked, who approved, and why."""

    def __init__(self, deployment: Value, approvals: Sequence[Value], events: Sequence[Value]) -> None:
        self.began = deployment["started_at"] or deployment["finished_at"]
        latest: dict[str, Value] = {}
        for step in approvals:
            if step["approval_type"] in ("approved", "rejected", "revoked", "expired"):
                latest[step["approver"].strip().casefold()] = step
        every = [s for s in latest.values() if s["approval_type"] == "approved"]
        self.counting = [s for s in every if self.began is None or s["corrected_at"] <= self.began]
        self.late = [s for s in every if s not in self.counting]
        asked = [s for s in approvals if s["approval_type"] in ("registered", "requested")]
        self.registered = any(s["approval_type"] == "registered" for s in asked)
        self.requester = next((s["approver"] or s["reporter"] for s in asked if s["approver"] or s["reporter"]), "")
        self.ticket_state = next((s["ticket_state"] for s in reversed(self.counting) if s["ticket_state"]), "")
        self.permits = _distinct(
            [e["permit_id"] for e in events]
            + [s["tags"].get("permit_id", "") for s in approvals if s["approval_type"].startswith("permit_")]
        )
        tags = [e["tags"] for e in events] + [s["tags"] for s in approvals]
        self.authors = _distinct(
            name.strip() for t in tags for key in ("commit_authors", "author") for name in t.get(key, "").split(",")
        )
        words = [e["justification"] for e in events] + [s["justification"] for s in approvals]
        self.justification = "; ".join(_distinct(words))
        emergency = {s["approver"].strip().casefold() for s in self.counting if s["emergency"]}
        reviewers = [
            s for s in self.late if s["approver"] and s["approver"].strip().casefold() not in emergency
            and not _same(s["approver"], deployment["deployer"])
        ]  # fmt: skip
        self.review = ""
        if deployment["emergency"]:
            self.review = ", ".join(f"{s['approver']} at {instant(s['corrected_at'])}" for s in reviewers) or "none"


def _exceptions(deployment: Value, said: _Steps, verdicts: Sequence[Value]) -> Iterable[tuple[str, ...]]:
    at = instant(deployment["began"])
    place = (deployment["deployment_id"], deployment["service"], deployment["environment"], deployment["region"], at)
    judged = {f["rule"] for f in verdicts}
    for finding in verdicts:
        if finding["verdict"] != "ok":
            what = finding["explanation"] or finding["reason"]
            known = f"{finding['rule']} {finding['finding_id']}"
            yield (finding["reason"], *place, finding["severity"], what, known)
    seen = []
    if not said.counting and not {"approval", "missing_approval"} & judged:
        late = f"; {len(said.late)} came after it had begun" if said.late else ""
        seen.append(("no_approval", f"nobody approved it before it began{late}"))
    if any(_same(s["approver"], deployment["deployer"]) for s in said.counting) and "missing_approval" not in judged:
        seen.append(("self_approval", f"{deployment['deployer']} deployed and approved it"))
    if not deployment["deployer"]:
        seen.append(("deployer_unknown", "nobody says who deployed it"))
    if not deployment["change_ticket"] and not deployment["rollback_of"]:
        seen.append(("no_change_ticket", "it names no change ticket"))
    if not deployment["artifact_digest"]:
        seen.append(("no_artifact_digest", "nobody says which artifact it was"))
    if deployment["state"] not in _ENDED and deployment["state"] != "voided":
        seen.append(("no_end", f"its state is {deployment['state']}: no end was reported"))
    if deployment["state"] == "voided":
        seen.append(("voided", "its record was declared void; it is listed all the same"))
    if said.review == "none":
        seen.append(("emergency_not_reviewed", "nobody but its deployer and approver looked at it afterwards"))
    if deployment["provenance"] == "inferred":
        seen.append(("not_reported", "it was inferred from what runs: nobody reported it"))
    if deployment["conflicts"]:
        differing = ", ".join(sorted(deployment["conflicts"]))
        seen.append(("sources_disagree", f"its sources disagree on {differing}"))
    found = {f["reason"] for f in verdicts if f["verdict"] != "ok"}
    for name, what in seen:
        if name not in found:
            yield (name, *place, "warning", what, _RECORD)


def _incidents(findings: Iterable[Value]) -> Iterable[str]:
    for finding in findings:
        if finding["rule"] == "incident_correlation" and finding["rank"] == 1:
            yield f"{finding['signal_id']} ({finding['probability']:.0%})"


def _reaches(step: Value, place: tuple[str, str]) -> bool:
    """Whether a step that names only a ticket may speak of a place."""
    return all(
        not step[name] or step[name] == where for name, where in zip(("environment", "service"), place, strict=True)
    )


def _same(one: str, other: str) -> bool:
    """Whether two names are of one person; a name without a domain is the mailbox of that name in any."""
    first, second = one.strip().casefold(), other.strip().casefold()
    if not first or not second:
        return False
    return first == second or (("@" in first) != ("@" in second) and first.split("@")[0] == second.split("@")[0])


def _distinct(texts: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(text for text in texts if text))
