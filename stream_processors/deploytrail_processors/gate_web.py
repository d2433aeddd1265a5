"""The gate's HTTP: POST /v1/permits, GET /v1/windows, GET /v1/keys. What is no clear yes is a problem (RFC 9457).

200: a permit. 403: refused or uncertain, with every reason. 503 with Retry-After: nobody can tell now. A question
about a region that another worker owns is passed on to it once.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
from aiohttp import web
from deploytrail_schemas.credential_file import CredentialFile
from deploytrail_schemas.credentials import Credential, authenticate
from deploytrail_schemas.errors import DeploytrailError, RetryLater
from deploytrail_schemas.instants import format_instant, parse_instant
from deploytrail_schemas.json_values import JsonError, parse_json
from deploytrail_schemas.scopes import EVERYTHING, PLACES, Scope, Verb, matches
from deploytrail_schemas.settings import Settings

from deploytrail_processors import metrics, zones
from deploytrail_processors.rules import aliases, change_window
from deploytrail_processors.rules.approval_steps import Asked

if TYPE_CHECKING:
    from deploytrail_processors.apps.gate import Gate

log = logging.getLogger(__name__)
HOP = "Deploytrail-Hop"
MOST_BYTES = 16 << 10
RETRY_AFTER_SECONDS = 2
FORWARD_SECONDS = 10.0
REQUIRED = ("deployment_id", "service", "environment", "region", "artifact_digest")
ACCEPTED = (*REQUIRED, "kind", "deployer")
_LONGEST = 512
# A proxy on this host makes the whole world look local, and a browser posts wherever a page tells it to.
_FROM_ELSEWHERE = (
    *("Forwarded", "Via", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Real-IP", "X-Client-IP"),
    *("CF-Connecting-IP", "True-Client-IP", "X-Envoy-External-Address", "Origin", "Sec-Fetch-Site"),
)


class Refused(DeploytrailError):
    """A request that is answered with a problem."""

    def __init__(self, status: int, detail: str, answer: str = "invalid", **more: Any) -> None:
        super().__init__(detail)
        self.status, self.detail, self.answer, self.more = status, detail, answer, more


class GateWeb:
    """The server of one worker."""

    def __init__(self, gate: Gate, settings: Settings) -> None:
        self._gate, self._settings = gate, settings
        self._credentials = CredentialFile(Path(settings.credentials)) if settings.credentials else None
        self._session: aiohttp.ClientSession | None = None

    async def start(self) -> None:
        """Listen. OSError where the port is taken."""
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=FORWARD_SECONDS), auto_decompress=False
        )
        server = web.Application(client_max_size=MOST_BYTES)
        server.add_routes(
            [
                web.post("/v1/permits", _answering(self.permits)),
                web.get("/v1/windows", _answering(self.windows)),
                web.get("/v1/keys", self.keys),
                web.get("/.well-known/jwks.json", self.keys),
            ]
        )
        runner = web.AppRunner(server, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, self._settings.gate_host, self._settings.gate_port).start()

    async def keys(self, _: web.Request) -> web.Response:
        """The public keys, as a JWKS."""
        return web.json_response(self._gate.keys.published(), headers={"Cache-Control": "max-age=60"})

    async def windows(self, request: web.Request) -> web.Response:
        """Whether a service may change at an instant (default: now), when it may next, and until when."""
        given = dict(request.query)
        unknown = sorted(given.keys() - {*PLACES, "team", "tier", "kind", "at"})
        if unknown or not given.get("service"):
            raise Refused(400, f"unknown parameters: {', '.join(unknown)}" if unknown else "which service?")
        try:
            at = parse_instant(given.pop("at")) if "at" in given else _now()
        except ValueError as error:
            raise Refused(400, f"at: {error}") from None
        policies = self._gate.policies_at(at)
        named = _canonical(given, policies)
        service = policies.service(named["service"])
        subject = {name: named.get(name, "") for name in (*PLACES, "kind")}
        subject |= {"team": service.team or given.get("team", ""), "tier": service.tier or given.get("tier", "")}
        found = change_window.judge(subject, policies, at=at, uncertainty=0)
        return web.json_response(
            {
                "at": format_instant(at),
                "position": found.position.value,
                "reason": found.reason.value,
                "next_open": _instant(found.next_open),
                "next_close": _instant(found.next_close),
                "policies": list(found.documents),
                "tzdata": zones.VERSION,
            }
        )

    async def permits(self, request: web.Request) -> web.Response:
        """A permit, or why there is none."""
        began = time.monotonic()
        try:
            body = await request.read()
            caller, scope = self._caller(request)
            asked = _asked(body, scope, self._gate.policies_at(_now()))
            partition = self._gate.regions.partition_of(asked.region)
            if not self._gate.owns(partition):
                return await self._pass_on(request, body, partition)
            return await self._answer(asked, partition, caller)
        except Refused as problem:
            metrics.GATE_ANSWERS.labels(problem.answer).inc()
            raise
        except RetryLater:
            metrics.GATE_ANSWERS.labels("away").inc()
            raise
        finally:
            metrics.GATE_SECONDS.observe(time.monotonic() - began)

    async def _answer(self, asked: Asked, partition: int, caller: str) -> web.Response:
        await self._gate.catch_up(partition)
        now = _now()
        judgement = self._gate.judge(partition, asked, now)
        verdict = judgement.position.value
        said = {
            "verdict": verdict,
            "reason": judgement.reason.value,
            "policies": list(judgement.documents),
            "tzdata": zones.VERSION,  # with the policies, what recomputes the answer
            "next_open": _instant(judgement.next_open),
        }
        if judgement.problems:
            reasons = [{"reason": p.reason.value, "detail": p.detail} for p in judgement.problems]
            await self._gate.refuse(partition, asked, judgement, caller, now)
            detail = "; ".join(problem.detail for problem in judgement.problems)
            raise Refused(403, detail, verdict, **said, reasons=reasons)
        text = await self._gate.issue(partition, asked, judgement, caller, now)
        metrics.GATE_ANSWERS.labels(verdict).inc()
        return web.json_response({**said, "permit": text, "approvers": list(judgement.approvers)})

    async def _pass_on(self, request: web.Request, body: bytes, partition: int) -> web.Response:
        """Ask the worker that owns the partition, once."""
        owner = self._gate.owner(partition)
        if HOP in request.headers or not owner or owner == self._gate.address:
            raise RetryLater("no worker has the region's partition just now")
        headers = {name: request.headers[name] for name in ("Authorization",) if name in request.headers}
        assert self._session is not None
        try:
            async with self._session.post(f"{owner}/v1/permits", data=body, headers=headers | {HOP: "1"}) as answer:
                passed = {n: answer.headers[n] for n in ("Content-Type", "Retry-After") if n in answer.headers}
                metrics.GATE_ANSWERS.labels("forwarded").inc()
                return web.Response(status=answer.status, body=await answer.read(), headers=passed)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise RetryLater(f"the worker that has the region does not answer: {type(error).__name__}") from error

    def _caller(self, request: web.Request) -> tuple[str, Scope]:
        """Who asks, and for what they may. Without a file of tokens, whoever is on this host, or anyone where the
        settings say so."""
        if self._credentials is None:
            if self._settings.anonymous == "anyone" or (self._settings.anonymous == "loopback" and _is_local(request)):
                return "anonymous", EVERYTHING
            raise Refused(401, "the gate knows no tokens: set DEPLOYTRAIL_CREDENTIALS where it runs")
        scheme, _, text = request.headers.get("Authorization", "").partition(" ")
        found = authenticate(self._credentials.credentials, text.strip(), now=_now())
        if scheme.lower() != "bearer" or not isinstance(found, Credential):
            reason = found.value if scheme and not isinstance(found, Credential) else "no_credential"
            raise Refused(401, f"Authorization: Bearer … is missing or does not hold ({reason})")
        return found.name, found.scope


def _asked(body: bytes, scope: Scope, policies: Any) -> Asked:
    """The question in a body, with canonical names. Refused for one that is none, or out of the caller's scope."""
    try:
        value = parse_json(body, MOST_BYTES)
    except JsonError as error:
        raise Refused(400, f"the body is no JSON: {error.detail}") from None
    if not isinstance(value, dict):
        raise Refused(422, "expected an object")
    wrong = [f"{name} is missing" for name in REQUIRED if value.get(name) in (None, "")]
    wrong += [f"{name} is no field here" for name in sorted(value.keys() - set(ACCEPTED))]
    wrong += [
        f"{name} is no text of at most {_LONGEST} characters"
        for name in ACCEPTED
        if value.get(name) not in (None, "") and not (isinstance(value[name], str) and len(value[name]) <= _LONGEST)
    ]
    if wrong:
        raise Refused(422, "; ".join(wrong))
    named = _canonical(value, policies)
    outside = [name for name in PLACES if not any(matches(pattern, named[name]) for pattern in scope.patterns(name))]
    if Verb.REGISTER not in scope.verbs or outside:
        why = f"it does not cover the {', '.join(outside)}" if outside else f"it lacks the verb {Verb.REGISTER}"
        raise Refused(403, f"the token may not ask for this: {why}", reason="out_of_scope")
    return Asked(**{name: named[name] or "" for name in named})


def _canonical(value: Mapping[str, Any], policies: Any) -> dict[str, Any]:
    names = aliases.Names(value.get("region", ""), value.get("environment", ""), value.get("service", ""))
    known = aliases.canonical(names, policies)
    return {**value, "region": known.region, "environment": known.environment, "service": known.service}


def _answering(
    handle: Callable[[web.Request], Awaitable[web.Response]],
) -> Callable[[web.Request], Awaitable[web.Response]]:
    """The handler, with its errors as problem details. A defect is no yes either: 503."""

    async def answer(request: web.Request) -> web.Response:
        try:
            return await handle(request)
        except Refused as problem:
            return _problem(problem.status, problem.detail, **problem.more)
        except RetryLater as error:
            return _problem(503, str(error))
        except web.HTTPException:
            raise
        except Exception:
            log.exception("the gate failed on %s", request.path)
            return _problem(503, "the gate failed on this; its log says how")

    return answer


def _problem(status: int, detail: str, **more: Any) -> web.Response:
    body = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail, **more}
    headers = {"Retry-After": str(RETRY_AFTER_SECONDS)} if status == 503 else {}
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return web.json_response(body, status=status, headers=headers, content_type="application/problem+json")


def _is_local(request: web.Request) -> bool:
    if any(name in request.headers for name in _FROM_ELSEWHERE):
        return False
    try:
        return ip_address(request.remote or "").is_loopback
    except ValueError:
        return False


def _instant(at: int | None) -> str | None:
    return None if at is None else format_instant(at)


def _now() -> int:
    return time.time_ns() // 1000
