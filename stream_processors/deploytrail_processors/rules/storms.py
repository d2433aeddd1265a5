"""Which alerts are one storm? Many alerts that are related, within a time, are one incident.

In: the alerts of a region in order of time, of the earlier ones to which incident they belong, the policies of each
one's time. Out: of each alert the incident, named by the alert that began it; and whether that is a storm.

An incident begins with an alert that is related to none of an open one: the same alert, one with the same
`incident_id`, another one of the service, of one that it depends on, that depends on it, or with a dependency in
common. It stays open for `storm_minutes` after its first alert, however long alerts go on, so that no storm swallows a
day; from `storm_alerts` on it is a storm.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from deploytrail_processors.rules.causes import Link
from deploytrail_processors.rules.past import MINUTE, link
from deploytrail_processors.rules.policies import Policies

Signal = Mapping[str, Any]
PoliciesAt = Callable[[int], Policies]


def incidents(signals: Sequence[Signal], known: Sequence[str], policies_at: PoliciesAt) -> list[str]:
    """The incident of each signal. `known`: those of the signals that come first, which stand."""
    found = list(known)
    begun = {signal["signal_id"]: signal["corrected_at"] for signal in signals}
    # Members by incident, the open ones in the order in which they began.
    members: dict[str, list[Signal]] = {}
    for number, signal in enumerate(signals):
        if number >= len(known):
            found.append(_incident(signal, members, begun, policies_at(signal["corrected_at"])))
        members.setdefault(found[number], []).append(signal)
    return found


def storms(signals: Sequence[Signal], belongs: Sequence[str], policies_at: PoliciesAt) -> list[str]:
    """Of each signal the incident where that is a storm; empty where it is none."""
    many = Counter(belongs)
    return [
        name if many[name] >= policies_at(signal["corrected_at"]).thresholds.storm_alerts else ""
        for signal, name in zip(signals, belongs, strict=True)
    ]


def _incident(signal: Signal, members: dict[str, list[Signal]], begun: Mapping[str, int], policies: Policies) -> str:
    longest = policies.thresholds.storm_minutes * MINUTE
    for name in list(members):
        if signal["corrected_at"] - begun.get(name, 0) > longest:
            del members[name]  # over, also for all that come later
        elif any(link(signal, one, policies) not in (None, Link.ELSEWHERE) for one in members[name]):
            return name
    return str(signal["signal_id"])
