"""The gateway as an ASGI app. 202 means: durable in Kafka. Whatever is not accepted is said why."""

from __future__ import annotations

import gzip
import io
import time
import zlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from deploytrail_schemas import headers as names
from deploytrail_schemas.codec import MAX_MESSAGE_BYTES, encode
from deploytrail_schemas.errors import EncodeError, RetryLater
from deploytrail_schemas.ids import uuid7
from deploytrail_schemas.instants import check_range
from deploytrail_schemas.json_values import JsonError, Violation, parse_json, validate
from deploytrail_schemas.records import RecordType
from deploytrail_schemas.regions import RegionMap
from deploytrail_schemas.settings import Settings
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from deploytrail.adapters import alertmanager, cdevents, github
from deploytrail.adapters.base import Adapted, AdapterError, Defaults
from deploytrail.gateway import metrics, signatures
from deploytrail.gateway.problems import Problem, answer
from deploytrail.gateway.publisher import Busy, Outgoing, Publisher

MAX_BODY_BYTES = 16 << 20
MAX_RECORDS = 10_000
_RETRY = {"Retry-After": "2"}
Records = list[tuple[RecordType, dict[str, Any]]]
Handler = Callable[[Request], Awaitable[Response]]
Adapter = Callable[[Any, Mapping[str, str], Defaults, int], Adapted]


def create_app(settings: Settings, publisher: Publisher) -> Starlette:
    """The app over a publisher."""
    gateway = Gateway(settings, publisher)
    routes = [
        *(
            Route(f"/v1/{path}", _guarded(f"/v1/{path}", gateway.reported(kind)), methods=["POST"])
            for path, kind in (
                ("events", RecordType.DEPLOYMENT_EVENT),
                ("signals", RecordType.SIGNAL),
                ("approvals", RecordType.APPROVAL),
                ("observations", RecordType.OBSERVATION),
            )
        ),
        Route("/webhooks/github", _guarded("/webhooks/github", gateway.github), methods=["POST"]),
        Route("/webhooks/cdevents", _guarded("/webhooks/cdevents", gateway.cdevents), methods=["POST"]),
        Route("/webhooks/alertmanager", _guarded("/webhooks/alertmanager", gateway.alertmanager), methods=["POST"]),
        Route("/healthz", _healthz),
        Route("/readyz", gateway.readyz),
        Route("/metrics", _metrics),
    ]
    return Starlette(routes=routes, exception_handlers={404: _not_found, 405: _not_found})


class Gateway:
    """Reads requests, and hands records to the publisher."""

    def __init__(self, settings: Settings, publisher: Publisher) -> None:
        self._publisher = publisher
        self._regions = RegionMap.from_settings(settings)
        self._github = signatures.secrets_of(settings.github_secret)
        self._cdevents = signatures.secrets_of(settings.cdevents_secret)
        self._alertmanager = signatures.secrets_of(settings.alertmanager_token)
        self._tokens = signatures.secrets_of(settings.token)
        for secret in self._cdevents:
            signatures.key_of(secret)  # a secret that signs nothing is refused at the start

    def reported(self, kind: RecordType) -> Handler:
        """The handler of records in our own JSON: one object or a list."""

        async def handle(request: Request) -> Response:
            if self._tokens and not signatures.is_bearer(_lower(request), self._tokens):
                raise Problem(401, "the bearer token is missing or wrong", headers={"WWW-Authenticate": "Bearer"})
            payload = _parse(await _body(request))
            received_at = _now()
            many = payload if isinstance(payload, list) else [payload]
            if len(many) > MAX_RECORDS:
                raise Problem(413, f"{len(many)} records; one request may carry {MAX_RECORDS}")
            records: Records = []
            wrong: list[Violation] = []
            for index, given in enumerate(many):
                value, violations = validate(kind, _completed(kind, given, received_at, request))
                prefix = f"/{index}" if isinstance(payload, list) else ""
                wrong.extend(Violation(prefix + v.pointer, v.detail) for v in violations)
                records.append((kind, value))
            if wrong:
                raise Problem(422, f"{len(wrong)} violations; nothing was accepted", wrong)
            who = "token" if self._tokens else "anonymous"
            return await self._accept(request, records, received_at, who)

        return handle

    async def github(self, request: Request) -> Response:
        """POST /webhooks/github."""
        body = await _body(request)
        if self._github and not signatures.is_github(body, _lower(request), self._github):
            raise Problem(401, "X-Hub-Signature-256 is missing or does not fit the body")
        return await self._adapt(request, body, github.adapt, "github")

    async def cdevents(self, request: Request) -> Response:
        """POST /webhooks/cdevents."""
        body = await _body(request)
        if self._cdevents and not signatures.is_standard_webhook(
            body, _lower(request), self._cdevents, now=time.time()
        ):
            raise Problem(401, "the Standard Webhooks signature is missing, too old, or does not fit the body")
        return await self._adapt(request, body, cdevents.adapt, "cdevents")

    async def alertmanager(self, request: Request) -> Response:
        """POST /webhooks/alertmanager."""
        if self._alertmanager and not signatures.is_bearer(_lower(request), self._alertmanager):
            raise Problem(401, "the bearer token is missing or wrong", headers={"WWW-Authenticate": "Bearer"})
        return await self._adapt(request, await _body(request), alertmanager.adapt, "alertmanager")

    async def readyz(self, _: Request) -> Response:
        """GET /readyz."""
        ready = await self._publisher.is_ready()
        return PlainTextResponse("ready\n" if ready else "Kafka does not answer\n", 200 if ready else 503)

    async def _adapt(self, request: Request, body: bytes, adapt: Adapter, source: str) -> Response:
        payload = _parse(body)
        received_at = _now()
        defaults = Defaults(**{n: request.query_params.get(n, "") for n in ("region", "environment", "service")})
        try:
            adapted = adapt(payload, _lower(request), defaults, received_at)
        except AdapterError as error:
            raise Problem(422, str(error)) from error
        if not adapted.records:
            return _accepted([], received_at, adapted.ignored)
        return await self._accept(request, list(adapted.records), received_at, f"webhook:{source}")

    async def _accept(self, request: Request, records: Records, received_at: int, reporter: str) -> Response:
        given = _record_headers(request, received_at, reporter)
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
            partition = self._regions.partition_of(value["region"])
            outgoing.append(Outgoing(partition, value["producer_id"].encode(), data, given))
        if wrong:
            raise Problem(422, f"{len(wrong)} records cannot be stored; nothing was accepted", wrong)
        try:
            await self._publisher.publish(outgoing)
        except Busy as error:
            raise Problem(429, str(error), headers=_RETRY) from error
        except RetryLater as error:
            raise Problem(503, f"{error}; send it again", headers=_RETRY) from error
        for kind, _ in records:
            metrics.RECORDS.labels(kind.value).inc()
        return _accepted([value[kind.id_field] for kind, value in records], received_at)


def _completed(kind: RecordType, given: Any, received_at: int, request: Request) -> Any:
    """What a caller may leave out: the id, the time, who it is."""
    if not isinstance(given, dict):
        return given
    host = request.client.host if request.client else "unknown"
    usual = {kind.id_field: uuid7(), "occurred_at": received_at, "producer_id": f"http:{host}"}
    return {**usual, **given}


def _record_headers(request: Request, received_at: int, reporter: str) -> tuple[tuple[str, bytes], ...]:
    found = [(names.RECEIVED_AT, str(received_at).encode()), (names.REPORTER, reporter.encode())]
    wrong: list[Violation] = []
    sent_at = request.headers.get(names.HTTP_SENT_AT)
    if sent_at is not None:
        if _are_instants(sent_at, 1):
            found.append((names.SENT_AT, sent_at.encode()))
        else:
            wrong.append(Violation("", f"the header {names.HTTP_SENT_AT} is {sent_at!r}; expected microseconds"))
    echo = request.headers.get(names.HTTP_ECHO)
    if echo is not None:
        if _are_instants(echo, 3):
            found.append((names.ECHO, echo.encode()))
        else:
            wrong.append(
                Violation("", f"the header {names.HTTP_ECHO} is {echo!r}; expected sent,received,acknowledged")
            )
    if wrong:
        raise Problem(400, "a header is wrong; nothing was accepted", wrong)
    return tuple(found)


def _are_instants(text: str, count: int) -> bool:
    parts = text.split(",")
    try:
        return len(parts) == count and all(len(p) < 20 and bool(check_range(int(p))) for p in parts)
    except ValueError:
        return False


async def _body(request: Request) -> bytes:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in ("application/json", "application/cloudevents+json", "") and not kind.endswith("+json"):
        raise Problem(415, f"Content-Type is {kind!r}; expected application/json")
    data = bytearray()
    async for chunk in request.stream():
        data += chunk
        if len(data) > MAX_BODY_BYTES:
            raise Problem(413, f"the body has more than {MAX_BODY_BYTES} bytes")
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding in ("identity", ""):
        return bytes(data)
    if encoding != "gzip":
        raise Problem(415, f"Content-Encoding is {encoding!r}; expected gzip or none")
    try:
        plain = gzip.GzipFile(fileobj=io.BytesIO(data)).read(MAX_BODY_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise Problem(400, f"the body is no gzip: {error}") from error
    if len(plain) > MAX_BODY_BYTES:
        raise Problem(413, f"the body has more than {MAX_BODY_BYTES} bytes once unpacked")
    return plain


def _parse(body: bytes) -> Any:
    try:
        return parse_json(body, MAX_BODY_BYTES)
    except JsonError as error:
        raise Problem(413 if error.too_large else 400, error.detail) from error


def _accepted(ids: list[str], received_at: int, ignored: str = "") -> Response:
    body: dict[str, Any] = {"accepted": len(ids), "received_at": received_at, "ids": ids}
    return JSONResponse(body | ({"ignored": ignored} if ignored else {}), 202)


def _guarded(route: str, handle: Handler) -> Handler:
    """Problems become answers, and every answer is counted."""

    async def guarded(request: Request) -> Response:
        began = time.perf_counter()
        try:
            response = await handle(request)
        except Problem as problem:
            response = answer(problem)
        metrics.REQUESTS.labels(route, str(response.status_code)).inc()
        metrics.SECONDS.labels(route).observe(time.perf_counter() - began)
        return response

    return guarded


def _lower(request: Request) -> Mapping[str, str]:
    return dict(request.headers.items())


def _now() -> int:
    return time.time_ns() // 1000


async def _healthz(_: Request) -> Response:
    return PlainTextResponse("ok\n")


async def _metrics(_: Request) -> Response:
    from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)


async def _not_found(request: Request, error: Exception) -> Response:
    status = int(getattr(error, "status_code", 404))
    return answer(Problem(status, f"{request.method} {request.url.path} is not served here"))
