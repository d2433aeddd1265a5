"""Who wrote a record straight to Kafka, and whether they may say it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from deploytrail_processors.rules.credentials import Admission, Delivery, judge, voice, within_its_own
from deploytrail_processors.rules.policies import Policies, read_document
from deploytrail_schemas.codec import encode
from deploytrail_schemas.credentials import Credential, revoke
from deploytrail_schemas.reasons import DeadLetterReason, Refusal
from deploytrail_schemas.record_signatures import Signer, public_key_of
from deploytrail_schemas.records import RecordType
from deploytrail_schemas.scopes import EVERYTHING, Scope, Verb, bounds, read_bounds
from deploytrail_schemas.tokens import Token, make_token
from hypothesis import given
from hypothesis import strategies as st

NOON, DAY = 1_793_620_800_000_000, 86_400_000_000
INTAKE = "deploytrail.intake"
VALUE: dict[str, Any] = {
    "event_id": "0192f0c4-0000-7000-8000-000000000001",
    "event_type": "started",
    "deployment_id": "pay-1",
    "occurred_at": NOON,
    "region": "eu-west-1",
    "environment": "production",
    "service": "pay-api",
    "producer_id": "host-1",
    "team": "platform",
    "tags": {},
}
PAYMENTS = Scope("payments", ("pay-*",), ("production",), ("eu-west-1",), frozenset({Verb.REPORT}))
RELAY = Scope("", ("*",), ("*",), ("*",), frozenset({Verb.RELAY}))
MINE, GATEWAY = make_token(), make_token()


def credential(token: Token, scope: Scope) -> Credential:
    return Credential(token.id, token.digest, public_key_of(token), scope, NOON - DAY, expires=NOON + DAY)


KNOWN = {MINE.id: credential(MINE, PAYMENTS), GATEWAY.id: credential(GATEWAY, RELAY)}


def delivery(token: Token | None = MINE, partition: int = 1, **headers: bytes) -> Delivery:
    said = [(f"dt-{name.replace('_', '-')}", text) for name, text in headers.items()]
    data = encode(RecordType.DEPLOYMENT_EVENT, VALUE)
    if token is not None:
        said.append(Signer(token.text, "TOKEN").header(INTAKE, partition, b"host-1", said, data))
    return Delivery(INTAKE, partition, b"host-1", dict(said), data, NOON)


def verdict(
    given: Delivery,
    value: dict[str, Any] = VALUE,
    known: dict[str, Credential] | None = KNOWN,
    policies: Policies = Policies(),  # noqa: B008  # frozen
    kind: RecordType = RecordType.DEPLOYMENT_EVENT,
) -> Admission:
    return judge(given, kind, value, known, policies)


def intake_policies(*specs: dict[str, Any]) -> Policies:
    documents = [{"kind": "intake", "name": f"p{n}", "spec": spec} for n, spec in enumerate(specs)]
    return Policies(tuple(map(read_document, documents)))


REFUSES = intake_policies({"unsigned": "refuse"})


@pytest.mark.requirement("M2.6")
def test_a_signed_record_is_its_tokens_and_bears_its_team() -> None:
    found = verdict(delivery(sent_at=b"1793620800000000"), policies=REFUSES)

    assert found.refused is None
    assert found.reporter == f"dtk_{MINE.id}"
    assert found.value == VALUE | {"team": "payments", "tags": {"claimed_team": "platform"}}


def changed(**change: Any) -> Delivery:
    return replace(delivery(sent_at=b"1"), **change)


@pytest.mark.requirement("M2.6")
@pytest.mark.parametrize(
    "forged",
    [
        changed(partition=15),
        changed(key=b"host-2"),
        changed(value=encode(RecordType.DEPLOYMENT_EVENT, VALUE | {"service": "pay-other"})),
        changed(headers=delivery(sent_at=b"1").headers | {"dt-sent-at": b"2"}),
        changed(headers=delivery().headers | {"dt-echo": b"1,2,3"}),
        changed(headers=delivery().headers | {"dt-reporter": b"gateway"}),
        changed(headers=delivery().headers | {"dt-received-at": b"1793620800000000"}),
        changed(headers={"dt-signature": b"no signature"}),
        changed(headers={"dt-signature": b"\xff:\xff"}),
        changed(headers={"dt-signature": MINE.id.encode() + b":" + b"A" * 86 + b"=="}),
    ],
)
def test_a_forged_record_is_refused_also_where_unsigned_ones_are_accepted(forged: Delivery) -> None:
    found = verdict(forged)

    assert (found.refused, found.reason) == (DeadLetterReason.UNAUTHENTICATED, Refusal.WRONG_SIGNATURE)


@pytest.mark.requirement("M2.6")
def test_a_token_that_is_not_known_proves_nothing() -> None:
    found = verdict(delivery(make_token()))

    assert (found.refused, found.reason) == (DeadLetterReason.UNAUTHENTICATED, Refusal.UNKNOWN_TOKEN)


@pytest.mark.requirement("M2.6")
def test_a_replay_gives_the_verdict_of_the_day() -> None:
    taken_back = {MINE.id: revoke(KNOWN[MINE.id], NOON + 1)}

    assert verdict(delivery(), known=taken_back).refused is None
    late = verdict(replace(delivery(), appended_at=NOON + 1), known=taken_back)
    assert (late.refused, late.reason) == (DeadLetterReason.UNAUTHENTICATED, Refusal.REVOKED)
    expired = verdict(replace(delivery(), appended_at=NOON + DAY))
    assert expired.reason is Refusal.EXPIRED


@pytest.mark.requirement("M2.6")
def test_everything_outside_of_the_scope_is_named() -> None:
    found = verdict(delivery(), VALUE | {"service": "shop", "environment": "staging"})

    assert (found.refused, found.reason) == (DeadLetterReason.OUT_OF_SCOPE, Refusal.OUT_OF_SCOPE)
    assert found.detail == (
        f"dtk_{MINE.id}: /service is 'shop'; the credential may say pay-*; "
        "/environment is 'staging'; the credential may say production"
    )


@pytest.mark.requirement("M2.6")
@pytest.mark.parametrize("header", ["reporter", "received_at"])
def test_only_a_relay_says_who_reported_and_when_it_came(header: str) -> None:
    mine = verdict(delivery(**{header: b"1793620800000000"}))
    relayed = verdict(delivery(GATEWAY, reporter=b"webhook:github", received_at=b"1793620800000000"))

    assert mine.refused is DeadLetterReason.OUT_OF_SCOPE
    assert mine.detail.endswith("is set by gateway and backfill; the token lacks the verb relay")
    assert (relayed.refused, relayed.reporter, relayed.value) == (None, "webhook:github", VALUE)


def test_a_relay_reports_nothing_of_its_own() -> None:
    assert verdict(delivery(GATEWAY)).refused is DeadLetterReason.OUT_OF_SCOPE


@pytest.mark.requirement("M2.6")
def test_history_is_written_by_a_backfill_alone() -> None:
    mine = verdict(replace(delivery(partition=15), backfill=True))
    relayed = verdict(replace(delivery(GATEWAY, 15, reporter=b"backfill"), backfill=True))
    tick = {"at": NOON, "region": ""}

    assert mine.refused is DeadLetterReason.OUT_OF_SCOPE
    assert relayed.refused is None
    assert verdict(delivery(MINE), tick, kind=RecordType.TICK).refused is DeadLetterReason.OUT_OF_SCOPE
    assert verdict(delivery(GATEWAY, reporter=b"backfill"), tick, kind=RecordType.TICK).refused is None


@pytest.mark.requirement("M2.6")
def test_unsigned_records_are_accepted_where_no_policy_refuses_them() -> None:
    unsigned = delivery(None, reporter=b"webhook:github")
    refused = verdict(unsigned, policies=REFUSES)

    assert (verdict(unsigned).refused, verdict(unsigned).reporter) == (None, "webhook:github")
    assert (refused.refused, refused.reason) == (DeadLetterReason.UNAUTHENTICATED, Refusal.NO_CREDENTIAL)


@pytest.mark.requirement("M2.6")
def test_the_narrowest_policy_says_where_unsigned_is_accepted() -> None:
    policies = intake_policies(
        {"unsigned": "refuse"},
        {"unsigned": "accept", "scope": {"environments": ["test", "development"]}},
        {"unsigned": "refuse", "scope": {"environments": ["test"], "services": ["pay-api"]}},
    )

    assert not policies.accepts_unsigned(VALUE)
    assert not policies.accepts_unsigned(VALUE | {"environment": "test"})
    assert policies.accepts_unsigned(VALUE | {"environment": "development"})
    assert policies.accepts_unsigned(VALUE | {"environment": "test", "service": "shop"})
    assert not policies.accepts_unsigned(None)
    assert Policies().accepts_unsigned(None)


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        ({"unsigned": "maybe"}, "spec.unsigned: is 'maybe'; expected accept or refuse"),
        ({}, "spec.unsigned: is missing"),
        ({"unsigned": "accept", "scope": {"kinds": ["release"]}}, "cannot be asked of a reporter"),
    ],
)
def test_an_invalid_policy_refuses(spec: dict[str, Any], problem: str) -> None:
    policies = intake_policies({"unsigned": "accept", "scope": {"environments": ["production"]}}, spec)

    assert problem in "; ".join(map(str, policies.documents[1].problems))
    assert not policies.accepts_unsigned(VALUE)


def test_where_no_credentials_are_configured_a_signature_counts_as_none() -> None:
    assert verdict(delivery(), known=None).reporter == ""
    refused = verdict(delivery(), known=None, policies=REFUSES)
    assert refused.refused is DeadLetterReason.UNAUTHENTICATED
    assert "DEPLOYTRAIL_CREDENTIALS is not set here" in refused.detail


@given(st.dictionaries(st.sampled_from(["dt-signature", "dt-reporter", "dt-echo"]), st.binary(max_size=120)))
def test_no_headers_crash_the_rule_or_pass_for_a_signature(headers: dict[str, bytes]) -> None:
    found = verdict(replace(delivery(None), headers=headers), policies=REFUSES)

    assert found.refused is DeadLetterReason.UNAUTHENTICATED


OWNERS = {"pay-1": ("pay-api", "production"), "toy-1": ("toy", "production"), "pay-test": ("pay-api", "test")}


@pytest.mark.requirement("M2.6")
@pytest.mark.parametrize(
    ("given_ids", "expected"),
    [
        ({"deployment_id": "pay-1"}, {}),
        ({"deployment_id": "new"}, {}),
        ({"deployment_id": "new", "rollback_of": "pay-1"}, {}),
        ({"deployment_id": "toy-1"}, {"deployment_id": "toy-1@pay-api"}),
        ({"deployment_id": "pay-test"}, {"deployment_id": "pay-test@pay-api"}),
        ({"deployment_id": "new", "rollback_of": "toy-1"}, {"rollback_of": ""}),
        ({"deployment_id": "new", "parent_deployment_id": "toy-1"}, {"parent_deployment_id": ""}),
    ],
    ids=str,
)
def test_what_lies_beyond_a_scope_is_touched_by_no_id(given_ids: dict[str, str], expected: dict[str, str]) -> None:
    value = VALUE | {"rollback_of": "", "parent_deployment_id": ""} | given_ids
    found = within_its_own(value, PAYMENTS, OWNERS.get)
    claimed = {f"claimed_{name}": given_ids[name] for name in expected}

    assert found == value | expected | {"tags": claimed}
    assert within_its_own(value, None, OWNERS.get) == value
    assert within_its_own(value, EVERYTHING, OWNERS.get) == value


@pytest.mark.requirement("M2.6")
def test_whom_a_gateway_let_in_is_bound_also_behind_it() -> None:
    scope = Scope("play", ("toy", "game-*"), ("production",), ("*",), frozenset({Verb.REPORT}))
    relayed = verdict(delivery(GATEWAY, reporter=b"dtk_toy", scope=bounds(scope).encode()))
    unbound = verdict(delivery(GATEWAY, reporter=b"webhook:github"))

    assert relayed.scope == Scope("", ("toy", "game-*"), ("production",))
    assert unbound.scope is None
    assert (bounds(EVERYTHING), read_bounds(""), read_bounds("{"), read_bounds("[]")) == ("", None, Scope(), Scope())


def test_bounds_that_were_changed_on_the_way_are_found() -> None:
    told = delivery(GATEWAY, reporter=b"dtk_toy", scope=b'{"services":["toy"],"environments":["production"]}')
    wider = replace(told, headers={**told.headers, "dt-scope": b'{"services":["*"],"environments":["*"]}'})
    without = replace(told, headers={n: t for n, t in told.headers.items() if n != "dt-scope"})

    assert verdict(told).refused is None
    assert verdict(wider).refused is DeadLetterReason.UNAUTHENTICATED
    assert verdict(without).refused is DeadLetterReason.UNAUTHENTICATED


@pytest.mark.requirement("M2.6")
def test_one_voice_is_one_scope_whatever_token_and_way_it_came_by() -> None:
    successor, elsewhere = make_token(), make_token()
    known = KNOWN | {
        successor.id: credential(successor, PAYMENTS),
        elsewhere.id: credential(elsewhere, replace(PAYMENTS, services=("toy",))),
    }
    mine = voice(delivery(), known)
    relayed = delivery(GATEWAY, reporter=b"gateway", scope=bounds(PAYMENTS).encode())

    assert len(mine) == 16
    assert voice(delivery(successor), known) == mine == voice(relayed, known)
    assert voice(delivery(elsewhere), known) not in (mine, "")
    assert voice(delivery(GATEWAY, reporter=b"webhook"), known) == ""
    assert voice(delivery(None), known) == voice(delivery(None), None) == ""
    # Who is no relay cannot speak with another's voice by the header alone.
    assert voice(delivery(elsewhere, scope=bounds(PAYMENTS).encode()), known) == voice(delivery(elsewhere), known)
