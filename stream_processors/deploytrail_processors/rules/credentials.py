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

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from deploytrail_schemas.credentials import Credential, Credentials
from deploytrail_schemas.headers import RECEIVED_AT, REPORTER, SCOPE, SIGNATURE
from deploytrail_schemas.reasons import DeadLetterReason, Refusal
from deploytrail_schemas.record_signatures import is_signed, read_signature, signed_bytes
from deploytrail_schemas.records import RecordType
from deploytrail_schemas.scopes import Scope, Verb, bounds, covers, overridden, read_bounds, violations

from deploytrail_processors.rules.policies import Policies

Owner = tuple[str, str]  # service and environment
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
    """The verdict: `refused` None means that `value` goes on the trail as `reporter`'s. `scope`: of what its reporter
    may speak; None: of everything."""

    reporter: str
    value: dict[str, Any]
    scope: Scope | None = None
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
            return Admission(delivery.said(REPORTER), value, read_bounds(delivery.said(SCOPE)))
        why = "a policy of the kind intake refuses what is not signed"
        if header:
            why += ", and DEPLOYTRAIL_CREDENTIALS is not set here: no signature can be checked"
        return _unauthenticated(value, Refusal.NO_CREDENTIAL, why)
    found = _signer(header, delivery, credentials)
    if isinstance(found, Admission):
        return replace(found, value=value)
    return _within_scope(found, delivery, kind, value)


def voice(delivery: Delivery, credentials: Credentials | None) -> str:
    """By which scope a record speaks, as 16 hexadecimal digits; empty for one without bounds.

    Not yet proven: `judge` says whether it may. Ids and clocks of one voice are not those of another, so that who may
    speak of one service neither takes the id of another's event first nor moves another's clock. It is the scope and
    not the token, since a token that is replaced speaks on.
    """
    text = delivery.said(SCOPE)
    read = read_signature(delivery.said(SIGNATURE))
    credential = credentials.get(read[0]) if credentials is not None and read is not None else None
    if credential is not None and not (Verb.RELAY in credential.scope.verbs and REPORTER in delivery.headers):
        text = bounds(credential.scope)
    return hashlib.sha256(text.encode()).hexdigest()[:16] if text else ""


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
        return Admission("", value, None, DeadLetterReason.OUT_OF_SCOPE, Refusal.OUT_OF_SCOPE, detail)
    if passed_on:
        return Admission(delivery.said(REPORTER), value, read_bounds(delivery.said(SCOPE)))
    return Admission(credential.name, overridden(credential.scope, {}, kind, value), credential.scope)


def within_its_own(
    value: dict[str, Any], scope: Scope | None, owner_of: Callable[[str], Owner | None]
) -> dict[str, Any]:
    """A deployment event that touches no deployment of which its reporter may not speak.

    `owner_of`: service and environment of whom a deployment id was first heard; None: it is new. An id of somebody
    else's deployment becomes one beside it, `ID@SERVICE`, and a rollback of one is none of it; what was claimed stays
    in the tags. So nobody voids, fails or undoes what lies outside of his scope, nor is kept from reporting by
    whoever took an id first.
    """
    if scope is None:
        return value
    claimed = {
        name: value[name]
        for name in ("deployment_id", "rollback_of", "parent_deployment_id")
        if value[name] and (owner := owner_of(value[name])) is not None and not covers(scope, *owner)
    }
    if not claimed:
        return value
    own = {
        "deployment_id": f"{value['deployment_id']}@{value['service']}",
        "rollback_of": "",
        "parent_deployment_id": "",
    }
    tags = {f"claimed_{name}": text for name, text in claimed.items()}
    return {**value, **{name: own[name] for name in claimed}, "tags": {**value["tags"], **tags}}


def _unauthenticated(value: dict[str, Any], reason: Refusal, detail: str) -> Admission:
    return Admission("", value, None, DeadLetterReason.UNAUTHENTICATED, reason, detail)
