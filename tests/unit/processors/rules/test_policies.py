"""Policy documents: every problem at once, and the version of the day."""

from __future__ import annotations

from typing import Any

import pytest
from deploytrail_processors.rules.aliases import Names, canonical
from deploytrail_processors.rules.policies import Policies, PolicySet, Service, Thresholds, read_document


def service(version: int = 1, since: str = "2026-01-01T00:00:00Z", **spec: Any) -> dict[str, Any]:
    return {"kind": "service", "name": "shop", "version": version, "effective_from": since, "spec": spec}


def test_a_document_is_read() -> None:
    document = read_document(service(team="web", tier=1, depends_on=["cart"], expected_duration_minutes=12))

    assert document.problems == ()
    assert document.key == "service/shop/1"
    assert document.spec == Service(team="web", tier="1", depends_on=("cart",), expected_duration_minutes=12.0)


def test_every_problem_is_named_at_once() -> None:
    bad = {"kind": "service", "name": "no spaces", "version": 0, "spec": {"team": [], "depends": ["x"]}, "extra": 1}
    document = read_document(bad)

    assert document.spec is None
    assert {str(problem) for problem in document.problems} == {
        "extra: is no field of a policy document",
        "name: is 'no spaces'; expected letters, digits, dots, dashes, underscores",
        "version: is 0; expected an integer from 1",
        "spec.team: is []; expected text",
        "spec.depends: is no field here",
    }


@pytest.mark.parametrize("value", [None, [], "text", 3, {}, {"kind": "unheard-of", "name": "x", "spec": {}}])
def test_no_shape_crashes_the_reader(value: object) -> None:
    assert read_document(value).problems


@pytest.mark.requirement("M1.3")
def test_an_old_event_meets_the_policy_of_its_day() -> None:
    versions = [service(1, "2026-01-01T00:00:00Z", team="old"), service(2, "2026-06-01T00:00:00Z", team="new")]
    known = PolicySet().with_documents(map(read_document, versions))

    assert known.at(1_767_225_600_000_000).service("shop").team == "old"
    assert known.at(1_793_620_800_000_000).service("shop").team == "new"
    assert known.at(1).service("shop") == Service()
    latest = known.latest("service", "shop")
    assert latest is not None and latest.version == 2


def test_thresholds_have_usual_values() -> None:
    assert Policies().thresholds == Thresholds(1440, 60, 15)


@pytest.mark.requirement("M2.4")
@pytest.mark.parametrize(
    ("reported", "expected"),
    [
        (("eu-west-1", "Prod", "shop"), ("eu-west-1", "production", "shop")),
        (("eu-west-1", "qa1", "shop"), ("eu-west-1", "test", "shop")),
        (("eu-west-1", "UAT", "shop"), ("eu-west-1", "staging", "shop")),
        (("euw1", "prod-east", " Shop-SVC "), ("eu-west-1", "production", "shop")),
        (("mars", "Sandbox", "Unheard"), ("mars", "sandbox", "Unheard")),
    ],
)
def test_names_get_their_canonical_form(reported: tuple[str, str, str], expected: tuple[str, str, str]) -> None:
    documents = [
        {"kind": "region", "name": "eu-west-1", "spec": {"aliases": ["EUW1"]}},
        {"kind": "environment", "name": "production", "spec": {"aliases": ["prod-east"], "production": True}},
        service(aliases=["shop-svc"]),
    ]
    in_force = Policies(tuple(map(read_document, documents)))

    assert canonical(Names(*reported), in_force) == Names(*expected)
