"""What is known of the alerts around one: how often it fires, what came before it, what is of the same incident."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from deploytrail_processors.rules import causes
from deploytrail_processors.rules.causes import Earlier, Habit, Link
from deploytrail_processors.rules.policies import Policies

MINUTE = 60_000_000
# An incident is looked at in so many services beside the alert's own.
MOST_BESIDE = 16
# Links whose alerts are remembered for longer.
_LASTING = frozenset({Link.SAME_ALERT, Link.SAME_INCIDENT})


@dataclass(frozen=True, slots=True)
class Past:
    """What is known of alerts around a signal: how often this one fires, how often all of its region do (`everyone`),
    those of the last hours with the answers that stand, the alert that began the storm that it belongs to, and the
    other services where alerts of its incident are."""

    habit: Habit = Habit()  # frozen
    everyone: Habit = Habit()  # frozen
    earlier: tuple[Earlier, ...] = ()
    storm: str = ""
    beside: tuple[str, ...] = ()


NOTHING = Past()  # nothing is known


def link(signal: Mapping[str, Any], earlier: Mapping[str, Any], policies: Policies) -> Link | None:
    """How an earlier alert is related to a signal; None where it is of another region or environment."""
    if any(earlier[name] != signal[name] for name in ("region", "environment")):
        return None
    ours, theirs = signal["service"], earlier["service"]
    if ours == theirs and alert_key(signal) == alert_key(earlier) and not is_nameless(signal):
        return Link.SAME_ALERT
    if share_an_incident(signal, earlier):
        return Link.SAME_INCIDENT
    if ours == theirs:
        return Link.SAME_SERVICE
    needs, needed = policies.service(ours).depends_on, policies.service(theirs).depends_on
    if theirs in needs:
        return Link.DEPENDENCY
    if ours in needed:
        return Link.DEPENDENT
    return Link.SIBLING if set(needs) & set(needed) else Link.ELSEWHERE


def share_an_incident(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two signals name the same incident, of one place."""
    return bool(one["incident_id"]) and _incident(one) == _incident(other)


def is_nameless(signal: Mapping[str, Any]) -> bool:
    """Whether a signal has no name by which another one could be the same: neither fingerprint nor title."""
    return not (signal["fingerprint"] or signal["title"])


def alert_key(signal: Mapping[str, Any]) -> str:
    """What makes two signals the same alert: the source's fingerprint, else its title, at one service and place."""
    name = signal["fingerprint"] or signal["title"]
    return "\x1f".join((signal["region"], signal["environment"], signal["service"], name))


def beside(signals: Sequence[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """Of each signal, in order of time, the other services where alerts of its incident are, before it and after."""
    times: dict[tuple[str, ...], dict[str, list[int]]] = {}
    for one in signals:
        if one["incident_id"]:
            times.setdefault(_incident(one), {}).setdefault(one["service"], []).append(one["corrected_at"])
    return [_beside(one, times.get(_incident(one), {})) for one in signals]


def _beside(signal: Mapping[str, Any], times: Mapping[str, list[int]]) -> tuple[str, ...]:
    begin, end = (signal["corrected_at"] + sign * causes.LOOKS_BACK_FOR_ITSELF for sign in (-1, 1))
    near = (service for service, of in times.items() if bisect_left(of, begin) < bisect_right(of, end))
    return with_service(near, signal)


def with_service(services: Iterable[str], signal: Mapping[str, Any], *more: str) -> tuple[str, ...]:
    """The services beside a signal's own, with more of them."""
    return tuple(sorted({*services, *more} - {signal["service"]})[:MOST_BESIDE])


def past_of(
    signal: Mapping[str, Any],
    before: Iterable[tuple[Mapping[str, Any], Mapping[str, float]]],
    habit: Habit,
    everyone: Habit,
    policies: Policies,
    storm: str = "",
    services_beside: Sequence[str] = (),
) -> Past:
    """What counts of the alerts before a signal. `before`: signals with the probabilities of their causes; those that
    came later, or too long before, are left out."""
    earlier = []
    at = signal["corrected_at"]
    for one, its_causes in before:
        ago = at - one["corrected_at"]
        if not 0 <= ago <= causes.LOOKS_BACK_FOR_ITSELF or (not ago and one["signal_id"] >= signal["signal_id"]):
            continue
        related = link(signal, one, policies)
        if related is None or (related not in _LASTING and ago > causes.LOOKS_BACK):
            continue
        earlier.append(Earlier(one["signal_id"], related, ago / MINUTE, its_causes))
    return Past(habit, everyone, tuple(earlier), storm, tuple(services_beside))


def _incident(signal: Mapping[str, Any]) -> tuple[str, ...]:
    return signal["region"], signal["environment"], signal["incident_id"]
