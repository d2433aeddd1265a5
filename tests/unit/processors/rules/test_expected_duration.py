"""How long a deployment may take: declared, learnt, or the general limit, and what lies between."""

from __future__ import annotations

from typing import Any

import pytest
from deploytrail_processors.rules import lifecycle
from deploytrail_processors.rules.expected_duration import (
    Usual,
    expected,
    group_of,
    sample_of,
    usual_before,
    with_sample,
)
from deploytrail_processors.rules.policies import Policies, read_document
from hypothesis import given
from hypothesis import strategies as st
from support.values import MINUTE, NOON, event

DECLARED = Policies((read_document({"kind": "service", "name": "shop", "spec": {"expected_duration_minutes": 10}}),))


def content(minutes: float = 4, what: str = "succeeded", **fields: Any) -> dict[str, Any]:
    facts = lifecycle.new_facts("shop-1")
    for kind, at in (("started", NOON), (what, NOON + int(minutes * MINUTE))):
        facts = lifecycle.add(facts, event(kind, at, **fields))
    return lifecycle.derive(facts, 0, None)


@pytest.mark.requirement("M4.2")
def test_what_is_declared_counts_whatever_was_learnt() -> None:
    found = expected("shop", DECLARED, Usual(100, 64))

    assert (found.minutes, found.source) == (10, "declared")


@pytest.mark.requirement("M4.2")
@pytest.mark.parametrize(
    ("samples", "minutes", "source"),
    [
        (0, 60, "general_limit"),
        (4, 60, "general_limit"),
        (5, 52.0, "learnt_and_general_limit"),  # 6 ** (1 / 16) * 60 ** (15 / 16), of a usual 4 minutes
        (12, 19.0, "learnt_and_general_limit"),  # half of it each, in factors
        (20, 6, "learnt"),
        (64, 6, "learnt"),
    ],
)
def test_few_samples_lean_on_the_general_limit(samples: int, minutes: float, source: str) -> None:
    found = expected("shop", Policies(), Usual(4, samples))

    assert found.minutes == pytest.approx(minutes, abs=0.2)
    assert found.source == source


def test_what_is_learnt_has_bounds() -> None:
    assert expected("shop", Policies(), Usual(0.1, 64)).minutes == 2
    assert expected("shop", Policies(), Usual(5000, 64)).minutes == 1440


def test_the_quantile_lies_between_order_statistics_of_those_that_had_ended() -> None:
    samples = [[NOON - n, f"d{n}", float(n)] for n in range(1, 22)]

    assert usual_before(samples, NOON) == Usual(20.0, 21)
    assert usual_before(samples, NOON - 11) == Usual(20.5, 11)
    assert usual_before(samples, NOON - 100) == Usual()


@pytest.mark.parametrize(
    "fields",
    [
        {"what": "failed"},
        {"what": "cancelled"},
        {"minutes": 0},
        {"minutes": 1441},
        {"provenance": "inferred"},
        {"uncertainty_ms": 40_000},
    ],
)
def test_what_teaches_nothing(fields: dict[str, Any]) -> None:
    assert sample_of(content(**fields), Policies()) is None


def test_what_teaches() -> None:
    assert sample_of(content(), Policies()) == [NOON + 4 * MINUTE, "shop-1", 4.0]
    assert group_of(content(kind="hotfix")) == "production/shop/hotfix"
    assert group_of(content(parent_deployment_id="whole")) == ""


@given(st.lists(st.tuples(st.integers(0, 200), st.floats(0.1, 900)), max_size=150), st.randoms())
def test_the_order_in_which_ends_are_known_does_not_matter(ends: list[tuple[int, float]], random: Any) -> None:
    each = {f"d{number}": [NOON + number, f"d{number}", minutes] for number, minutes in ends}

    def learnt(order: list[str]) -> list[Any]:
        samples: list[Any] = []
        for name in order:
            samples = with_sample(samples, name, each[name])
        return samples

    order = list(each)
    random.shuffle(order)

    assert learnt(order) == learnt(sorted(each)) == sorted(each.values())[-64:]
    assert len(learnt(order)) <= 64


def test_a_deployment_that_turns_out_to_have_failed_teaches_nothing_any_more() -> None:
    samples = with_sample([], "a", [NOON, "a", 3.0])

    assert with_sample(samples, "a", None) == []
    assert with_sample(samples, "a", [NOON + 1, "a", 4.0]) == [[NOON + 1, "a", 4.0]]
