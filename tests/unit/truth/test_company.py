"""The company that correlation is measured on: frozen, so that no model is flattered by a kinder world."""

from __future__ import annotations

import hashlib
import json

import pytest
from truth.answers import any_in_15_minutes, last_deployment
from truth.company import Company, simulate
from truth.score import first_of_each_incident, score

# What a model may look at, so that a new field of the schemas changes nothing here.
FIELDS = (
    *("event_type", "deployment_id", "kind", "rollback_of", "version", "tags"),
    *("signal_id", "fingerprint", "title", "severity", "region", "service", "corrected_at", "uncertainty_ms"),
)
# Of the company of seed 101, which is among those that are reported. Another company is another measure: name it so.
FROZEN = "987f36b6cc3b168d50415e29ab4360634645ef64d5332bcaa0c687641a64ffc8"


@pytest.fixture(scope="module")
def company() -> Company:
    return simulate(101)


def test_the_company_is_the_one_that_was_frozen_before_the_model(company: Company) -> None:
    told = [[known.at, *(known.value.get(n) for n in FIELDS)] for known in (*company.events, *company.signals)]
    text = json.dumps([told, company.cause, company.incident], sort_keys=True)

    assert hashlib.sha256(text.encode()).hexdigest() == FROZEN


def test_most_alerts_have_no_deployment_to_blame_and_hotfixes_follow_the_incidents_that_they_answer(
    company: Company,
) -> None:
    caused = [signal_id for signal_id, cause in company.cause.items() if cause]
    answering = {v.value["deployment_id"] for v in company.events if v.value["kind"] in ("rollback", "hotfix")}

    assert 0.1 < len(caused) / len(company.cause) < 0.3
    assert len(answering) > 50


def test_scores_count_what_they_say(company: Company) -> None:
    right = {signal_id: {cause: 1.0} for signal_id, cause in company.cause.items()}
    never = {signal_id: {"": 1.0} for signal_id in company.cause}
    caused = sum(1 for cause in company.cause.values() if cause)
    perfect, silent = score(company, right), score(company, never)

    assert (perfect.wrong, perfect.precision, perfect.recall, perfect.right_none, perfect.brier) == (
        0,
        1.0,
        1.0,
        1.0,
        0,
    )
    assert (silent.wrong, silent.recall, silent.right_none, silent.brier) == (caused, 0.0, 1.0, 2 * caused)


def test_customs_answer_every_signal(company: Company) -> None:
    for way in (last_deployment, any_in_15_minutes):
        assert way(company).keys() == company.cause.keys()
    assert len(first_of_each_incident(company)) == len(set(company.incident.values()))
