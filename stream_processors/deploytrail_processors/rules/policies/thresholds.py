"""Policies of the kind `thresholds`: limits of the rules."""

from __future__ import annotations

from dataclasses import dataclass

from deploytrail_processors.rules.policies.reader import Reader


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Limits of the rules, in minutes."""

    lost_after_minutes: float = 24 * 60
    overdue_after_minutes: float = 60
    correlation_window_minutes: float = 15


def read_thresholds(reader: Reader) -> Thresholds:
    usual = Thresholds()
    names = ("lost_after_minutes", "overdue_after_minutes", "correlation_window_minutes")
    return Thresholds(**{name: reader.number(name, getattr(usual, name)) or 0.0 for name in names})
