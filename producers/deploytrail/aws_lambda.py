"""Lambda `deploytrail.aws_lambda.handler`: hands an event of EventBridge to the gateway, POST /webhooks/aws.

Whatever is not accepted raises, so that Lambda tries again (twice, then its failure destination
keeps the event): https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-error-handling.html

Standard library only; settings: DEPLOYTRAIL_URL, DEPLOYTRAIL_TOKEN, and DEPLOYTRAIL_ENVIRONMENT for what
the events of this account do not say.
"""

from __future__ import annotations

import http.client
import json
from typing import Any
from urllib.parse import urlencode, urlsplit

from deploytrail_schemas.errors import ConfigurationError, DeploytrailError, RetryLater
from deploytrail_schemas.headers import bearer
from deploytrail_schemas.settings import Settings

TIMEOUT_SECONDS = 8.0
_DETAIL = 300
# Kept between the invocations of one instance, as is the connection: a warm start is one request.
_connection: http.client.HTTPConnection | None = None


class Refused(DeploytrailError):
    """The gateway will never take this: mend the function's settings or its rule."""


def handler(event: Any, context: object = None) -> dict[str, Any]:
    """How many records the gateway made of the event. RetryLater or Refused where it did not take it."""
    del context
    settings = Settings.load()
    query = {name: getattr(settings, name) for name in ("region", "environment", "service") if getattr(settings, name)}
    status, answer = post(settings, f"/webhooks/aws?{urlencode(query)}" if query else "/webhooks/aws", event)
    return {"status": status, "accepted": answer.get("accepted", 0)}


def post(settings: Settings, path: str, value: Any) -> tuple[int, dict[str, Any]]:
    """The answer of the gateway to a JSON value. RetryLater where it is away or busy, Refused where it will not."""
    global _connection
    parts = urlsplit(settings.url)
    if parts.scheme not in ("https", "http") or not parts.hostname:
        raise ConfigurationError("DEPLOYTRAIL_URL says where the gateway is; set it to https://…")
    body = json.dumps(value, separators=(",", ":")).encode()
    headers = {"Content-Type": "application/json", "User-Agent": "deploytrail-lambda", **bearer(settings.token)}
    for fresh in (False, True):
        kept = _connection is not None
        if _connection is None:
            kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
            _connection = kind(parts.hostname, parts.port, timeout=TIMEOUT_SECONDS)
        try:
            _connection.request("POST", parts.path.rstrip("/") + path, body, headers)
            response = _connection.getresponse()
            data = response.read()
            break
        except (OSError, http.client.HTTPException) as error:
            _connection.close()
            _connection = None
            # An instance sleeps between invocations: the other side has closed the connection meanwhile.
            if fresh or not kept or not isinstance(error, (ConnectionError, http.client.HTTPException)):
                why = str(error) or type(error).__name__
                raise RetryLater(f"the gateway {parts.hostname} cannot be reached: {why}") from error
    answer = _parsed(data)
    if 200 <= response.status < 300:
        return response.status, answer
    said = f"the gateway answers {response.status}: {str(answer.get('detail', ''))[:_DETAIL]}"
    raise Refused(said) if response.status in (400, 403, 413, 422) else RetryLater(said)


def _parsed(data: bytes) -> dict[str, Any]:
    try:
        answer = json.loads(data)
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}
