"""POST /v1/{kind}: records in our own JSON, one object or a list; accepted whole or not at all."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any

from deploytrail_schemas.ids import uuid7
from deploytrail_schemas.json_values import Violation, validate
from deploytrail_schemas.records import RecordType
from starlette.requests import Request
from starlette.responses import Response

from deploytrail.gateway.acceptance import Acceptance
from deploytrail.gateway.bodies import JSON, body_of, media_type, parsed
from deploytrail.gateway.callers import Callers
from deploytrail.gateway.problems import Problem

MAX_RECORDS = 10_000
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
            caller = self._callers.of_report(request.headers)
            if media_type(request) != JSON:
                raise Problem(415, f"Content-Type is {media_type(request)!r}; expected {JSON}")
            payload = parsed(await body_of(request))
            received_at = time.time_ns() // 1000
            many = payload if isinstance(payload, list) else [payload]
            if len(many) > MAX_RECORDS:
                raise Problem(413, f"{len(many)} records; one request may carry {MAX_RECORDS}")
            records: list[tuple[RecordType, dict[str, Any]]] = []
            wrong: list[Violation] = []
            for index, given in enumerate(many):
                value, violations = validate(kind, _completed(kind, given, received_at, request))
                prefix = f"/{index}" if isinstance(payload, list) else ""
                wrong.extend(Violation(prefix + v.pointer, v.detail) for v in violations)
                records.append((kind, value))
            if wrong:
                raise Problem(422, f"{len(wrong)} violations; nothing was accepted", wrong)
            return await self._acceptance.accept(request, records, received_at, caller)

        return handle


def _completed(kind: RecordType, given: Any, received_at: int, request: Request) -> Any:
    """What a caller may leave out: the id, the time, who it is."""
    if not isinstance(given, dict):
        return given
    host = request.client.host if request.client else "unknown"
    usual = {kind.id_field: uuid7(), "occurred_at": received_at, "producer_id": f"http:{host}"}
    return {**usual, **given}
