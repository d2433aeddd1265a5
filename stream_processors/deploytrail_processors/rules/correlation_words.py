"""What is said of a candidate for the cause of an alert, for it and against it, in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from deploytrail_processors.rules.candidates import WENT_WRONG, Candidate
from deploytrail_processors.rules.causes import LEAST, Weighed
from deploytrail_processors.rules.past import Past

_DAY_MINUTES = 24 * 60


def about(
    candidate: Candidate, signal: Mapping[str, Any], probability: float, rivals: int, past: Past, weighed: Weighed
) -> str:
    """What is said of one of the deployments; `rivals`: how many there are."""
    words = _what(candidate, signal, probability)
    words += _said(_for(candidate, weighed, past, signal), "; for it: ")
    words += _said(_against(candidate, rivals, past, signal), "; against it: ")
    return words + _storm(past, signal)


def about_none(signal: Mapping[str, Any], probability: float, rivals: int, past: Past, weighed: Weighed) -> str:
    """What is said of the answer that none of them did it."""
    words = f"{probability:.0%} that no known deployment caused {signal['title'] or signal['fingerprint']}"
    words += _said([*_about_the_alert(signal, past, weighed), *([] if rivals else ["no change is near"])])
    return words + _storm(past, signal)


def _storm(past: Past, signal: Mapping[str, Any]) -> str:
    if not past.storm:
        return ""
    return f"; it is one of the storm of alerts that {_BEGAN[past.storm == signal['signal_id']]}"


def _what(candidate: Candidate, signal: Mapping[str, Any], probability: float) -> str:
    content, change = candidate.content, candidate.change
    what = "something else" if change is None else _CHANGED[change.distance]
    if candidate.near and change is not None:
        of = _CHANGED[change.distance].replace("the service", candidate.near).removesuffix(" itself")
        what = f"{of}, where another alert of the incident {signal['incident_id']} is"
    what += "" if content["region"] == signal["region"] else " in every region"
    when = "while it ran" if content["finished_at"] is None else f"{candidate.lag_minutes:.1f} minutes after it ended"
    service = signal["service"] if signal["service"] in content["components"] else content["service"]
    named = f"{service} {content['version']} ({content['deployment_id']})"
    return f"{probability:.0%}: {named} changed {what}, the signal came {when}"


_BEGAN = {True: "it began", False: "others began"}
_CHANGED = ("the service itself", "a dependency of the service", "a dependency of a dependency")


def _for(candidate: Candidate, weighed: Weighed, past: Past, signal: Mapping[str, Any]) -> list[str]:
    found = [candidate.told] if candidate.told and _speaks_for(candidate) else []
    if candidate.content["state"] in WENT_WRONG:
        found.append(f"it says itself that it {candidate.content['state'].replace('_', ' ')}")
    by = weighed.drawn_by
    if by is not None and weighed.drawn >= LEAST and by.causes.get(candidate.id, 0.0) >= 0.5:
        found.append(f"it likely caused {by.link}, {by.minutes:.0f} minutes before")
    days = past.habit.watched(signal["corrected_at"]) / _DAY_MINUTES
    if not past.habit.count and days >= 7:
        found.append(f"the alert never fired in the {days:.0f} days before")
    return found


def _against(candidate: Candidate, rivals: int, past: Past, signal: Mapping[str, Any]) -> list[str]:
    found = [candidate.told] if candidate.told and not _speaks_for(candidate) else []
    if candidate.timing == "possible":
        found.append("the clocks leave open whether it came before, or how long")
    if candidate.timing == "excluded":
        found.append("it is longer ago than most causes are")
    if candidate.content["kind"] in ("hotfix", "rollback"):
        found.append("it rather answers an incident than causes one")
    if rivals > 1:
        found.append(f"{rivals - 1} other change{'s' if rivals > 2 else ''} may have")
    if past.habit.count:
        found.append(f"the alert fires by itself about {_per_day(past, signal):.1f} times a day")
    return found


def _about_the_alert(signal: Mapping[str, Any], past: Past, weighed: Weighed) -> list[str]:
    found = []
    if past.habit.count:
        found.append(f"it fires about {_per_day(past, signal):.1f} times a day")
    by = weighed.drawn_by
    if by is not None and weighed.drawn >= 0.1:
        found.append(f"it follows {by.link}, {by.minutes:.0f} minutes before")
    return found


def _per_day(past: Past, signal: Mapping[str, Any]) -> float:
    minutes = max(past.habit.watched(signal["corrected_at"]), _DAY_MINUTES)
    return past.habit.count / minutes * _DAY_MINUTES


def _said(parts: list[str], lead: str = "; ") -> str:
    return lead + ", ".join(parts) if parts else ""


def _speaks_for(candidate: Candidate) -> bool:
    return candidate.change is not None and candidate.change.evidence >= 1
