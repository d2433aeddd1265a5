"""Scopes: what a credential may say, and what it proves against what a payload says."""

from __future__ import annotations

from typing import Any

import pytest
from deploytrail_schemas.records import RecordType
from deploytrail_schemas.scopes import EVERYTHING, Scope, Verb, completed, matches, overridden, verb_for, violations
from hypothesis import given
from hypothesis import strategies as st

PAYMENTS = Scope("payments", ("pay-*", "ledger"), ("production",), ("eu-west-1",), frozenset({Verb.REPORT}))
EVENT = RecordType.DEPLOYMENT_EVENT


def event(**fields: Any) -> dict[str, Any]:
    return {"event_type": "started", "service": "pay-api", "environment": "production", "region": "eu-west-1"} | fields


@pytest.mark.parametrize(
    ("pattern", "name", "fits"),
    [
        ("*", "", True),
        ("*", "x" * 10_000, True),
        ("pay-*", "pay-api", True),
        ("pay-*", "Pay-API ", True),
        ("pay-*", "repay-api", False),
        ("pay-*", "pay", False),
        ("*-api", "pay-api\n", True),
        ("a*b", "a\nb", True),
        ("pay.api", "payxapi", False),
        ("pay[1]", "pay1", False),
        ("staging", "\u017ftaging", False),
        ("a*", "a" * 300, False),
        ("", "x", False),
    ],
)
def test_a_star_is_all_that_is_special(pattern: str, name: str, fits: bool) -> None:
    assert matches(pattern, name) is fits


@given(st.text(max_size=40))
def test_every_name_fits_itself_and_what_holds_it(name: str) -> None:
    plain = name.replace("*", "")

    assert matches(plain, plain)
    assert matches(f"{plain}*", f"{plain}more")


@pytest.mark.requirement("M2.6")
def test_everything_outside_a_scope_is_named_at_once() -> None:
    value = {"service": "shop", "environment": "staging", "region": "us-east-1"}
    found = violations(PAYMENTS, RecordType.SIGNAL, value)

    assert [(v.pointer, v.detail) for v in found] == [
        ("", "needs the verb signal; the credential may report"),
        ("/service", "is 'shop'; the credential may say pay-*, ledger"),
        ("/environment", "is 'staging'; the credential may say production"),
        ("/region", "is 'us-east-1'; the credential may say eu-west-1"),
    ]
    assert violations(PAYMENTS, EVENT, event()) == []
    assert violations(EVERYTHING, RecordType.SIGNAL, value) == []


@pytest.mark.requirement("M2.6")
def test_an_empty_scope_allows_nothing() -> None:
    assert len(violations(Scope(), EVENT, event())) == 4


@pytest.mark.parametrize(
    ("kind", "value", "verb"),
    [
        (EVENT, {"event_type": "registered"}, Verb.REPORT),
        (RecordType.SIGNAL, {}, Verb.SIGNAL),
        (RecordType.OBSERVATION, {}, Verb.OBSERVE),
        (RecordType.APPROVAL, {"approval_type": "registered"}, Verb.REGISTER),
        (RecordType.APPROVAL, {"approval_type": "requested"}, Verb.REGISTER),
        (RecordType.APPROVAL, {"approval_type": "approved"}, Verb.APPROVE),
        (RecordType.APPROVAL, {"approval_type": "permit_issued"}, Verb.APPROVE),
        (RecordType.APPROVAL, {}, Verb.APPROVE),
    ],
)
@pytest.mark.requirement("M2.6")
def test_whoever_asks_for_an_approval_does_not_give_it(kind: RecordType, value: dict[str, Any], verb: Verb) -> None:
    assert verb_for(kind, value) is verb


def test_relaying_is_a_verb_of_its_own() -> None:
    relay = Scope("", ("*",), ("*",), ("*",), frozenset({Verb.RELAY}))

    assert violations(relay, EVENT, event(), relayed=True) == []
    assert [v.detail for v in violations(relay, EVENT, event())] == ["needs the verb report; the credential may relay"]
    assert len(violations(EVERYTHING, EVENT, event(), relayed=True)) == 1


@pytest.mark.requirement("M2.6")
def test_what_a_scope_fixes_may_be_left_out() -> None:
    assert completed(PAYMENTS, {"service": "pay-api", "environment": "", "region": None}) == {
        "service": "pay-api",
        "environment": "production",
        "region": "eu-west-1",
    }
    assert completed(PAYMENTS, {}) == {"environment": "production", "region": "eu-west-1"}
    assert completed(EVERYTHING, {}) == {}


@pytest.mark.requirement("M2.6")
def test_claims_stand_above_the_payload_and_what_it_pretended_is_kept() -> None:
    claims = {"deployer": "maria", "repository": "https://git.example/acme/pay.git", "commit_sha": "c0ffee"}
    value = event(team="platform", deployer="ceo", repository="https://git.example/Acme/pay", tags={"sprint": "42"})
    found = overridden(PAYMENTS, claims, EVENT, value)

    assert (found["team"], found["deployer"], found["commit_sha"]) == ("payments", "maria", "c0ffee")
    assert found["repository"] == "https://git.example/acme/pay.git"
    assert found["tags"] == {"sprint": "42", "claimed_team": "platform", "claimed_deployer": "ceo"}
    assert value["tags"] == {"sprint": "42"}


def test_who_approved_is_who_was_authenticated() -> None:
    found = overridden(EVERYTHING, {"deployer": "maria"}, RecordType.APPROVAL, {"approver": "ceo"})

    assert found == {"approver": "maria", "tags": {"claimed_approver": "ceo"}}


def test_what_is_seen_to_run_is_not_who_saw_it() -> None:
    value = {"commit_sha": "feed"}

    assert overridden(PAYMENTS, {"commit_sha": "c0ffee"}, RecordType.OBSERVATION, value) == value
    assert overridden(EVERYTHING, {}, EVENT, value) == value
