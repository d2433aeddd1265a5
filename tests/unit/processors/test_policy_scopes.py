"""A scope that could cover nothing is refused or understood: a freeze never fails open by the way it is written."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
from deploytrail_processors.policy_command import EXIT_INVALID, main
from deploytrail_processors.rules import aliases, change_window, requirements
from deploytrail_processors.rules.approval_required import required
from deploytrail_processors.rules.approval_steps import Asked
from deploytrail_processors.rules.policies import Approvals, PolicySet, read_document
from deploytrail_schemas.instants import LATEST, parse_instant
from deploytrail_schemas.policies.in_force import is_production
from deploytrail_schemas.policies.scope import CHANGES, Scope
from deploytrail_schemas.records import RecordType
from deploytrail_schemas.schema import fields
from support.values import event

CHRISTMAS = parse_instant("2026-12-24T12:00:00Z")
RECORDED = {
    "service": "shop", "environment": "production", "region": "eu-west-1", "team": "web", "tier": "1",
    "kind": "release",
}  # fmt: skip
SHOP: dict[str, Any] = {
    "kind": "service",
    "name": "shop",
    "spec": {"team": "web", "tier": 1, "aliases": ["shop-svc", "shop-*"]},
}
PRODUCTION: dict[str, Any] = {"kind": "environment", "name": "production", "spec": {"aliases": ["prd-main"]}}
REGION: dict[str, Any] = {"kind": "region", "name": "eu-west-1", "spec": {"aliases": ["euw1"]}}


def freeze(**scope: Any) -> dict[str, Any]:
    spec = {"effect": "deny", "zone": "UTC", "start": "2026-12-23T00:00", "end": "2027-01-02T00:00", "scope": scope}
    return {"kind": "change_window", "name": "christmas", "spec": spec}


def position(*documents: dict[str, Any], **recorded: str) -> str:
    policies = PolicySet().with_documents(map(read_document, documents)).at(LATEST)
    return change_window.judge(RECORDED | recorded, policies, at=CHRISTMAS, uncertainty=0).position.value


@pytest.mark.requirement("M2.1")
@pytest.mark.parametrize(
    "scope",
    [
        *({"environments": [name]} for name in ("production", "prod", "PROD1", "Production ", "live", "prd-main")),
        *({"services": [name]} for name in ("shop", "Shop", "shop-svc", "shop-eu")),
        *({"regions": [name]} for name in ("EU-west-1", "euw1")),
        {"teams": ["Web"]},
        {"tiers": [1]},
        {"kinds": ["release"]},
    ],
)
def test_a_freeze_holds_by_whatever_name_it_is_written(scope: dict[str, Any]) -> None:
    assert position(SHOP, PRODUCTION, REGION, freeze(**scope)) == "outside"


@pytest.mark.requirement("M4.2")
@pytest.mark.parametrize("region", ["global", "ALL", "*"])
def test_what_is_changed_everywhere_does_not_pass_a_freeze_of_one_region(region: str) -> None:
    frozen = freeze(regions=["eu-west-1"], environments=["production"])

    assert position(frozen, region=region) == "outside"
    assert position(freeze(regions=["eu-west-1"], kind=["x"]), region=region) == "outside"  # nor one that is invalid
    assert position(frozen, region=region, environment="staging") == "inside"
    assert position(frozen, region="us-east-1") == "inside"


def approvals(region: str, *specs: dict[str, Any], environment: str = "production") -> Approvals | None:
    documents = [{"kind": "approval", "name": f"p{n}", "spec": spec} for n, spec in enumerate(specs)]
    policies = PolicySet().with_documents(map(read_document, documents)).at(LATEST)
    found, _ = required(Asked("d", "shop", environment, region, ""), policies)
    return None if found is None else replace(found, scope=Scope())


EU: dict[str, Any] = {"scope": {"regions": ["eu-west-1"], "environments": ["production"]}}


@pytest.mark.requirement("M5.3")
@pytest.mark.parametrize("region", ["global", "ALL", "*"])
def test_what_is_deployed_everywhere_needs_what_each_region_asks_for(region: str) -> None:
    strict = EU | {"count": 2, "permit": True}
    us = {"scope": {"regions": ["us-east-1"]}, "count": 3}

    assert approvals(region, strict) == approvals("eu-west-1", strict)
    assert approvals(region, {"count": 1}, strict) == approvals("eu-west-1", strict)
    both = approvals(region, strict, us)
    assert both is not None
    assert (both.count, both.permit) == (3, True)
    loose = {"scope": {"regions": ["eu-west-1"]}, "count": 1, "four_eyes": False}
    assert approvals(region, loose, environment="staging") == approvals("eu-west-1", loose, environment="staging")
    assert approvals(region, strict, environment="staging") == approvals(region, environment="staging")
    assert approvals(region, EU | {"cuont": 2}) is None  # one that is invalid lets nothing pass


def test_a_region_that_asks_for_less_lets_nothing_pass_that_is_deployed_everywhere() -> None:
    lax = EU | {"count": 0, "registration": False, "four_eyes": False}

    for others in ((), ({"count": 2},)):
        assert approvals("global", lax, *others) == approvals("us-east-1", *others)
    assert approvals("us-east-1", lax) == Approvals()


@pytest.mark.requirement("M3.6")
@pytest.mark.parametrize(("region", "is_asked"), [("global", True), ("eu-west-1", True), ("us-east-1", False)])
def test_what_is_deployed_everywhere_is_under_the_regimes_and_required_fields_of_each_region(
    region: str, is_asked: bool
) -> None:
    documents = (
        SHOP | {"spec": {"regimes": ["sox"]}},
        described("regime", "sox", controls=["registered"], scope=EU["scope"]),
        described("required_fields", "tickets", fields=["change_ticket"], scope=EU["scope"]),
    )
    policies = PolicySet().with_documents(map(read_document, documents)).at(LATEST)
    state = requirements.with_event(requirements.new_state("d"), event("started", region=region))

    assert [one.name for one in requirements.asked_of(state, policies)] == ["tickets", "sox"] * is_asked


@pytest.mark.requirement("M2.6")
def test_what_nobody_signed_and_is_about_everywhere_must_be_accepted_in_each_region() -> None:
    eu = {"regions": ["eu-west-1"]}
    for usual, there, expected in (
        ("accept", "refuse", False),
        ("refuse", "accept", False),
        ("accept", "accept", True),
    ):
        documents = (
            described("intake", "usual", unsigned=usual),
            described("intake", "eu", unsigned=there, scope=eu),
        )
        policies = PolicySet().with_documents(map(read_document, documents)).at(LATEST)
        assert policies.accepts_unsigned(RECORDED | {"region": "global"}) is expected
        assert policies.accepts_unsigned(RECORDED | {"region": "us-east-1"}) is (usual == "accept")


@pytest.mark.parametrize("scope", [{"environments": ["staging"]}, {"services": ["cart"]}, {"regions": ["us-east-1"]}])
def test_a_freeze_of_another_place_does_not(scope: dict[str, Any]) -> None:
    assert position(SHOP, PRODUCTION, REGION, freeze(**scope)) == "inside"


@pytest.mark.parametrize(
    "scope", [{"kinds": ["relase"]}, {"services": ["shop*"]}, {"environments": ["*"]}, {"regions": [" "]}]
)
def test_a_scope_that_cannot_be_read_is_refused_and_closes_everything_where_it_stands(scope: dict[str, Any]) -> None:
    [problem] = read_document(freeze(**scope)).problems

    assert problem.path.startswith("spec.scope.")
    assert position(SHOP, freeze(**scope)) == "outside"


def test_a_name_means_what_it_meant_on_that_day() -> None:
    later = SHOP | {"version": 2, "effective_from": "2027-01-01T00:00:00Z"}
    before = SHOP | {"spec": {"team": "web"}, "effective_from": "2026-01-01T00:00:00Z"}
    held = PolicySet().with_documents(map(read_document, (before, later, freeze(services=["shop-svc"]))))

    assert held.at(CHRISTMAS).change_windows[0].scope.services == ("shop-svc",)
    assert held.at(LATEST).change_windows[0].scope.services == ("shop",)


def described(kind: str, name: str, **spec: Any) -> dict[str, Any]:
    return {"kind": kind, "name": name, "spec": spec}


def newer(document: dict[str, Any], **spec: Any) -> dict[str, Any]:
    return document | {"version": 2, "spec": document["spec"] | spec}


LIVE = described("environment", "live-eu", production=True, aliases=["blue"])


@pytest.mark.requirement("M5.3")
@pytest.mark.parametrize(
    ("documents", "reported", "is_it"),
    [
        ((), "prod", True),
        ((LIVE,), "blue", True),
        # As a newer version of ours may write it, or somebody who writes to the topic himself.
        ((LIVE, newer(LIVE, colour="red")), "blue", True),
        ((LIVE, newer(LIVE, production="yes")), "blue", True),
        ((LIVE, newer(LIVE) | {"spec": "production"}), "live-eu", True),
        ((LIVE, newer(LIVE, production=False, colour="red")), "blue", False),
        # By the names that it usually has, unless the policy says that it is none.
        ((described("environment", "Production"),), "production", True),
        ((described("environment", "prod", aliases=["blue"]),), "blue", True),
        ((described("environment", "live", production=False),), "live", False),
        ((described("environment", "main", aliases=["production", "main-*"]),), "prod", True),
        ((described("environment", "main", aliases=["production", "main-*"]),), "main-eu", True),
        ((described("environment", "main", aliases=["pr?d"]),), "prod", True),
        ((described("environment", "main", aliases=["pr?d"], production=False),), "prod", False),
        ((described("environment", "lab", aliases=["*"]), LIVE), "lab-7", True),  # production would be called so, too
        ((described("environment", "staging"),), "uat", False),
    ],
)
def test_what_production_is_does_not_hang_on_how_its_policy_is_written(
    documents: tuple[dict[str, Any], ...], reported: str, is_it: bool
) -> None:
    policies = PolicySet().with_documents(map(read_document, documents)).at(LATEST)

    assert is_production(aliases.environment(reported, policies).name, policies) is is_it


@pytest.mark.requirement("M1.5")
def test_an_invalid_policy_of_a_service_holds_as_far_as_it_can_be_read() -> None:
    regimes = SHOP | {"spec": SHOP["spec"] | {"regimes": ["sox"]}}
    broken = newer(regimes, colour="red", depends_on="cart")
    policies = PolicySet().with_documents(map(read_document, (regimes, broken))).at(LATEST)

    assert read_document(broken).spec is None
    assert policies.service("shop").regimes == ("sox",)
    assert policies.services.find("shop-svc") == ("shop", "shop-svc")
    assert position(regimes, broken, freeze(services=["shop-svc"], tiers=["1"])) == "outside"


REPORTED = (
    *("shop", "Shop", "shop-eu", "SHOP-EU ", "cart", "prod", "Prod1", "production", "stg2", "qa7", "perf", "blue"),
    *("GREEN", "live-eu", "eu-west-1", "euw1", "EUW1 ", "global"),
)


@pytest.mark.requirement("M2.1")
def test_whatever_aliases_there_are_a_scope_covers_what_is_recorded_of_its_own_names() -> None:
    chance = Random(1)
    names = ["shop", "cart", "production", "live-eu", "eu-west-1", "staging"]
    for _ in range(1000):
        known = [
            {"kind": kind, "name": chance.choice(names), "spec": {"aliases": chance.sample([*REPORTED, "x*", "s*"], 3)}}
            for kind in ("service", "environment", "region")
            for _ in range(chance.randrange(3))
        ]
        region, environment, service = (chance.choice(REPORTED) for _ in range(3))
        wanted = freeze(services=[service], environments=[environment], regions=[region])
        policies = PolicySet().with_documents(map(read_document, [*known, wanted])).at(LATEST)
        found = aliases.canonical(aliases.Names(region, environment, service), policies)
        subject = {"service": found.service, "environment": found.environment, "region": found.region}

        assert policies.change_windows[0].scope.covers(subject), (known, subject)


def test_kinds_of_change_are_those_of_the_events() -> None:
    [declared] = [one["type"] for one in fields(RecordType.DEPLOYMENT_EVENT) if one["name"] == "kind"]

    assert list(CHANGES) == declared["symbols"]


def checked(tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, *options: str) -> tuple[int, list[str]]:
    (tmp_path / "shop.yaml").write_text(DESCRIBED + text)
    code = main(["check", *options, str(tmp_path)])
    return code, capsys.readouterr().err.replace(f"{tmp_path}/", "").splitlines()


DESCRIBED = """\
kind: service
name: shop
spec: {team: web, tier: 1, aliases: [shop-svc], regimes: [sox]}
---
kind: regime
name: sox
spec: {controls: [registered]}
---
"""
FREEZE = """\
kind: change_window
name: christmas
spec:
  effect: deny
  zone: UTC
  start: 2026-12-23T00:00
  end: 2027-01-02T00:00
  scope:
    %s
"""


@pytest.mark.parametrize(
    ("scope", "said"),
    [
        ("environments: [prodution]", "'prodution' is no environment that anybody knows; did you mean production?"),
        ("environments: [perf]", "declare it by a policy of the kind environment"),
        ("regions: [eu-wset-1]", "'eu-wset-1' is no region that anybody knows; did you mean eu-west-1?"),
        ("kinds: [relase]", "holds 'relase'; expected release, hotfix"),
        ("services: ['shop-*']", "holds 'shop-*'; expected names"),
    ],
)
def test_check_refuses_a_scope_of_names_that_nothing_has(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], scope: str, said: str
) -> None:
    code, told = checked(tmp_path, capsys, FREEZE % scope)

    assert code == EXIT_INVALID
    assert told[0].startswith("shop.yaml:17: spec.scope.")
    assert said in told[0]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("kind: thresholds\nname: production\nspec: {}\n", "shop.yaml:10: name: no rule reads thresholds/production"),
        (
            "kind: approval\nname: shop\nspec:\n  roles: [cab]\n  holders: {cba: [ada]}\n",
            "shop.yaml:13: spec.holders: nobody is asked for the role 'cba'; roles are cab",
        ),
    ],
)
def test_check_refuses_what_no_rule_would_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, said: str
) -> None:
    code, told = checked(tmp_path, capsys, text)

    assert code == EXIT_INVALID
    assert told[0].startswith(said)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (FREEZE % "environments: [prod]", "'prod' is recorded as 'production' (usual name prod)"),
        (FREEZE % "services: [shop-svc]", "'shop-svc' is recorded as 'shop' (alias shop-svc of service/shop)"),
        (FREEZE % "services: [shpo]", "no policy here knows 'shpo'; did you mean shop?"),
        (FREEZE % "teams: [wbe]", "no policy here knows 'wbe'"),
        ("kind: service\nname: cart\nspec: {depends_on: [shpo]}\n", "spec.depends_on: no policy here knows 'shpo'"),
        ("kind: service\nname: cart\nspec: {regimes: [soxx]}\n", "knows 'soxx'; did you mean sox?"),
        (
            "kind: retention\nname: long\nspec: {class: production, days: 2000, regimes: [soxx]}\n",
            "spec.regimes: no policy here knows 'soxx'; did you mean sox?",
        ),
    ],
)
def test_check_warns_of_names_that_may_be_meant_and_refuses_them_where_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, said: str
) -> None:
    lenient, [warning] = checked(tmp_path, capsys, text)
    strict, told = checked(tmp_path, capsys, text, "--strict")

    assert (lenient, strict) == (0, EXIT_INVALID)
    assert warning.startswith("warning: shop.yaml:1")
    assert said in warning
    assert f"warning: {told[0]}" == warning


def test_names_that_are_known_are_not_spoken_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scope = "{environments: [production, Staging], services: [Shop], teams: [Web], tiers: [1], regions: [global]}"
    text = (FREEZE % "").replace("  scope:\n    \n", f"  scope: {scope}\n")

    assert checked(tmp_path, capsys, text, "--strict") == (0, [])
