"""Policy documents: every problem at once, and the version of the day."""

from __future__ import annotations

from typing import Any

import pytest
from deploytrail_processors.rules.aliases import Mapped, Names, canonical, environment
from deploytrail_processors.rules.policies import Policies, PolicySet, Service, Thresholds, read_document
from deploytrail_schemas.instants import parse_instant


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
        "spec.depends: is no field here; did you mean depends_on?",
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


def environments(**aliases: list[str]) -> Policies:
    documents = [{"kind": "environment", "name": name, "spec": {"aliases": given}} for name, given in aliases.items()]
    return Policies(tuple(map(read_document, documents)))


@pytest.mark.requirement("M2.4")
@pytest.mark.parametrize(
    ("reported", "expected", "by"),
    [
        ("qa1", "test", "pattern qa* of environment/test"),
        ("QA-perf-7", "performance", "pattern qa-perf-? of environment/performance"),  # the longest pattern
        ("qa-perf-77", "test", "pattern qa* of environment/test"),
        ("qa2", "acceptance", "alias qa2 of environment/acceptance"),  # exact before any pattern
        ("UAT", "acceptance", "alias uat of environment/acceptance"),
        ("prod-east", "production", "pattern prod-* of environment/production"),
        ("Production", "production", "name production of environment/production"),
        ("qaß[1]", "test", "pattern qa* of environment/test"),
        ("x[1]y", "odd", "pattern x[1]? of environment/odd"),  # brackets are letters like others
        ("x1y", "x1y", ""),
        ("stg", "staging", "usual name stg"),
        ("dev42", "development", "usual name dev"),
        ("staging", "staging", "usual name"),
        ("sandbox", "sandbox", ""),
    ],
)
def test_an_exact_alias_wins_over_patterns_and_the_longest_pattern_over_others(
    reported: str, expected: str, by: str
) -> None:
    in_force = environments(
        test=["qa*"],
        performance=["qa-perf-?"],
        acceptance=["UAT", "qa2", "prod*"],
        production=["prod-*"],
        odd=["x[1]?"],
    )

    assert environment(reported, in_force) == Mapped(expected, by)


def test_equally_long_patterns_are_told_apart_by_the_alphabet() -> None:
    assert environment("a-b", environments(second=["a-*"], first=["*-b"])).name == "first"
    assert environment("a-b", environments(first=["*-b"], second=["a-*"])).name == "first"


@pytest.mark.timeout(20)
def test_no_reported_name_makes_a_pattern_slow() -> None:
    in_force = environments(slow=["*a*a*a*a*a*a*a*a*b"])

    assert environment("a" * 20_000, in_force).by == ""


@pytest.mark.requirement("M1.3")
def test_the_owner_is_the_one_of_the_day() -> None:
    first, second = parse_instant("2026-01-01T00:00:00Z"), parse_instant("2026-06-01T00:00:00Z")
    moved = [service(1, "2026-01-01T00:00:00Z", team="central"), service(2, "2026-06-01T00:00:00Z", team="embedded")]
    # Applied in any order, and long after the day: what counts is from when each holds.
    for documents in (moved, moved[::-1]):
        known = PolicySet().with_documents(map(read_document, documents))
        owners = [known.at(when).service("shop").team for when in (first - 1, first, second - 1, second)]

        assert owners == ["", "central", "central", "embedded"]
