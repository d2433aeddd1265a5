"""Webhooks as GitHub, CDEvents senders and Alertmanager send them: body, headers, signature.

In: a payload and the secret of the sender. Out: what is posted to the gateway.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
import urllib.error
import urllib.request
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from deploytrail_schemas.settings import Settings

_TIMEOUT = 60.0
# Never by a proxy of the environment: the gateway is on this machine.
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True, slots=True)
class Posting:
    """One delivery: where on the gateway, the exact bytes, the headers. `name` is for people."""

    name: str
    path: str
    body: bytes
    headers: dict[str, str]


@dataclass(frozen=True, slots=True)
class Answer:
    """What the gateway said."""

    posting: Posting
    status: int
    body: Any

    @property
    def ids(self) -> list[str]:
        """Ids of the records that it accepted."""
        return list(self.body.get("ids", ())) if isinstance(self.body, dict) else []


def github(event: str, payload: dict[str, Any] | bytes, settings: Settings, name: str = "") -> Posting:
    """As GitHub delivers an event.

    Source: docs.github.com, "Webhook events and payloads" (delivery headers) and "Validating webhook deliveries".
    """
    body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "GitHub-Hookshot/044aadd",
        "X-GitHub-Event": event,
        "X-GitHub-Delivery": str(uuid.uuid4()),
        "X-GitHub-Hook-ID": "292430182",
    }
    if secret := _secret(settings, "github"):
        digest = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
        headers["X-Hub-Signature-256"] = f"sha256={digest}"
    return Posting(name or f"github {event}", "/webhooks/github", body, headers)


def cdevents(payload: dict[str, Any] | bytes, settings: Settings, name: str = "") -> Posting:
    """A CDEvent in one JSON body, signed as Standard Webhooks do (standardwebhooks.com, "Signature scheme")."""
    body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    headers = {"Content-Type": "application/json"}
    if secret := _secret(settings, "cdevents"):
        delivery, stamp = f"msg_{uuid.uuid4().hex}", str(int(time.time()))
        signed = f"{delivery}.{stamp}.".encode() + body
        digest = hmac.new(base64.b64decode(secret.removeprefix("whsec_")), signed, hashlib.sha256).digest()
        headers |= {
            "webhook-id": delivery,
            "webhook-timestamp": stamp,
            "webhook-signature": "v1," + base64.b64encode(digest).decode(),
        }
    return Posting(name or "cdevents", "/webhooks/cdevents", body, headers)


def alertmanager(payload: dict[str, Any] | bytes, settings: Settings, name: str = "") -> Posting:
    """As Alertmanager's webhook receiver sends a group.

    Source: prometheus.io, "Alerting configuration", webhook_config and http_config.
    """
    body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    headers = {"Content-Type": "application/json", "User-Agent": "Alertmanager/0.28.0"}
    if secret := _secret(settings, "alertmanager"):
        headers["Authorization"] = f"Bearer {secret}"
    return Posting(name or "alertmanager", "/webhooks/alertmanager", body, headers)


def post(gateway: str, posting: Posting) -> Answer:
    """Deliver it; an answer of 4xx is an answer. OSError where nobody answers."""
    request = urllib.request.Request(gateway + posting.path, posting.body, posting.headers, method="POST")
    try:
        with _DIRECT.open(request, timeout=_TIMEOUT) as response:
            return Answer(posting, response.status, _json(response.read()))
    except urllib.error.HTTPError as refused:
        with refused:
            return Answer(posting, refused.code, _json(refused.read()))


def _secret(settings: Settings, source: str) -> str:
    pairs = (pair.partition("=") for pair in settings.webhook_secrets.split(";"))
    return next((secret for name, _, secret in pairs if name == source), "")


def _json(body: bytes) -> Any:
    try:
        return json.loads(body) if body else None
    except ValueError:
        return body.decode("utf-8", "replace")


def own_payloads(settings: Settings, *, now: datetime) -> list[Posting]:
    """A deployment by GitHub, one by a CDEvents sender, and an alert, all of now."""
    return [
        *_github_deployment(settings, now),
        *_cdevents_deployment(settings, now),
        alertmanager(_alert_group(now), settings, "alertmanager: latency of payments"),
    ]


def _stamp(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _github_deployment(settings: Settings, now: datetime) -> list[Posting]:
    began = now - timedelta(minutes=4)
    repository = {
        "id": 1296269,
        "name": "catalogue",
        "full_name": "example/catalogue",
        "html_url": "https://github.com/example/catalogue",
        "owner": {"login": "example", "id": 1, "type": "Organization"},
        "default_branch": "main",
    }
    deployment = {
        "id": 145988746,
        "url": "https://api.github.com/repos/example/catalogue/deployments/145988746",
        "sha": "f95f852bd8fca8fcc58a9a2d6c842781e32a215e",
        "ref": "main",
        "task": "deploy",
        "payload": {},
        "original_environment": "staging",
        "environment": "staging",
        "description": None,
        "creator": {"login": "greta", "id": 21031067, "type": "User"},
        "created_at": _stamp(began),
        "updated_at": _stamp(began),
        "production_environment": False,
        "transient_environment": False,
    }
    sender = {"login": "greta", "id": 21031067, "type": "User"}
    postings = [
        github(
            "deployment",
            {"action": "created", "deployment": deployment, "repository": repository, "sender": sender},
            settings,
            "github: deployment created",
        )
    ]
    for number, (state, at) in enumerate((("in_progress", began + timedelta(seconds=20)), ("success", now))):
        status = {
            "id": 209916254 + number,
            "state": state,
            "environment": "staging",
            "description": "",
            "target_url": "https://github.com/example/catalogue/actions/runs/77",
            "log_url": "https://github.com/example/catalogue/actions/runs/77",
            "creator": sender,
            "created_at": _stamp(at),
            "updated_at": _stamp(at),
        }
        body = {
            "action": "created",
            "deployment_status": status,
            "deployment": deployment,
            "repository": repository,
            "sender": sender,
        }
        postings.append(github("deployment_status", body, settings, f"github: deployment_status {state}"))
    return postings


def _cdevents_deployment(settings: Settings, now: datetime) -> list[Posting]:
    # CDEvents 0.5.1, continuous-deployment.md: service deployed
    event = {
        "context": {
            "specversion": "0.5.1",
            "id": str(uuid.uuid4()),
            "source": "/argocd/eu-west-1",
            "type": "dev.cdevents.service.deployed.0.3.0",
            "timestamp": _stamp(now - timedelta(minutes=1)),
        },
        "subject": {
            "id": "search",
            "source": "/argocd/eu-west-1",
            "content": {
                "environment": {"id": "staging", "source": "/argocd/eu-west-1"},
                "artifactId": "pkg:oci/search@sha256%3A" + hashlib.sha256(b"search 4.2.0").hexdigest(),
            },
        },
    }
    return [cdevents(event, settings, "cdevents: service.deployed")]


def _alert_group(now: datetime) -> dict[str, Any]:
    labels = {
        "alertname": "LatencyP99High",
        "severity": "warning",
        "service": "payments",
        "environment": "production",
        "region": "eu-west-1",
    }
    return {
        "version": "4",
        "groupKey": '{}:{alertname="LatencyP99High"}',
        "truncatedAlerts": 0,
        "status": "firing",
        "receiver": "deploytrail",
        "groupLabels": {"alertname": "LatencyP99High"},
        "commonLabels": labels,
        "commonAnnotations": {"summary": "payments answers slowly"},
        "externalURL": "http://alertmanager.example:9093",
        "alerts": [
            {
                "status": "firing",
                "labels": labels,
                "annotations": {"summary": "payments answers slowly"},
                "startsAt": _stamp(now - timedelta(seconds=30)),
                "endsAt": "0001-01-01T00:00:00Z",
                "generatorURL": "http://prometheus.example:9090/graph",
                "fingerprint": "5ad7c0f1e2b34a68",
            }
        ],
    }
