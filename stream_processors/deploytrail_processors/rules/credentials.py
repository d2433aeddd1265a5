"""Who wrote this record, and may they say it?

In: a record as it lay on the intake topic, its value with canonical names, the credentials, the
policies, and when the broker appended it. Out: who reported it, with what the credential proves in
the value; or why it is refused. Every time is the broker's own: a reporter cannot choose the day
on which his credential still held, and a replay gives the same verdict.

A record is signed by its producer, or by a relay (gateway, backfill) that knew who reported it and
when. A wrong signature is refused wherever it is found; none at all is accepted where no policy
of the kind `intake` refuses it, and then everything is believed as it stands.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from deploytrail_schemas.credentials import Credential, Credentials
from deploytrail_schemas.headers import RECEIVED_AT, REPORTER, SIGNATURE
from deploytrail_schemas.reasons import DeadLetterReason, Refusal
from deploytrail_schemas.record_signatures import is_signed, read_signature, signed_bytes
from deploytrail_schemas.records import RecordType
from deploytrail_schemas.scopes import Verb, overridden, violations

from deploytrail_processors.rules.policies import Policies

_NOT_SAID = "is set by gateway and backfill; the token lacks the verb relay"


@dataclass(frozen=True, slots=True)
class Delivery:
    """A record as it lay on the topic. `backfill`: it lies in the partition of history."""

    topic: str
    partition: int
    key: bytes
    headers: Mapping[str, bytes]
    value: bytes
    appended_at: int
    backfill: bool = False

    def said(self, name: str) -> str:
        """A header's text; empty where there is none."""
        return self.headers.get(name, b"").decode("ascii", "replace")


@dataclass(frozen=True, slots=True)
class Admission:
    """The verdict: `refused` None means that `value` goes on the trail as `reporter`'s."""

    reporter: str
    value: dict[str, Any]
    refused: DeadLetterReason | None = None
    reason: Refusal | None = None
    detail: str = ""


def judge(
    delivery: Delivery,
    kind: RecordType,
    value: dict[str, Any],
    credentials: Credentials | None,
    policies: Policies,
) -> Admission:
    """The verdict on a record. `credentials` None: none are configured, and signatures cannot be checked."""
    header = delivery.said(SIGNATURE)
    if not header or credentials is None:
        if policies.accepts_unsigned(None if kind is RecordType.TICK else value):
            return Admission(delivery.said(REPORTER), value)
        why = "a policy of the kind intake refuses what is not signed"
        if header:
            why += ", and DEPLOYTRAIL_CREDENTIALS is not set here: no signature can be checked"
        return _unauthenticated(value, Refusal.NO_CREDENTIAL, why)
    found = _signer(header, delivery, credentials)
    if isinstance(found, Admission):
        return Admission("", value, found.refused, found.reason, found.detail)
    return _within_scope(found, delivery, kind, value)


def _signer(header: str, delivery: Delivery, credentials: Credentials) -> Credential | Admission:
    read = read_signature(header)
    if read is None:
        return _unauthenticated({}, Refusal.WRONG_SIGNATURE, f"the header {SIGNATURE} is no signature")
    identity, signature = read
    credential = credentials.get(identity)
    if credential is None:
        return _unauthenticated({}, Refusal.UNKNOWN_TOKEN, f"the token {identity[:20]!r} is not known here")
    data = signed_bytes(delivery.topic, delivery.partition, delivery.key, delivery.headers, delivery.value)
    if not is_signed(credential.public_key, signature, data):
        return _unauthenticated({}, Refusal.WRONG_SIGNATURE, f"the signature of {credential.name} does not fit")
    if reason := credential.refusal_at(delivery.appended_at):
        return _unauthenticated({}, reason, f"{credential.name} was {reason} when this was received")
    return credential


def _within_scope(credential: Credential, delivery: Delivery, kind: RecordType, value: dict[str, Any]) -> Admission:
    relay = Verb.RELAY in credential.scope.verbs
    passed_on = relay and REPORTER in delivery.headers
    wrong: list[str] = []
    if not passed_on:
        wrong += [f"{name} {_NOT_SAID}" for name in (REPORTER, RECEIVED_AT) if name in delivery.headers]
    if kind is RecordType.TICK or delivery.backfill:
        wrong += [] if passed_on else ["history is written by a backfill, with a token that has the verb relay"]
    if kind is not RecordType.TICK:
        found = violations(credential.scope, kind, value, relayed=passed_on)
        wrong += [f"{v.pointer} {v.detail}".strip() for v in found]
    if wrong:
        detail = f"{credential.name}: {'; '.join(wrong)}"
        return Admission("", value, DeadLetterReason.OUT_OF_SCOPE, Refusal.OUT_OF_SCOPE, detail)
    if passed_on:
        return Admission(delivery.said(REPORTER), value)
    return Admission(credential.name, overridden(credential.scope, {}, kind, value))


def _unauthenticated(value: dict[str, Any], reason: Refusal, detail: str) -> Admission:
    return Admission("", value, DeadLetterReason.UNAUTHENTICATED, reason, detail)
