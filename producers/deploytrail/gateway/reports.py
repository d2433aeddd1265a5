"""POST /v1/{kind}: records in our own JSON or as a form, one or a list; accepted whole or not at all."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any

from deploytrail_schemas.counted import counted
from deploytrail_schemas.ids import uuid7
from deploytrail_schemas.json_values import JsonError
from deploytrail_schemas.records import RecordType
from deploytrail_schemas.scopes import completed
from starlette.requests import Request
from starlette.responses import Response

from deploytrail import _reported
from deploytrail._reported import FORM, JSON, media_type
from deploytrail.gateway.acceptance import Acceptance
from deploytrail.gateway.bodies import body_of, unreadable
from deploytrail.gateway.callers import Callers
from deploytrail.gateway.problems import Problem


class Reports:
    """Handlers of the kinds of record that can be reported."""

    def __init__(self, callers: Callers, acceptance: Acceptance) -> None:
        self._callers = callers
        self._acceptance = acceptance

    def of(self, kind: RecordType) -> Callable[[Request], Awaitable[Response]]:
        """The handler of one kind."""
        id_field = kind.id_field

        async def handle(request: Request) -> Response:
            caller = await self._callers.of_report(request)
            called = media_type(request.headers.get("content-type", ""))
            if called not in (JSON, FORM):
                raise Problem(415, f"Content-Type is {called!r}; expected {JSON} or {FORM}")
            body = await body_of(request)
            received_at = time.time_ns() // 1000
            producer = f"http:{request.client.host if request.client else 'unknown'}"

            def complete(given: dict[str, Any]) -> dict[str, Any]:
                """What a caller may leave out: the id, the time, who it is, and a place that its credential fixes."""
                value = given.copy()
                if id_field not in value:
                    value[id_field] = uuid7()
                value.setdefault("occurred_at", received_at)
                value.setdefault("producer_id", producer)
                return completed(caller.scope, value)

            try:
                values, wrong = _reported.check(kind, _reported.read(kind, called, body), complete)
            except JsonError as error:
                raise unreadable(error) from error
            if wrong:
                raise Problem(422, f"{counted(len(wrong), 'violation')}; nothing was accepted", wrong)
            return await self._acceptance.accept(request, [(kind, value) for value in values], received_at, caller)

        return handle
