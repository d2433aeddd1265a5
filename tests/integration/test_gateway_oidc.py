"""CI jobs at the gateway, with keys that a real HTTP server serves: cached, renewed, and away."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jwt
import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric import rsa
from deploytrail.gateway.app import create_app
from deploytrail.gateway.oidc_keys import KEEP_SECONDS, PAUSE_SECONDS, RENEW_SECONDS, KeySet
from deploytrail.gateway.publisher import MemoryPublisher
from deploytrail_schemas.codec import decode
from deploytrail_schemas.errors import RetryLater
from deploytrail_schemas.settings import Settings
from starlette.testclient import TestClient

AUDIENCE, ISSUER = "https://deploytrail.acme.example", "https://gitlab.acme.example"
KEY = rsa.generate_private_key(65537, 2048)


class KeyServer(ThreadingHTTPServer):
    """Serves the keys named in `kids`; counts how often it was asked."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.kids = ["k1"]
        self.status = 200
        self.asked = 0
        self.url = f"http://127.0.0.1:{self.server_port}/jwks"


class _Answer(BaseHTTPRequestHandler):
    server: KeyServer

    def do_GET(self) -> None:
        self.server.asked += 1
        public = jwt.algorithms.RSAAlgorithm.to_jwk(KEY.public_key(), as_dict=True)
        body = json.dumps({"keys": [public | {"kid": kid, "alg": "RS256"} for kid in self.server.kids]}).encode()
        self.send_response(self.server.status)
        if self.server.status == 302:
            self.send_header("Location", "/elsewhere")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        return None


@pytest.fixture
def server() -> Iterator[KeyServer]:
    with KeyServer() as serving:
        thread = threading.Thread(target=serving.serve_forever, daemon=True)
        thread.start()
        yield serving
        serving.shutdown()
        thread.join()


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def known(keys: KeySet, *kids: str) -> list[bool]:
    return [asyncio.run(keys.key(kid)) is not None for kid in kids]


def test_keys_are_fetched_once_and_renewed_each_hour(server: KeyServer) -> None:
    clock = Clock()
    keys = KeySet(server.url, clock)
    assert known(keys, "k1", "k1", "k1") == [True, True, True]
    assert server.asked == 1
    clock.now += RENEW_SECONDS + 1
    server.kids = ["k2"]

    assert known(keys, "k1", "k2") == [False, True]
    assert server.asked == 2


def test_made_up_key_ids_do_not_make_us_ask_more_than_once_a_minute(server: KeyServer) -> None:
    clock = Clock()
    keys = KeySet(server.url, clock)
    assert known(keys, "k1", *(f"made-up-{n}" for n in range(50))) == [True] + [False] * 50
    assert server.asked == 1
    server.kids = ["k1", "rotated"]
    clock.now += PAUSE_SECONDS + 1

    assert known(keys, "rotated") == [True]
    assert server.asked == 2


@pytest.mark.parametrize("status", [500, 302])
def test_known_keys_stand_for_a_day_while_the_issuer_is_away(server: KeyServer, status: int) -> None:
    clock = Clock()
    keys = KeySet(server.url, clock)
    assert known(keys, "k1") == [True]
    server.status = status
    clock.now += RENEW_SECONDS + 1
    assert known(keys, "k1") == [True]
    assert server.asked == 2
    clock.now += KEEP_SECONDS

    with pytest.raises(RetryLater):
        asyncio.run(keys.key("k1"))


@pytest.mark.requirement("M2.6", "M2.1")
def test_what_a_job_proves_stands_above_what_it_says(server: KeyServer, tmp_path: Path) -> None:
    rule = {
        "issuer": ISSUER,
        "claims": {"project_path": "acme/shop/api"},
        "scope": {"team": "shop", "services": ["shop-api"], "environments": ["production"], "regions": ["eu-west-1"]},
    }
    issuer = {"issuer": ISSUER, "kind": "gitlab", "jwks": server.url}
    (tmp_path / "oidc.yaml").write_text(yaml.safe_dump({"audience": AUDIENCE, "issuers": [issuer], "rules": [rule]}))
    now = int(time.time())
    claims = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "project_path:acme/shop/api:ref_type:branch:ref:main",
        "iat": now,
        "exp": now + 300,
        "project_path": "acme/shop/api",
        "user_login": "maria",
        "pipeline_id": "4711",
        "sha": "9fceb02d0ae598e95dc970b74767f19372d61af8",
    }
    token = jwt.encode(claims, KEY, "RS256", headers={"kid": "k1"})
    publisher = MemoryPublisher()
    app = create_app(Settings(oidc=str(tmp_path / "oidc.yaml")), publisher)
    client = TestClient(app, client=("203.0.113.9", 1))
    said = {"event_type": "started", "deployment_id": "d", "deployer": "ceo", "team": "platform", "build_id": "1"}
    answer = client.post("/v1/events", json=said, headers={"Authorization": f"Bearer {token}"})
    expired = jwt.encode(claims | {"exp": now - 3600}, KEY, "RS256", headers={"kid": "k1"})
    late = client.post("/v1/events", json=said, headers={"Authorization": f"Bearer {expired}"})
    event, refusal = (decode(record.value)[1] for record in publisher.records)

    assert (answer.status_code, late.status_code) == (202, 401), answer.text
    assert (event["service"], event["environment"], event["region"]) == ("shop-api", "production", "eu-west-1")
    assert (event["deployer"], event["team"], event["build_id"]) == ("maria", "shop", "4711")
    assert event["commit_sha"] == "9fceb02d0ae598e95dc970b74767f19372d61af8"
    assert event["tags"] == {"claimed_deployer": "ceo", "claimed_team": "platform", "claimed_build_id": "1"}
    assert dict(publisher.records[0].headers)["dt-reporter"] == (
        b"gitlab:project_path:acme/shop/api:ref_type:branch:ref:main"
    )
    assert refusal["labels"]["reason"] == "expired"


def test_while_an_issuer_is_away_the_job_is_asked_to_come_again(server: KeyServer, tmp_path: Path) -> None:
    server.status = 500
    issuer = {"issuer": ISSUER, "kind": "gitlab", "jwks": server.url}
    rule = {"issuer": ISSUER, "claims": {"sub": "a"}, "scope": {"services": ["*"], "environments": ["*"]}}
    (tmp_path / "oidc.yaml").write_text(yaml.safe_dump({"audience": AUDIENCE, "issuers": [issuer], "rules": [rule]}))
    client = TestClient(create_app(Settings(oidc=str(tmp_path / "oidc.yaml")), MemoryPublisher()))
    token = jwt.encode({"iss": ISSUER}, KEY, "RS256", headers={"kid": "k1"})
    answer = client.post("/v1/events", json={}, headers={"Authorization": f"Bearer {token}"})

    assert (answer.status_code, answer.headers["retry-after"]) == (503, "60")
