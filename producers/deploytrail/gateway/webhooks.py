"""POST /webhooks/{source}: other people's payloads, read by their adapters."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs, urlencode

from deploytrail_schemas.scopes import PLACES, completed
from starlette.requests import Request
from starlette.responses import Response

from deploytrail import adapters
from deploytrail._reported import FORM, media_type
from deploytrail.adapters.base import AdapterError, Defaults
from deploytrail.gateway import metrics
from deploytrail.gateway.acceptance import Acceptance, accepted
from deploytrail.gateway.bodies import body_of, parsed
from deploytrail.gateway.callers import Callers
from deploytrail.gateway.deliveries import Deliveries, keys_of
from deploytrail.gateway.problems import Problem

_MOST_FIELDS = 100


class Webhooks:
    """One handler for every source."""

    def __init__(self, callers: Callers, acceptance: Acceptance, deliveries: Deliveries) -> None:
        self._callers = callers
        self._acceptance = acceptance
        self._deliveries = deliveries

    async def handle(self, request: Request) -> Response:
        """Return 202, with the reason where a delivery says nothing of a deployment, and with `repeated` where it was
        accepted before. The type of the body does not matter: sources call their JSON what they like."""
        name = request.path_params["source"]
        try:
            source = adapters.load(name)
        except KeyError:
            raise Problem(404, f"there is no source {name!r}; there are {', '.join(adapters.names())}") from None
        body = await body_of(request)
        # Of a header that stands twice the first counts, here as where the signature is checked.
        headers = dict(reversed(request.headers.items()))
        caller = await self._callers.of_delivery(source, body, request)
        received_at = time.time_ns() // 1000
        if done := await self._callers.answered(source, body, request):
            return accepted([], received_at, ignored=done)
        said = request.query_params
        told = {n: said[n] for n in (*PLACES, *source.options) if n in said}
        options = {name: told[name] for name in source.options if name in told}
        places = completed(caller.scope, {n: told.get(n, "") for n in PLACES})
        defaults = Defaults(**places, options=options)
        payload = _payload(request, body)
        try:
            adapted = source.adapt(payload, headers, defaults, received_at)
        except AdapterError as error:
            raise Problem(422, str(error)) from error
        if not adapted.records:
            return accepted([], received_at, ignored=adapted.ignored)
        keys = keys_of(source, caller.name, _spelt(told), headers, body, payload)
        stored = await self._deliveries.once(
            keys, lambda: self._acceptance.accept(request, adapted.records, received_at, caller)
        )
        if stored is None:
            metrics.REPEATED.labels(source.name).inc()
            return accepted([], received_at, repeated=True)
        return stored


def _payload(request: Request, body: bytes) -> Any:
    """GitHub and others can be set to send their JSON as the field `payload` of a form."""
    if media_type(request.headers.get("content-type", "")) == FORM:
        try:
            fields = parse_qs(body.decode("utf-8", "replace"), max_num_fields=_MOST_FIELDS)
        except ValueError as error:
            raise Problem(400, f"the form cannot be read: {error}") from error
        if "payload" in fields:
            return parsed(fields["payload"][0].encode())
    return parsed(body)


def _spelt(told: Mapping[str, str]) -> str:
    """What a query says, in one spelling."""
    return urlencode(sorted((name, text) for name, text in told.items() if text))
