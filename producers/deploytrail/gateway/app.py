"""The gateway as an ASGI app. 202 means: durable in Kafka. Whatever is not accepted is said why."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

from deploytrail_schemas.settings import Settings
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from deploytrail._reported import KINDS
from deploytrail.gateway import metrics
from deploytrail.gateway.acceptance import Acceptance
from deploytrail.gateway.callers import Callers
from deploytrail.gateway.problems import Problem, answer
from deploytrail.gateway.publisher import Publisher
from deploytrail.gateway.reports import Reports
from deploytrail.gateway.uploads import Uploads
from deploytrail.gateway.webhooks import Webhooks

Handler = Callable[[Request], Awaitable[Response]]


def create_app(settings: Settings, publisher: Publisher) -> Starlette:
    """The app over a publisher."""
    callers, acceptance = Callers(settings), Acceptance(settings, publisher)
    reports, webhooks = Reports(callers, acceptance), Webhooks(callers, acceptance)

    async def readyz(_: Request) -> Response:
        ready = await publisher.is_ready()
        return PlainTextResponse("ready\n" if ready else "Kafka does not answer\n", 200 if ready else 503)

    routes = [
        *(_post(f"/v1/{path}", reports.of(kind)) for path, kind in KINDS.items()),
        _post("/v1/csv/{map}", Uploads(settings, callers, acceptance).handle),
        _post("/webhooks/{source}", webhooks.handle),
        Route("/healthz", _healthz),
        Route("/readyz", readyz),
        Route("/metrics", _metrics),
    ]
    return Starlette(routes=routes, exception_handlers={404: _not_found, 405: _not_found})


def _post(path: str, handle: Handler) -> Route:
    """Problems become answers, and every answer is counted."""

    async def guarded(request: Request) -> Response:
        began = time.perf_counter()
        try:
            response = await handle(request)
        except Problem as problem:
            response = answer(problem)
        metrics.REQUESTS.labels(path, str(response.status_code)).inc()
        metrics.SECONDS.labels(path).observe(time.perf_counter() - began)
        return response

    return Route(path, guarded, methods=["POST"])


async def _healthz(_: Request) -> Response:
    return PlainTextResponse("ok\n")


async def _metrics(_: Request) -> Response:
    from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)


async def _not_found(request: Request, error: Exception) -> Response:
    status = int(getattr(error, "status_code", 404))
    return answer(Problem(status, f"{request.method} {request.url.path} is not served here"))
