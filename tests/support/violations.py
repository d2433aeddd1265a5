"""What can be wrong with a deployment: each kind a change of its plan, and what an audit must and may say of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from support.company import BEGIN, DAY, FIRST_IN_ORDER, HOUR, Change, Plan, digest_of
from support.values import MINUTE

# What follows where an approval does not count.
_UNAPPROVED = frozenset({"not_enough_approvals"})
# What nobody reported has nothing that it should have.
_NOTHING = frozenset({"unregistered", "no_approval", "no_permit", "deployer_unknown", "no_change_ticket",
                      "not_reported", "fields_missing"})  # fmt: skip


@dataclass(frozen=True)
class Violation:
    """`must`: the exceptions that an audit has of it; `may`: what it may have besides. `service`: where only one will
    do; `moved`: when it happens instead."""

    name: str
    plan: Callable[[Change, Plan], Plan]
    must: frozenset[str]
    may: frozenset[str] = frozenset()
    moved: Callable[[int], int] | None = None
    service: str = ""
    environment: str = "production"


def _kind(name: str, plan: Callable[[Change, Plan], Plan], must: str, may: frozenset[str] = frozenset(),
          **more: object) -> Violation:  # fmt: skip
    return Violation(name, plan, frozenset(must.split()), may, **more)  # type: ignore[arg-type]  # names of fields


def _approved(**fields: object) -> Callable[[Change, Plan], Plan]:
    return lambda _, plan: replace(plan, by_ticket=False, approved={**plan.approved, **fields})


def _steps(*more: tuple[float, str, Mapping[str, object]]) -> Callable[[Change, Plan], Plan]:
    return lambda _, plan: replace(plan, by_ticket=False, arrives_late=False, steps=more)


def _another(change: Change) -> str:
    """The ticket of a change in order whose ticket names its deployment."""
    return f"CHG{FIRST_IN_ORDER + 1 + 3 * (change.number % 20):05}"


def _saturday(at: int) -> int:
    """The same time of day on a Saturday of the month."""
    return BEGIN + (6 + 7 * ((at - BEGIN) // DAY % 3)) * DAY + (at - BEGIN) % DAY


def _freeze(at: int) -> int:
    """The same time of day on the Wednesday or Thursday of the freeze."""
    return BEGIN + (24 + (at - BEGIN) // HOUR % 2) * DAY + (at - BEGIN) % DAY


def emergency(change: Change, plan: Plan) -> Plan:
    """An emergency in order: approved as one before it began, for two hours, and looked at by a third on the day
    after."""
    until = change.at + 90 * MINUTE
    given = {"emergency": True, "justification": "the shop is down", "valid_until": until}
    review = {"approver": "ivan" if change.approver != "ivan" else "hana", "approver_role": "release-manager",
              "justification": "looked at"}  # fmt: skip
    return replace(
        plan, by_ticket=False, arrives_late=False, approved=given, event={"emergency": True},
        steps=((24 * 60, "approved", review),),
    )  # fmt: skip


def night(at: int) -> int:
    """Outside every window."""
    return at - (at - BEGIN) % DAY + 2 * HOUR + (at - BEGIN) % HOUR


def _emergency(**fields: object) -> Callable[[Change, Plan], Plan]:
    def plan(change: Change, usual: Plan) -> Plan:
        made = emergency(change, usual)
        return replace(made, approved={**made.approved, **fields})

    return plan


KINDS = (
    _kind("unregistered", lambda _, p: replace(p, registered_at=None, by_ticket=False), "unregistered"),
    _kind("late registration", lambda _, p: replace(p, registered_at=10, by_ticket=False), "late_registration"),
    _kind("another artifact registered",
          lambda _, p: replace(p, by_ticket=False, registered={"artifact_digest": digest_of("x")}),
          "registered_for_other_artifact"),
    _kind("no approval", lambda _, p: replace(p, approved_at=None), "no_approval"),
    _kind("self approval", lambda c, p: _approved(approver=c.deployer)(c, p), "self_approval", _UNAPPROVED),
    _kind("approved by a commit author", _approved(approver="cy"), "approved_by_commit_author", _UNAPPROVED),
    _kind("late approval", lambda _, p: replace(p, approved_at=20), "late_approval", _UNAPPROVED),
    _kind("expired approval", lambda c, p: _approved(valid_until=c.at - 5 * MINUTE)(c, p), "approval_expired",
          _UNAPPROVED),
    _kind("approval of another artifact", _approved(artifact_digest=digest_of("another")), "approved_other_artifact",
          _UNAPPROVED),
    _kind("approver without the role", _approved(approver="mallory"), "approver_lacks_role", _UNAPPROVED),
    _kind("revoked approval", lambda c, p: _steps((-10, "revoked", {"approver": c.approver}))(c, p),
          "approval_revoked", _UNAPPROVED),
    _kind("rejected", lambda c, p: _steps((-10, "rejected", {"approver": "hana" if c.approver != "hana" else "ivan"}))(
        c, p), "rejected"),
    _kind("outside every window", lambda _, p: p, "outside_allowed_windows", moved=_saturday),
    _kind("inside a freeze", lambda _, p: p, "inside_denied_window", moved=_freeze),
    _kind("no permit", lambda _, p: replace(p, permit=False), "no_permit"),
    _kind("permit used twice", lambda _, p: replace(p, used=({}, {})), "permit_used_twice"),
    _kind("permit used elsewhere", lambda _, p: replace(p, used=({}, {"tags": {"cluster": "elsewhere"}})),
          "permit_used_elsewhere"),
    _kind("permit of another deployment", lambda _, p: replace(p, event={"permit_id": "permit-of-another"}),
          "permit_unknown"),
    _kind("required field missing", lambda _, p: replace(p, also_by_argo=False, event={"tags": {}}), "fields_missing"),
    _kind("gap of a regime", lambda _, p: replace(p, event={"reporter": ""}), "controls_missing", service="payments"),
    _kind("emergency without justification", _emergency(justification=""), "no_justification", moved=night),
    _kind("emergency without review", lambda c, p: replace(emergency(c, p), steps=()), "emergency_not_reviewed",
          moved=night),
    _kind("no end", lambda _, p: replace(p, ends=None, also_by_argo=False), "no_end",
          frozenset({"running_longer_than_expected", "still_running_after_close"})),
    _kind("around the pipeline", lambda _, p: replace(p, started=False, registered_at=None, approved_at=None,
          permit=False), "runs_without_deployment", _NOTHING),
    _kind("self-made ticket", lambda c, p: replace(p, by_ticket=False, approved={**p.approved, "change_ticket": ""},
          event={"change_ticket": f"MADE-{c.number}"}, registered={"change_ticket": f"MADE-{c.number}"}),
          "ticket_unknown"),
    _kind("ticket of another deployment", lambda c, p: replace(p, by_ticket=False, approved={**p.approved,
          "change_ticket": ""}, event={"change_ticket": _another(c)}, registered={"change_ticket": _another(c)}),
          "ticket_names_other_deployment"),
    _kind("rollback that did not help", lambda _, p: replace(p, end="failed"), "other_artifact_runs"),
    _kind("in another environment that is production", lambda _, p: replace(p, approved_at=None), "no_approval",
          environment="payments-live"),
)  # fmt: skip
EACH = 5
ROLLBACK = KINDS[-2].name
