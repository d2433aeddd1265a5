"""Asking the gate whether this may be deployed now. Unlike everything else here it stops the deploy: whatever is no
clear yes raises."""

from __future__ import annotations

import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

from deploytrail_schemas.errors import ConfigurationError, DeploytrailError, RetryLater
from deploytrail_schemas.json_values import JsonError, parse_json
from deploytrail_schemas.local_stack import if_not_set
from deploytrail_schemas.permits import Permit, Subject, verify_permit
from deploytrail_schemas.settings import Settings

from deploytrail import _permit_keys
from deploytrail._options import DEPLOYMENT_ID

TIMEOUT_SECONDS = 15.0
# A worker of the gate that was killed is replaced within some 13 s.
WAIT_SECONDS = 30.0
_LONGEST_PAUSE = 5.0
_MOST_BYTES = 256 << 10
_LATER = {408, 425, 429, 500, 502, 503, 504}
_LOCAL = ("localhost", "127.0.0.1", "::1")
PLACES = ("service", "environment", "region")


class PermitRefused(DeploytrailError):
    """The gate says no, or gave a permit that does not hold. `reasons`: words of closed lists, with what they mean."""

    def __init__(self, detail: str, reasons: Mapping[str, str]) -> None:
        super().__init__(detail)
        self.reasons = dict(reasons)


class NoPermitAnswer(DeploytrailError):
    """Nobody can tell now: the gate is away, or is not asked rightly. Deploy nothing."""


@dataclass(frozen=True, slots=True)
class PermitGiven:
    """A permit that holds for what was asked. `text`: the JWT, to be shown where it is deployed."""

    text: str
    permit: Permit
    reason: str


def require_permit(
    artifact_digest: str,
    *,
    deployment_id: str = "",
    service: str = "",
    environment: str = "",
    region: str = "",
    deployer: str = "",
    wait_seconds: float = WAIT_SECONDS,
) -> PermitGiven:
    """A permit to deploy an artifact (sha256:…) as a registered deployment, now.

    What is left out comes from DEPLOYTRAIL_DEPLOYMENT_ID, _SERVICE, _ENVIRONMENT, _REGION. A gate that
    is away is asked again for `wait_seconds`. PermitRefused with every reason; NoPermitAnswer.
    """
    try:
        settings = Settings.load()
        gate = _gate_url(settings)
        given = {"service": service, "environment": environment, "region": region}
        places = {name: given[name] or getattr(settings, name) for name in PLACES}
        question = {
            "deployment_id": deployment_id or os.environ.get(DEPLOYMENT_ID, ""),
            "artifact_digest": artifact_digest,
            **places,
        }
        if missing := [name for name, text in question.items() if not text]:
            variables = ", ".join(f"DEPLOYTRAIL_{name.upper()}" for name in missing)
            raise ConfigurationError(f"the gate must be told {', '.join(missing)}: give them, or set {variables}")
        if deployer or settings.deployer:
            question["deployer"] = deployer or settings.deployer
        # Before the question: a permit that nobody here can check is not asked for.
        keys = settings.permit_keys or f"{gate}/v1/keys"
        deadline = time.monotonic() + wait_seconds
        answer = _patiently(lambda: _post(f"{gate}/v1/permits", question, settings.token), deadline)
        authority = _patiently(lambda: _permit_keys.authority(replace(settings, permit_keys=keys)), deadline)
        text = str(answer.get("permit", ""))
        subject = Subject(artifact_digest, deployment_id=question["deployment_id"])
        verdict = verify_permit(text, subject, authority, now=time.time())
    except ModuleNotFoundError as error:
        raise NoPermitAnswer(f"needs {error.name}: pip install 'deploytrail[signing]'") from error
    except (ConfigurationError, RetryLater) as error:
        raise NoPermitAnswer(str(error)) from error
    if not verdict.is_allowed or verdict.permit is None:
        reasons = {problem.reason.value: problem.detail for problem in verdict.problems}
        raise PermitRefused("the gate gave a permit that does not hold", reasons)
    return PermitGiven(text, verdict.permit, str(answer.get("reason", "")))


def _gate_url(settings: Settings) -> str:
    if not settings.gate_url:
        raise ConfigurationError(f"which gate? Set DEPLOYTRAIL_GATE_URL{if_not_set('gate_url', settings.gate_url)}")
    parts = urlsplit(settings.gate_url)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _LOCAL):
        raise ConfigurationError(f"the gate would be asked over {parts.scheme or 'nothing'}://; expected https://")
    if parts.username or parts.password or parts.query:
        raise ConfigurationError("DEPLOYTRAIL_GATE_URL has a password or a query; the token is DEPLOYTRAIL_TOKEN")
    return settings.gate_url.rstrip("/")


def _patiently(act: Any, deadline: float) -> Any:
    """What `act` returns, tried again until the deadline while it raises RetryLater."""
    pause = 0.2
    while True:
        try:
            return act()
        except RetryLater:
            if time.monotonic() + pause > deadline:
                raise
        time.sleep(pause)
        pause = min(pause * 2, _LONGEST_PAUSE)


def _post(url: str, question: dict[str, str], token: str) -> dict[str, Any]:
    """The answer of a 200; PermitRefused for the gate's own 403; RetryLater, ConfigurationError for all others."""
    headers = {"Content-Type": "application/json", "Accept": "application/json", "User-Agent": "deploytrail"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    request = urllib.request.Request(url, data=json.dumps(question).encode(), headers=headers, method="POST")
    try:
        with urllib.request.build_opener(_NoRedirect).open(request, timeout=TIMEOUT_SECONDS) as answer:
            status, body = answer.status, _object(answer.read(_MOST_BYTES + 1))
    except urllib.error.HTTPError as error:
        with error:
            status, body = error.code, _object(error.read(_MOST_BYTES + 1))
    except (OSError, ValueError) as error:
        raise RetryLater(f"the gate does not answer: {getattr(error, 'reason', error)}") from error
    if status == 200:
        return body
    detail = str(body.get("detail", "no words"))
    if status == 403 and ("verdict" in body or "reason" in body):
        listed = body.get("reasons")
        listed = listed if isinstance(listed, list) else [{"reason": body.get("reason"), "detail": detail}]
        reasons = {str(r.get("reason")): str(r.get("detail")) for r in listed if isinstance(r, dict)}
        raise PermitRefused(f"the gate's verdict is {body.get('verdict', 'refused')}", reasons)
    if status in _LATER:
        raise RetryLater(f"the gate answers {status}: {detail}")
    raise ConfigurationError(f"the gate answers {status}: {detail}")


def _object(data: bytes) -> dict[str, Any]:
    try:
        value = parse_json(data, _MOST_BYTES)
    except JsonError:
        return {}
    return value if isinstance(value, dict) else {}


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect would carry question and token to somebody else: it is an answer like any other."""

    def redirect_request(self, *_: Any) -> None:
        return None
