"""What AWS posts, opened: EventBridge events, SNS and SQS around them, batches of Lambda.

In: any JSON body. Out: `AwsEvent`s, whoever carried them; and records that know where they belong.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from deploytrail_schemas.records import RecordType

from deploytrail.adapters.base import Adapted, AdapterError, Defaults, each, instant, items, mapping, placed, text
from deploytrail.adapters.base import record as base_record

NAME = "aws"
_DEPTH = 5  # a list of SQS messages of SNS messages is 3 deep
_CONFIRMATIONS = ("SubscriptionConfirmation", "UnsubscribeConfirmation")

Record = tuple[RecordType, dict[str, Any]]


@dataclass(frozen=True, slots=True)
class AwsEvent:
    """One event of one service. `at` in µs; `message` is the whole of what has no EventBridge envelope."""

    kind: str  # EventBridge's detail-type
    account: str
    region: str
    at: int
    resources: tuple[str, ...]
    detail: Mapping[str, Any]
    message: Mapping[str, Any]
    defaults: Defaults

    def id_of(self, service: str, *names: str) -> str:
        """The name of a thing of an AWS service, unique over accounts and regions."""
        return ":".join((NAME, self.account, self.region, service, *names))

    def record(
        self, kind: RecordType, /, *identity: str, service: str = "", environment: str = "", region: str = "",
        at: int | None = None, **fields: Any,
    ) -> Record:  # fmt: skip
        """A record of this event: `environment` and the others as the payload says them."""
        here = region or self.region
        place = placed(
            self.defaults,
            NAME,
            region=here,
            environment=environment,
            service=service,
            host=":".join(filter(None, (self.account, self.region))),
        )
        at = self.at if at is None else at
        return base_record(kind, NAME, (self.account, self.region, *identity), place, occurred_at=at, **fields)


def events(
    payload: Any, defaults: Defaults, received_at: int, adapt: Callable[[AwsEvent], Adapted], depth: int = 0
) -> Adapted:
    """What `adapt` makes of every event in a body. AdapterError for what AWS does not send."""
    if depth > _DEPTH:
        raise AdapterError(f"AWS events are wrapped at most {_DEPTH} times")

    def inner(given: Any, at: int = received_at) -> Adapted:
        return events(given, defaults, at, adapt, depth + 1)

    if isinstance(payload, list):
        return each(payload, inner)
    if not isinstance(payload, Mapping):
        raise AdapterError("an AWS event is a JSON object, or a list of them")
    # First of all: of a signed SNS message nothing but its Message is signed content.
    if text(payload, "TopicArn") and text(payload, "Type"):
        return _notification(payload, received_at, inner)
    if isinstance(payload.get("Records"), list):
        return each(payload["Records"], lambda item: _carried(item, inner))
    return adapt(_event(payload, defaults, received_at))


def _carried(item: Any, inner: Callable[[Any], Adapted]) -> Adapted:
    """One record of a Lambda's batch: of SNS, or of SQS."""
    if notification := mapping(item, "Sns"):
        return inner(notification)
    body = item.get("body") if isinstance(item, Mapping) else None
    if isinstance(body, str):
        return _text(body, "the body of an SQS message", inner)
    raise AdapterError("a record of a batch has neither Sns nor body; expected records of SNS or SQS")


def _notification(message: Mapping[str, Any], received_at: int, inner: Callable[[Any, int], Adapted]) -> Adapted:
    """An SNS message: https://docs.aws.amazon.com/sns/latest/dg/sns-message-and-json-formats.html"""
    kind, topic = text(message, "Type"), text(message, "TopicArn")
    if kind in _CONFIRMATIONS:
        how = "it is confirmed by itself once DEPLOYTRAIL_WEBHOOK_SECRETS allows the topic"
        return Adapted(ignored=f"{kind} of {topic} is no event{'; ' + how if kind == _CONFIRMATIONS[0] else ''}")
    sent_at = instant(message, "Timestamp") or received_at
    body = message.get("Message")
    return _text(body if isinstance(body, str) else "", f"a message of {topic}", lambda given: inner(given, sent_at))


def _text(given: str, what: str, inner: Callable[[Any], Adapted]) -> Adapted:
    try:
        value = json.loads(given)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, (Mapping, list)):
        return Adapted(ignored=f"{what} is plain text, no event")
    return inner(value)


def _event(payload: Mapping[str, Any], defaults: Defaults, received_at: int) -> AwsEvent:
    detail = mapping(payload, "detail")
    return AwsEvent(
        # Notification rules of the developer tools write it in one word.
        kind=text(payload, "detail-type") or text(payload, "detailType"),
        account=text(payload, "account") or text(payload, "accountId") or text(payload, "AWSAccountId"),
        region=text(payload, "region"),
        at=instant(payload, "time") or received_at,
        resources=tuple(arn for arn in items(payload, "resources") if isinstance(arn, str)),
        detail=detail,
        message=payload,
        defaults=defaults,
    )


def last_part(arn: str) -> str:
    """What an ARN ends in: the name of the thing."""
    return arn.rpartition(":")[2].rpartition("/")[2]
