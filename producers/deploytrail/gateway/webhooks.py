"""POST /webhooks/{source}: other people's payloads, read by their adapters."""

from __future__ import annotations

import time
from typing import Any
from urllib.parse import parse_qs

from deploytrail_schemas.scopes import PLACES, completed
from starlette.requests import Request
from starlette.responses import Response

from deploytrail import adapters
from deploytrail._reported import FORM, media_type
from deploytrail.adapters.base import AdapterError, Defaults
from deploytrail.gateway.acceptance import Acceptance, accepted
from deploytrail.gateway.bodies import body_of, parsed
from deploytrail.gateway.callers import Callers
from deploytrail.gateway.problems import Problem


class Webhooks:
    """One handler for every source."""

    def __init__(self, callers: Callers, acceptance: Acceptance) -> None:
        self._callers = callers
        self._acceptance = acceptance

    async def handle(self, request: Request) -> Response:
        """Return 202, with the reason where a delivery says nothing of a deployment. The type of the body does not
        matter: sources call their JSON what they like."""
        name = request.path_params["source"]
        try:
            source = adapters.load(name)
        except KeyError:
            raise Problem(404, f"there is no source {name!r}; there are {', '.join(adapters.names())}") from None
        body = await body_of(request)
        headers = dict(request.headers.items())
        caller = await self._callers.of_delivery(source, body, request)
        received_at = time.time_ns() // 1000
        said = request.query_params
        options = {name: said[name] for name in source.options if name in said}
        places = completed(caller.scope, {n: said.get(n, "") for n in PLACES})
        defaults = Defaults(**places, options=options)
        try:
            adapted = source.adapt(_payload(request, body), headers, defaults, received_at)
        except AdapterError as error:
            raise Problem(422, str(error)) from error
        if not adapted.records:
            return accepted([], received_at, ignored=adapted.ignored)
        return await self._acceptance.accept(request, adapted.records, received_at, caller)


def _payload(request: Request, body: bytes) -> Any:
    """GitHub and others can be set to send their JSON as the field `payload` of a form."""
    if media_type(request.headers.get("content-type", "")) == FORM:
        fields = parse_qs(body.decode("utf-8", "replace"), max_num_fields=100)
        if "payload" in fields:
            return parsed(fields["payload"][0].encode())
    return parsed(body)
