"""Correlation errs at most half as often as the customs that it replaces, on companies that it was not fitted on."""

from __future__ import annotations

import pytest
from truth.answers import any_around_in_15_minutes, any_in_15_minutes, by_rule, last_deployment
from truth.company import simulate
from truth.score import Score, score

CUSTOMS = (last_deployment, any_in_15_minutes, any_around_in_15_minutes)


@pytest.mark.requirement("M4.3")
def test_the_rule_errs_far_less_than_customs_and_knows_how_sure_it_is() -> None:
    ours, customs = Score(), [Score() for _ in CUSTOMS]
    for seed in (101, 102):
        company = simulate(seed)
        ours.add(score(company, by_rule(company)))
        for found, way in zip(customs, CUSTOMS, strict=True):
            found.add(score(company, way(company)))
    *_, (sure, sure_and_right) = ours.bins

    assert ours.wrong <= 0.55 * min(custom.wrong for custom in customs)  # `make truth`: 0.49 over twelve companies
    assert ours.brier < 0.5 * min(custom.brier for custom in customs)
    assert ours.right_none > 0.95
    assert sure_and_right / sure > 0.95
