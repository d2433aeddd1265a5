"""POST /v1/{kind}: records in our own JSON, one object or a list; accepted whole or not at all."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qsl

from deploytrail_schemas.ids import uuid7
from deploytrail_schemas.json_values import Violation, validate
from deploytrail_schemas.records import RecordType
from deploytrail_schemas.scopes import completed
from deploytrail_schemas.text_values import from_texts
from starlette.requests import Request
from starlette.responses import Response

from deploytrail.gateway.acceptance import Acceptance
from deploytrail.gateway.bodies import FORM, JSON, body_of, media_type, parsed
from deploytrail.gateway.callers import Caller, Callers
from deploytrail.gateway.problems import Problem

MAX_RECORDS = 10_000
MAX_FIELDS = 200
# A form is typed by hand or glued together in a shell: a little less sure than what a library sends.
FORM_CONFIDENCE = 0.9
KINDS = {
    "events": RecordType.DEPLOYMENT_EVENT,
    "signals": RecordType.SIGNAL,
    "approvals": RecordType.APPROVAL,
    "observations": RecordType.OBSERVATION,
}


class Reports:
    """Handlers of the kinds of record that can be reported."""

    def __init__(self, callers: Callers, acceptance: Acceptance) -> None:
        self._callers = callers
        self._acceptance = acceptance

    def of(self, kind: RecordType) -> Callable[[Request], Awaitable[Response]]:
        """The handler of one kind."""

        async def handle(request: Request) -> Response:
            caller = await self._callers.of_report(request)
            payload = await _payload(kind, request)
            received_at = time.time_ns() // 1000
            many = payload if isinstance(payload, list) else [payload]
            if len(many) > MAX_RECORDS:
                raise Problem(413, f"{len(many)} records; one request may carry {MAX_RECORDS}")
            records: list[tuple[RecordType, dict[str, Any]]] = []
            wrong: list[Violation] = []
            for index, given in enumerate(many):
                value, violations = validate(kind, _completed(kind, given, received_at, request, caller))
                prefix = f"/{index}" if isinstance(payload, list) else ""
                wrong.extend(Violation(prefix + v.pointer, v.detail) for v in violations)
                records.append((kind, value))
            if wrong:
                raise Problem(422, f"{len(wrong)} violations; nothing was accepted", wrong)
            return await self._acceptance.accept(request, records, received_at, caller)

        return handle


async def _payload(kind: RecordType, request: Request) -> Any:
    """What is reported: JSON, or the fields of a form, as `curl -d name=value` sends them."""
    called = media_type(request)
    if called not in (JSON, FORM):
        raise Problem(415, f"Content-Type is {called!r}; expected {JSON} or {FORM}")
    body = await body_of(request)
    # curl calls whatever -d sends a form, unless it is told otherwise.
    if called == JSON or body.lstrip()[:1] in (b"{", b"["):
        return parsed(body)
    try:
        pairs = parse_qsl(body.decode("utf-8"), keep_blank_values=True, max_num_fields=MAX_FIELDS)
    except ValueError as error:
        raise Problem(400, f"the form cannot be read: {error}") from error
    return (
        {"confidence": FORM_CONFIDENCE} | from_texts(kind, pairs)
        if kind is RecordType.DEPLOYMENT_EVENT
        else from_texts(kind, pairs)
    )


def _completed(kind: RecordType, given: Any, received_at: int, request: Request, caller: Caller) -> Any:
    """What a caller may leave out: the id, the time, who it is, and a place that its credential fixes."""
    if not isinstance(given, dict):
        return given
    host = request.client.host if request.client else "unknown"
    usual = {kind.id_field: uuid7(), "occurred_at": received_at, "producer_id": f"http:{host}"}
    return completed(caller.scope, {**usual, **given})
