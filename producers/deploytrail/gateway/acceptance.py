"""From values to durable records: encoded, placed in their region's partition, published, answered 202."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from deploytrail_schemas import headers as names
from deploytrail_schemas.codec import MAX_MESSAGE_BYTES, encode
from deploytrail_schemas.counted import counted
from deploytrail_schemas.errors import EncodeError, RetryLater
from deploytrail_schemas.instants import check_range
from deploytrail_schemas.json_values import Violation
from deploytrail_schemas.reasons import Refusal
from deploytrail_schemas.records import RecordType
from deploytrail_schemas.scopes import PLACES, bounds, overridden, violations
from deploytrail_schemas.settings import Settings
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from deploytrail.gateway import metrics
from deploytrail.gateway.callers import Caller
from deploytrail.gateway.problems import Problem, Refused
from deploytrail.gateway.publisher import Busy, Outgoing, Publisher
from deploytrail.gateway.relay import Relay

_RETRY = {"Retry-After": "2"}
_KEY_BYTES = 32 << 10  # the topics leave room for 64 KiB beside a record, for key and headers


class Acceptance:
    """What every way into the gateway ends in."""

    def __init__(self, settings: Settings, publisher: Publisher) -> None:
        self._publisher = publisher
        self._relay = Relay(settings, publisher)

    async def accept(
        self,
        request: Request,
        records: Sequence[tuple[RecordType, dict[str, Any]]],
        received_at: int,
        caller: Caller,
        **more: Any,
    ) -> Response:
        """Return 202, with `more` in its body, once all records are durable.

        Problem where one cannot be stored or said: then none is.
        """
        records = _within_scope(records, caller)
        try:
            records = [(kind, self._relay.cleaned(kind, value)) for kind, value in records]
            await self._relay.prepare(kind for kind, _ in records)
            reporter = self._relay.cleaned_text(caller.name)
        except RetryLater as error:
            raise _away(error) from error
        given = _record_headers(request, received_at, reporter, caller)
        outgoing: list[Outgoing] = []
        wrong: list[Violation] = []
        for index, (kind, value) in enumerate(records):
            try:
                data = encode(kind, value)
            except EncodeError as error:
                wrong.append(Violation(f"/{index}", str(error)))
                continue
            if len(data) > MAX_MESSAGE_BYTES:
                wrong.append(Violation(f"/{index}", f"is {len(data)} bytes; a record may have {MAX_MESSAGE_BYTES}"))
            elif len(data) + len(value.get("producer_id", "").encode()) > MAX_MESSAGE_BYTES + _KEY_BYTES:
                wrong.append(Violation(f"/{index}/producer_id", "is too long: Kafka would refuse the record"))
            outgoing.append(self._relay.outgoing(value, data, given))
        if wrong:
            raise Problem(422, f"{counted(len(wrong), 'record')} cannot be stored; nothing was accepted", wrong)
        try:
            await self._publisher.publish(outgoing)
        except Busy as error:
            raise Problem(429, str(error), headers=_RETRY) from error
        except RetryLater as error:
            raise _away(error) from error
        for kind, count in Counter(kind for kind, _ in records).items():
            metrics.RECORDS.labels(kind.value).inc(count)
        return accepted([value[kind.id_field] for kind, value in records], received_at, **more)

    async def store_signals(self, signals: Sequence[dict[str, Any]]) -> None:
        """Store signals of our own; RetryLater where that failed."""
        await self._relay.publish("gateway", [(RecordType.SIGNAL, value) for value in signals])


def accepted(ids: list[str], received_at: int, **more: Any) -> Response:
    """202: how many records, their ids, and when they were received, which bounds the caller's clock."""
    return JSONResponse({"accepted": len(ids), "received_at": received_at, "ids": ids} | more, 202)


def _away(error: RetryLater) -> Problem:
    return Problem(503, f"{error}; send it again", headers=_RETRY)


def _within_scope(
    records: Sequence[tuple[RecordType, dict[str, Any]]], caller: Caller
) -> list[tuple[RecordType, dict[str, Any]]]:
    """The records with what the caller's credential proves; Refused (403), with all that lies outside of its scope."""
    wrong = [
        (index, violation)
        for index, (kind, value) in enumerate(records)
        for violation in violations(caller.scope, kind, value)
    ]
    if wrong:
        first = records[wrong[0][0]][1]
        raise Refused(
            403,
            f"{counted(len(wrong), 'violation')} of what {caller.name} may say; nothing was accepted",
            Refusal.OUT_OF_SCOPE,
            caller=caller.name,
            violations=[Violation(f"/{index}{v.pointer}", v.detail) for index, v in wrong],
            tried=tuple((place, str(first.get(place, ""))) for place in PLACES),
        )
    return [(kind, overridden(caller.scope, caller.facts, kind, value)) for kind, value in records]


def _record_headers(request: Request, received_at: int, reporter: str, caller: Caller) -> tuple[tuple[str, bytes], ...]:
    found = [(names.RECEIVED_AT, str(received_at).encode()), (names.REPORTER, reporter.encode())]
    if bounded := bounds(caller.scope):
        found.append((names.SCOPE, bounded.encode()))
    wrong: list[Violation] = []
    for http_name, name, expected, is_sound in _TIMES:
        given = request.headers.get(http_name)
        if given is None:
            continue
        if is_sound(given):
            found.append((name, given.encode()))
        else:
            wrong.append(Violation("", f"the header {http_name} is {given!r}; expected {expected}"))
    if wrong:
        raise Problem(400, "a header is wrong; nothing was accepted", wrong)
    return tuple(found)


def _are_instants(text: str, count: int) -> bool:
    parts = text.split(",")
    try:
        return len(parts) == count and all(re.fullmatch("[0-9]{1,19}", p) and check_range(int(p)) for p in parts)
    except ValueError:
        return False


# HTTP header, record header, what it holds, and whether a text is that.
_TIMES: tuple[tuple[str, str, str, Callable[[str], bool]], ...] = (
    (names.HTTP_SENT_AT, names.SENT_AT, "microseconds", lambda text: _are_instants(text, 1)),
    (
        names.HTTP_SENT_MONOTONIC,
        names.SENT_MONOTONIC,
        "nanoseconds",
        lambda text: re.fullmatch("[0-9]{1,18}", text) is not None,
    ),
    (names.HTTP_ECHO, names.ECHO, "sent,received,acknowledged", lambda text: _are_instants(text, 3)),
    (
        names.HTTP_CLOCK,
        names.CLOCK,
        "offset,uncertainty in microseconds",
        lambda text: re.fullmatch(r"-?[0-9]{1,15},[0-9]{1,15}", text) is not None,
    ),
)
