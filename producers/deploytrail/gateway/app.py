"""The gateway as an ASGI app. 202 means: durable. Whatever is not accepted is said why."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Awaitable, Callable, Sequence

from deploytrail_schemas.settings import Settings
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from deploytrail._reported import KINDS
from deploytrail.gateway import metrics
from deploytrail.gateway.acceptance import Acceptance
from deploytrail.gateway.callers import Callers
from deploytrail.gateway.deliveries import Deliveries
from deploytrail.gateway.openapi import DOCUMENT, document
from deploytrail.gateway.problems import Problem, Refused, answer
from deploytrail.gateway.publisher import Publisher
from deploytrail.gateway.refusals import Attempt, Refusals
from deploytrail.gateway.reports import Reports
from deploytrail.gateway.uploads import Uploads
from deploytrail.gateway.webhooks import Webhooks
from deploytrail.gateway.workers import METRICS_FOLDER

Handler = Callable[[Request], Awaitable[Response]]


def create_app(settings: Settings, publisher: Publisher, deliveries: Deliveries | None = None) -> Starlette:
    """The app over a publisher; without `deliveries` it remembers those of its own."""
    deliveries = deliveries or Deliveries(publisher)
    callers, acceptance = Callers(settings), Acceptance(settings, publisher)
    reports, webhooks = Reports(callers, acceptance), Webhooks(callers, acceptance, deliveries)
    uploads = Uploads(settings, callers, acceptance)
    refusals = Refusals(settings, acceptance.store_signals)

    async def readyz(_: Request) -> Response:
        found = await publisher.readiness()
        if found.ready and found.kafka and not deliveries.is_read:
            return PlainTextResponse("the memory of deliveries is not read to its end yet\n", 503)
        return PlainTextResponse(f"{found.says}\n", 200 if found.ready else 503)

    routes = [
        *(_post(f"/v1/{path}", reports.of(kind), refusals) for path, kind in KINDS.items()),
        _post("/v1/csv/{map}", uploads.handle, refusals),
        _post("/webhooks/{source}", webhooks.handle, refusals),
        Route("/healthz", _healthz),
        Route("/readyz", readyz),
        Route("/metrics", _metrics),
        Route(DOCUMENT, _described(uploads.maps)),
    ]
    app = Starlette(routes=routes, exception_handlers={404: _not_found, 405: _not_found})
    app.state.refusals = refusals
    return app


def _post(path: str, handle: Handler, refusals: Refusals) -> Route:
    """Problems become answers, every answer is counted, every refusal recorded behind its answer."""

    async def guarded(request: Request) -> Response:
        began = time.perf_counter()
        try:
            response = await handle(request)
        except Problem as problem:
            response = answer(problem)
            if isinstance(problem, Refused):
                response.background = BackgroundTask(refusals.note, _attempt(request, problem))
        metrics.REQUESTS.labels(path, str(response.status_code)).inc()
        metrics.SECONDS.labels(path).observe(time.perf_counter() - began)
        return response

    return Route(path, guarded, methods=["POST"])


def _attempt(request: Request, refused: Refused) -> Attempt:
    remote = request.client.host if request.client else "unknown"
    return Attempt(refused.reason, remote, request.url.path, refused.caller, refused.tried)


async def _healthz(_: Request) -> Response:
    return PlainTextResponse("ok\n")


async def _metrics(_: Request) -> Response:
    """What this process counted, or all workers of the gateway together."""
    from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, generate_latest
    from prometheus_client.multiprocess import MultiProcessCollector

    registry = REGISTRY
    if METRICS_FOLDER in os.environ:
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]  # untyped there
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)


def _described(csv_maps: Sequence[str]) -> Handler:
    """Made at the first request: few ask."""
    made: list[bytes] = []

    async def describe(_: Request) -> Response:
        made[:] = made or [json.dumps(document(csv_maps), ensure_ascii=False).encode()]
        return Response(made[0], media_type="application/json")

    return describe


async def _not_found(request: Request, error: Exception) -> Response:
    status = int(getattr(error, "status_code", 404))
    said = f"{request.method} {request.url.path} is not served here; GET /openapi.json tells what is"
    return answer(Problem(status, said, headers=dict(getattr(error, "headers", None) or {})))
