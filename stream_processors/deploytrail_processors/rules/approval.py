"""May this be deployed, there and then? What is registered and who approved it, with every reason at once.

In: what is asked for, the steps that the trail has of it, the policies as of any instant, and the instant
that is judged. Out: allowed, refused or uncertain. Equal for every order of the steps, and for the same step again.

An approval counts where its approver is neither the deployer nor an author of the commits nor a bot, had the role
at that time, and where it is bound: to the digest that it names, or else to the one that was registered when it
was given; and to its own validity. Of each person the latest word counts; a login and a mailbox of that name are one
person.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum

from deploytrail_schemas.instants import format_instant
from deploytrail_schemas.people import different, is_among, is_bot, is_same, person
from deploytrail_schemas.reasons import Reason

from deploytrail_processors.rules import break_glass, change_window
from deploytrail_processors.rules.approval_required import required
from deploytrail_processors.rules.approval_steps import (
    Asked,
    Moment,
    Problem,
    Step,
    deployment_of,
    hands_of,
    is_at,
    is_refusal,
    order,
    side_of,
    width_of,
)
from deploytrail_processors.rules.policies import Approvals, Policies
from deploytrail_processors.rules.registration import in_force, is_inside, span

PoliciesAt = Callable[[int], Policies]
MINUTE = 60_000_000
_DECISIONS = frozenset({"approved", "rejected", "revoked", "expired"})


class Position(StrEnum):
    """What the gate answers."""

    ALLOWED = "allowed"
    REFUSED = "refused"
    UNCERTAIN = "uncertain"


@dataclass(frozen=True, slots=True)
class Judgement:
    """The verdict. `until`: when the earliest of what it rests on ends (µs); None: never."""

    position: Position
    reason: Reason
    problems: tuple[Problem, ...]
    documents: tuple[str, ...]
    registration: Step | None = None
    approvers: tuple[str, ...] = ()
    until: int | None = None
    next_open: int | None = None

    @property
    def reasons(self) -> tuple[Reason, ...]:
        """Every reason against it, each once."""
        return tuple(dict.fromkeys(problem.reason for problem in self.problems))


def judge(asked: Asked, steps: Iterable[Step], policies_at: PoliciesAt, moment: Moment, *, least: int = 0) -> Judgement:
    """The verdict on a deployment that begins at a moment. `steps`: of its id and of its change ticket, as `keep` gives
    them; those of other places and digests may be among them. `least`: so many approvals are needed whatever the
    policies of the kind `approval` say."""
    policies = policies_at(moment.at)
    requirement, documents = required(asked, policies)
    if requirement is None:
        said = f"the approval policy {', '.join(documents)} is invalid; treated as refusing"
        return Judgement(Position.REFUSED, Reason.POLICY_INVALID, (Problem(Reason.POLICY_INVALID, said),), documents)
    requirement = replace(requirement, count=max(requirement.count, least))
    ordered = sorted({step["approval_id"]: step for step in steps}.values(), key=order)
    registrations = [
        s for s in ordered if s["approval_type"] == "registered" and deployment_of(s) == asked.deployment_id
    ]
    registration, problems = in_force(asked, registrations, requirement, moment)
    found = _Approving(asked, requirement, policies_at, moment, registrations, registration).judge(ordered)
    problems += found.problems
    window = change_window.judge(asked.subject(), policies, at=moment.at, uncertainty=moment.uncertainty)
    problem = _window_problem(window)
    emergency = None
    if problem is not None and problem.reason is not Reason.POLICY_INVALID:
        ticket = (registration or {}).get("change_ticket", "")
        deployment = {**asdict(asked), "change_ticket": ticket, "emergency": False}
        emergency = break_glass.judge(
            deployment,
            asked.subject(),
            policies,
            ordered,
            at=moment.at,
            uncertainty=moment.uncertainty,
            is_now=moment.is_now,
        )
    broke_glass = emergency is not None and emergency.reason is Reason.BREAK_GLASS
    if problem is not None and not broke_glass:
        problems += _closed(problem, emergency)
    good = Reason.EMERGENCY_APPROVED if broke_glass else Reason.APPROVED
    if not requirement.count and not broke_glass:
        good = Reason.NOTHING_REQUIRED
    hard = next((p.reason for p in problems if p.certain), None)
    reason = hard or (problems[0].reason if problems else good)
    position = Position.REFUSED if hard else Position.UNCERTAIN if problems else Position.ALLOWED
    ends = [*found.ends, *([] if broke_glass or window.next_close is None else [window.next_close])]
    if broke_glass and emergency is not None and emergency.approval is not None:
        ends.append(emergency.approval["valid_until"])
    if registration is not None and registration.get("valid_until"):
        ends.append(registration["valid_until"])
    return Judgement(
        position,
        reason,
        tuple(problems),
        tuple(dict.fromkeys((*documents, *window.documents, *(emergency.documents if emergency is not None else ())))),
        registration,
        found.approvers,
        min(ends, default=None),
        window.next_open,
    )


@dataclass(frozen=True, slots=True)
class _Found:
    problems: list[Problem]
    approvers: tuple[str, ...] = ()
    ends: tuple[int, ...] = ()


class _Approving:
    """The approvals of one deployment at one moment."""

    def __init__(
        self,
        asked: Asked,
        requirement: Approvals,
        policies_at: PoliciesAt,
        moment: Moment,
        registrations: Sequence[Step],
        registration: Step | None,
    ) -> None:
        self._asked, self._requirement, self._policies_at, self._moment = asked, requirement, policies_at, moment
        self._registrations, self._registration = registrations, registration
        self._deployers, self._authors = hands_of(registrations, asked.deployment_id, asked.deployer)
        # An emergency may be approved so long after its start.
        grace = break_glass.grace(asked.subject(), policies_at(moment.at))
        self._emergency_moment = replace(moment, at=moment.at + grace)

    def judge(self, ordered: Sequence[Step]) -> _Found:
        if not self._requirement.count:
            return _Found([])
        # Of what should be registered and is not, that is said.
        asks = self._registration is not None or not self._requirement.registration
        if self._requirement.four_eyes and asks and not any(map(person, self._deployers)):
            said = "nobody says who deploys it, so that four eyes cannot be told: register it with --deployer"
            problems = [Problem(Reason.DEPLOYER_UNKNOWN, said)]
        else:
            problems = []
        standing, refused = self._standing([s for s in ordered if self._concerns(s)])
        problems += refused
        judged = [(step, self._against(step, withdrawn)) for step, withdrawn in standing]
        good = [step for step, against in judged if not against]
        maybe = [step for step, against in judged if against and not any(p.certain for p in against)]
        by_person = different(step.get("approver", "") for step in good)
        missing = self._requirement.count - len(by_person)
        if missing > 0:
            problems += [p for _, against in judged for p in against if missing > len(maybe) or not p.certain]
            if missing > len(maybe):
                many = f"{len(by_person)} of {self._requirement.count} approvals count"
                if len(by_person) < len(good):
                    twice = "; ".join(" and ".join(names) for names in by_person if len(names) > 1)
                    many += f", since these may be names of one person: {twice}"
                lacks = Reason.NOT_ENOUGH_APPROVALS if judged else Reason.NO_APPROVAL
                problems.append(Problem(lacks, many if judged else f"nobody has approved {self._what()}"))
        # The longest-lived of those that are needed: an earlier end of a spare approval ends nothing.
        longest = [max(self._ends(step) for step in good if step.get("approver", "") in names) for names in by_person]
        ends = sorted(longest, reverse=True)[: self._requirement.count]
        names = tuple(sorted(step.get("approver", "") for step in good))
        return _Found(problems, names, tuple(ends))

    def _concerns(self, step: Step) -> bool:
        if step["approval_type"] not in _DECISIONS or is_refusal(step):
            return False
        if not is_at(step, self._asked.subject()):
            return False
        if deployment_of(step):
            return deployment_of(step) == self._asked.deployment_id
        ticket = (self._registration or {}).get("change_ticket", "")
        return bool(ticket) and step.get("change_ticket", "") == ticket

    def _standing(self, ordered: Sequence[Step]) -> tuple[list[tuple[Step, Step | None]], list[Problem]]:
        """Each person's approval with what withdrew it; and the refusals that stand."""
        latest: dict[str, tuple[Step, Step | None]] = {}
        no: dict[str, Problem] = {}
        for step in ordered:
            kind, who = step["approval_type"], person(step.get("approver", ""))
            lies = self._side(step)
            if kind == "approved":
                if lies < 1 or who not in latest:
                    latest[who] = (step, None)
                if lies < 0:
                    no.pop(who, None)
            elif lies == 1:
                continue
            elif kind == "rejected":
                if lies < 0:
                    for name in [name for name in latest if name == who or is_same(name, who)]:
                        del latest[name]
                said = f"{step.get('approver') or 'somebody'} rejected {self._what()}"
                # A word that may have come too late makes one that came in time no less certain.
                if who not in no or not no[who].certain:
                    no[who] = Problem(Reason.REJECTED, said, certain=lies < 0)
            else:
                for name in [name for name in latest if name == who or is_same(name, who)] or list(latest):
                    given, withdrawn = latest[name]
                    if withdrawn is None or side_of(withdrawn, self._moment) == 0:
                        latest[name] = (given, step)
        return list(latest.values()), list(no.values())

    def _against(self, step: Step, withdrawn: Step | None) -> list[Problem]:
        """Everything that keeps an approval from counting."""
        who, requirement, found = step.get("approver", ""), self._requirement, []
        lies = self._side(step)
        if lies == 1:
            at = format_instant(step["corrected_at"])
            found.append(Problem(Reason.LATE_APPROVAL, f"{who} approved at {at}, after it had begun"))
        elif lies == 0:
            said = f"the clocks cannot tell whether {who} approved before it began"
            found.append(Problem(Reason.APPROVAL_TIME_WITHIN_UNCERTAINTY, said, certain=False))
        if withdrawn is not None:
            expired = withdrawn["approval_type"] == "expired"
            reason = Reason.APPROVAL_EXPIRED if expired else Reason.APPROVAL_REVOKED
            said = f"the approval of {who} {'has expired' if expired else 'was revoked'}"
            found.append(Problem(reason, said, certain=side_of(withdrawn, self._moment) < 0))
        if not who:
            found.append(Problem(Reason.APPROVER_UNKNOWN, "an approval does not say whose it is"))
        if who and requirement.four_eyes and is_among(who, self._deployers):
            found.append(Problem(Reason.SELF_APPROVAL, f"{who} approved what they deploy themselves"))
        if who and requirement.four_eyes and is_among(who, self._authors):
            found.append(Problem(Reason.APPROVED_BY_COMMIT_AUTHOR, f"{who} approved commits of their own"))
        if requirement.four_eyes and is_bot(who):
            found.append(Problem(Reason.APPROVER_IS_A_BOT, f"{who} is a bot: no pair of eyes"))
        if not self._has_role(step):
            role = step.get("approver_role", "")
            said = f"{who} approved as {role!r}" if role else f"the approval of {who} names no role that they had then"
            found.append(Problem(Reason.APPROVER_LACKS_ROLE, f"{said}; needed is {' or '.join(requirement.roles)}"))
        found += self._unbound(step)
        return found + self._validity(step)

    def _has_role(self, step: Step) -> bool:
        """Whether the approver had one of the roles when they approved, by the policy of that time."""
        if not self._requirement.roles:
            return True
        then, _ = required(self._asked, self._policies_at(step["corrected_at"]))
        holders = (then or self._requirement).holders or self._requirement.holders
        given, who = step.get("approver_role", ""), step.get("approver", "")
        return any(
            is_among(who, holders[role]) if role in holders else given == role for role in self._requirement.roles
        )

    def _unbound(self, step: Step) -> list[Problem]:
        digest, wanted, who = step.get("artifact_digest", ""), self._asked.artifact_digest, step.get("approver", "")
        # It was given for what was registered then: a later registration, of other bytes or for another time, is not
        # what it speaks of.
        before = [r for r in self._registrations if r["corrected_at"] <= step["corrected_at"]]
        meant = before[-1] if before else {}
        if meant != self._registration and not step.get("valid_until") and is_inside(meant, self._moment) is False:
            said = f"{who} approved it for the time {span(meant)}, and it was registered anew since"
            return [Problem(Reason.APPROVED_OTHER_TIME, said)]
        digest = digest or meant.get("artifact_digest", "")
        if not digest and not self._requirement.unbound:
            said = f"the approval of {who} names no digest, and none was registered when it was given"
            return [Problem(Reason.APPROVAL_NOT_BOUND, said)]
        if digest and wanted and digest != wanted:
            return [Problem(Reason.APPROVED_OTHER_ARTIFACT, f"{who} approved {digest}; this is {wanted}")]
        return []

    def _validity(self, step: Step) -> list[Problem]:
        who, begins, ends, moment = step.get("approver", ""), step.get("valid_from"), self._ends(step), self._moment
        # An end that the approval says is exact; one that is counted from when it was given is as exact as that.
        loose = 0 if step.get("valid_until") else width_of(step)
        found = []
        if begins and moment.at + moment.uncertainty < begins:
            said = f"the approval of {who} holds from {format_instant(begins)}"
            found.append(Problem(Reason.APPROVAL_NOT_YET_VALID, said))
        if moment.at - moment.uncertainty >= ends + loose:
            said = f"the approval of {who} held until {format_instant(ends)}"
            found.append(Problem(Reason.APPROVAL_EXPIRED, said))
        elif moment.at + moment.uncertainty >= ends - loose or (begins and moment.at - moment.uncertainty < begins):
            said = f"the clocks cannot tell whether the approval of {who} held at that moment"
            if not found:
                found.append(Problem(Reason.APPROVAL_TIME_WITHIN_UNCERTAINTY, said, certain=False))
        return found

    def _ends(self, step: Step) -> int:
        return int(step.get("valid_until") or step["corrected_at"] + self._requirement.valid_minutes * MINUTE)

    def _side(self, step: Step) -> int:
        return side_of(step, self._emergency_moment if step.get("emergency") else self._moment)

    def _what(self) -> str:
        ticket = (self._registration or {}).get("change_ticket", "")
        return f"{self._asked.deployment_id}{f' ({ticket})' if ticket else ''}"


def _closed(problem: Problem, emergency: break_glass.Emergency | None) -> list[Problem]:
    """A closed window, and what keeps an emergency's approval from passing it."""
    if emergency is None or emergency.reason is Reason.NO_APPROVAL:
        return [problem]
    if emergency.reason is Reason.APPROVAL_TIME_WITHIN_UNCERTAINTY:
        said = "its clocks cannot tell whether it was approved as an emergency in time"
        return [replace(problem, certain=False), Problem(emergency.reason, said, certain=False)]
    said = "as an emergency it does not pass: {}"
    return [problem, *(Problem(lack, said.format(lack.value), problem.certain) for lack in emergency.missing)]


def _window_problem(window: change_window.Judgement) -> Problem | None:
    if window.position is change_window.Position.INSIDE:
        return None
    words = {
        Reason.OUTSIDE_ALLOWED_WINDOWS: "it lies outside every allowed change window",
        Reason.INSIDE_DENIED_WINDOW: "changes are denied then",
        Reason.POLICY_INVALID: "a change window that applies to it is invalid; treated as closed",
        Reason.WINDOW_BOUNDARY_WITHIN_UNCERTAINTY: "it lies so close to a window's boundary that its clock cannot tell",
    }
    said = words.get(window.reason, window.reason.value)
    if window.next_open is not None:
        said += f"; the next one opens at {format_instant(window.next_open)}"
    return Problem(window.reason, said, certain=window.position is change_window.Position.OUTSIDE)
