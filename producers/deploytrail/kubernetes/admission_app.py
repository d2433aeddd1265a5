"""The admission webhook as an ASGI app: AdmissionReview in and out. Recording never delays an answer."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from deploytrail_schemas.json_values import JsonError, parse_json
from deploytrail_schemas.permits import LEEWAY_SECONDS
from deploytrail_schemas.reasons import PermitRefusal
from deploytrail_schemas.records import RecordType
from prometheus_client import CONTENT_TYPE_LATEST, Counter, Histogram, generate_latest
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from deploytrail.adapters.base import mapping, text
from deploytrail.kubernetes.admission import REVIEW, AdmissionPolicy, AdmissionVerdict, answer, decide, record_of
from deploytrail.kubernetes.admission_keys import Keys

# An object has at most 1.5 MiB in etcd; a review brings the old one too.
_MOST_BYTES = 8 << 20
REQUESTS = Counter(
    "deploytrail_admission_requests_total", "Requests by whether they were allowed, and why.", ["allowed", "reason"]
)
SECONDS = Histogram("deploytrail_admission_seconds", "Time to answer.")

Put = Callable[[RecordType, dict[str, Any]], None]


class Admission:
    """Answers reviews. The keys of now stand in the policy's place for them; `put` takes records without waiting."""

    def __init__(self, keys: Keys, policy: AdmissionPolicy, put: Put) -> None:
        self._keys, self._policy, self._put = keys, policy, put
        self._uses: dict[tuple[str, str], tuple[int, int]] = {}  # … → generation, when the permit expires

    def app(self) -> Starlette:
        """`/regulated` fails closed, `/unregulated` open; two webhooks of one configuration call them."""
        return Starlette(
            routes=[
                Route("/regulated", self._handler(regulated=True), methods=["POST"]),
                Route("/unregulated", self._handler(regulated=False), methods=["POST"]),
                Route("/healthz", _healthz),
                Route("/readyz", self._readyz),
                Route("/metrics", _metrics),
            ]
        )

    def judge(self, request: Mapping[str, Any], *, regulated: bool) -> AdmissionVerdict:
        """The verdict over a request; it remembers and records what is to be."""
        now = time.time()
        policy = replace(self._policy, authority=self._keys.authority)
        self._uses = {key: use for key, use in self._uses.items() if use[1] + LEEWAY_SECONDS > now}
        used = {key: generation for key, (generation, _) in self._uses.items()}
        verdict = decide(request, policy, regulated=regulated, now=now, used=used)
        if verdict.use is not None and verdict.permit is not None:
            key, generation = verdict.use
            self._uses[key] = (generation, verdict.permit.expires_at)
        record = record_of(request, verdict, policy, int(now * 1_000_000))
        if record is not None:
            self._put(RecordType.APPROVAL, record)
        REQUESTS.labels(str(verdict.allowed).lower(), verdict.reason.value).inc()
        return verdict

    def _handler(self, *, regulated: bool) -> Callable[[Request], Any]:
        async def handle(request: Request) -> Response:
            with SECONDS.time():
                asked = await _request_of(request)
                if asked is None:
                    # No AdmissionReview: Kubernetes does what the webhook's failurePolicy says.
                    return PlainTextResponse(f"expected an AdmissionReview of {REVIEW}\n", 400)
                verdict = self.judge(asked, regulated=regulated)
            # Behind the answer: the next try finds a key that the gate has just begun to use.
            unknown = any(problem.reason is PermitRefusal.UNKNOWN_KEY for problem in verdict.problems)
            renew = BackgroundTask(self._keys.renew) if unknown and self._keys.is_due(wanted=True) else None
            return JSONResponse(answer(asked, verdict), background=renew)

        return handle

    async def _readyz(self, _: Request) -> Response:
        if self._keys.authority is None:
            return PlainTextResponse("the keys of the gate cannot be had\n", 503)
        return PlainTextResponse("ready\n")


async def _request_of(request: Request) -> Mapping[str, Any] | None:
    data = bytearray()
    try:
        async for chunk in request.stream():
            data += chunk
            if len(data) > _MOST_BYTES:
                return None
    except ClientDisconnect:
        return None
    try:
        review = parse_json(bytes(data), _MOST_BYTES)
    except JsonError:
        return None
    if text(review, "apiVersion") != REVIEW or text(review, "kind") != "AdmissionReview":
        return None
    asked = mapping(review, "request")
    return asked if text(asked, "uid") else None


async def _healthz(_: Request) -> Response:
    return PlainTextResponse("ok\n")


async def _metrics(_: Request) -> Response:
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)
