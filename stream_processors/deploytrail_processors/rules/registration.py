"""Which registration of a deployment is in force, and does the deployment fit it?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from deploytrail_schemas.instants import format_instant
from deploytrail_schemas.reasons import Reason

from deploytrail_processors.rules.approval_steps import UNSAID, Asked, Moment, Problem, Step, side_of
from deploytrail_processors.rules.policies import Approvals


def in_force(
    asked: Asked, registrations: Sequence[Step], requirement: Approvals, moment: Moment
) -> tuple[Step | None, list[Problem]]:
    """The registration in force, and what is wrong with it."""
    problems = []
    if not asked.artifact_digest and (requirement.registration or requirement.count):
        problems.append(Problem(Reason.NO_ARTIFACT_DIGEST, "nobody says which artifact it is: give its sha256 digest"))
    before = [step for step in registrations if side_of(step, moment) < 1]
    registration = before[-1] if before else None
    if registration is None:
        if requirement.registration and registrations:
            at = format_instant(registrations[0]["corrected_at"])
            problems.append(Problem(Reason.LATE_REGISTRATION, f"it was registered at {at}, after it had begun"))
        elif requirement.registration:
            said = f"the deployment {asked.deployment_id!r} is not registered: deploytrail register …"
            problems.append(Problem(Reason.UNREGISTERED, said))
        return (registrations[0] if registrations else None), problems
    found = _against_registration(asked, registration, requirement, moment)
    # Those around the start may have been made after it: then one of the others held, or nothing was registered.
    unsure = [step for step in before if side_of(step, moment) == 0]
    sure = [step for step in before if side_of(step, moment) < 0][-1:]
    if unsure:
        possible = [_against_registration(asked, step, requirement, moment) for step in sure + unsure]
        are_bad = [any(problem.certain for problem in against) for against in possible]
        if not sure:
            are_bad.append(requirement.registration)
        if any(are_bad) and not all(are_bad):
            said = "its clocks cannot tell what was registered before it began"
            found = [replace(problem, certain=False) for problem in found] or [
                Problem(Reason.APPROVAL_TIME_WITHIN_UNCERTAINTY, said, certain=False)
            ]
    return registration, problems + found


def _against_registration(asked: Asked, registration: Step, requirement: Approvals, moment: Moment) -> list[Problem]:
    """What is wrong with a registration, if it is the one in force."""
    problems = []
    digest = registration.get("artifact_digest", "")
    if asked.artifact_digest and digest and digest != asked.artifact_digest:
        said = f"registered is {digest}; this is {asked.artifact_digest}"
        problems.append(Problem(Reason.REGISTERED_FOR_OTHER_ARTIFACT, said))
    elif requirement.registration and asked.artifact_digest and not digest:
        said = "the registration names no digest: register it with --artifact-digest"
        problems.append(Problem(Reason.REGISTERED_FOR_OTHER_ARTIFACT, said))
    for name in ("service", "environment", "region"):
        given, wanted = registration.get(name, ""), getattr(asked, name)
        if given not in UNSAID and given != wanted:
            said = f"it is registered for the {name} {given!r}; this is {wanted!r}"
            problems.append(Problem(Reason.REGISTERED_FOR_OTHER_PLACE, said))
    inside = is_inside(registration, moment)
    if inside is False:
        said = f"it is registered for the time {span(registration)}"
        problems.append(Problem(Reason.REGISTERED_FOR_OTHER_TIME, said))
    elif inside is None:
        said = f"its clocks cannot tell whether it began in the time that it is registered for, {span(registration)}"
        problems.append(Problem(Reason.REGISTERED_FOR_OTHER_TIME, said, certain=False))
    if requirement.count and not registration.get("change_ticket"):
        said = "the registration names no change ticket: register it with --change-ticket"
        problems.append(Problem(Reason.NO_CHANGE_TICKET, said))
    return problems


def is_inside(registration: Step, moment: Moment) -> bool | None:
    """Whether a moment lies in the time that something is registered for; None where the clocks cannot tell."""
    begins, ends = registration.get("valid_from"), registration.get("valid_until")
    earliest, latest = moment.at - moment.uncertainty, moment.at + moment.uncertainty
    if (begins and latest < begins) or (ends and earliest >= ends):
        return False
    return None if (begins and earliest < begins) or (ends and latest >= ends) else True


def span(registration: Step) -> str:
    """That time in words."""
    ends = (("from", registration.get("valid_from")), ("until", registration.get("valid_until")))
    return " ".join(f"{word} {format_instant(at)}" for word, at in ends if at)
