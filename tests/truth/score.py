"""How right answers are, and how honest about it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from truth.answers import Answers
from truth.company import Company

BINS = (0.0, 0.5, 0.6, 0.7, 0.8, 0.9, 1.01)


@dataclass
class Score:
    """Counts over signals; scores of several companies add up."""

    asked: int = 0
    wrong: int = 0
    named: int = 0  # answers that name a deployment
    named_right: int = 0
    caused: int = 0  # signals that a deployment caused
    uncaused_right: int = 0  # of the others, those answered "none"
    brier: float = 0.0
    # By the probability of the first answer: how many, and how many of them right.
    bins: list[list[int]] = field(default_factory=lambda: [[0, 0] for _ in BINS[1:]])

    @property
    def precision(self) -> float:
        return self.named_right / self.named if self.named else 1.0

    @property
    def recall(self) -> float:
        return self.named_right / self.caused if self.caused else 1.0

    @property
    def right_none(self) -> float:
        uncaused = self.asked - self.caused
        return self.uncaused_right / uncaused if uncaused else 1.0

    def add(self, other: Score) -> None:
        for name in ("asked", "wrong", "named", "named_right", "caused", "uncaused_right"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.brier += other.brier
        self.bins = [[a + c, b + d] for (a, b), (c, d) in zip(self.bins, other.bins, strict=True)]


def score(company: Company, answers: Answers, signals: Iterable[str] | None = None) -> Score:
    """The score of answers to all signals, or to some."""
    found = Score()
    for signal_id in company.cause if signals is None else signals:
        true, answer = company.cause[signal_id], answers[signal_id]
        first = min(answer, key=lambda d: (-answer[d], d))
        found.asked += 1
        found.wrong += first != true
        found.named += first != ""
        found.named_right += first == true != ""
        found.caused += true != ""
        found.uncaused_right += first == true == ""
        found.brier += sum((p - (d == true)) ** 2 for d, p in answer.items()) + (true not in answer)
        place = next(i for i, high in enumerate(BINS[1:]) if answer[first] < high)
        found.bins[place][0] += 1
        found.bins[place][1] += first == true
    return found


def first_of_each_incident(company: Company) -> list[str]:
    """The signal by which each incident became known."""
    first: dict[str, str] = {}
    for known in company.signals:
        first.setdefault(company.incident[known.value["signal_id"]], known.value["signal_id"])
    return list(first.values())
