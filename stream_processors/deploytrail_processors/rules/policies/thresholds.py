"""Policies of the kind `thresholds`: limits of the rules."""

from __future__ import annotations

from dataclasses import dataclass

from deploytrail_schemas.policies.reader import Reader


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Limits of the rules, in minutes; `storm_alerts` is a number of alerts."""

    lost_after_minutes: float = 24 * 60
    overdue_after_minutes: float = 60
    correlation_window_minutes: float = 15
    same_deployment_minutes: float = 15
    storm_alerts: float = 5
    storm_minutes: float = 30


def read_thresholds(reader: Reader) -> Thresholds:
    usual = Thresholds()
    abouts = {
        "lost_after_minutes": "How long a deployment may be silent before it counts as lost.",
        "overdue_after_minutes": "How long a deployment may take where its service does not say.",
        "correlation_window_minutes": "How long before an alert a deployment is a candidate for its cause.",
        "same_deployment_minutes": "How far apart two sources' reports of one artifact may lie to be one deployment's.",
        "storm_alerts": "From how many related alerts on they are one incident.",
        "storm_minutes": "How long after its first alert an incident takes in others.",
    }
    return Thresholds(
        **{name: reader.number(name, getattr(usual, name), about=about) or 0.0 for name, about in abouts.items()}
    )
