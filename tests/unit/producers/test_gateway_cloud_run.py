"""Cloud Run's audit logs as Pub/Sub pushes them: known by Google's token, and by no other."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import jwt
import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric import rsa
from deploytrail.gateway.app import create_app
from deploytrail.gateway.publisher import MemoryPublisher
from deploytrail_schemas.codec import decode
from deploytrail_schemas.settings import Settings
from starlette.testclient import TestClient

ROOT = Path(__file__).parents[3]
GOLDEN = Path(__file__).parent / "adapters/golden/cloud_run"
KEY = rsa.generate_private_key(65537, 2048)
PUSHER = "deploytrail-push@PROJECT.iam.gserviceaccount.com"


def documented() -> dict[str, Any]:
    """DEPLOYTRAIL_OIDC as deploy/hooks/README.md says it."""
    text = (ROOT / "deploy/hooks/README.md").read_text("utf-8")
    found: dict[str, Any] = yaml.safe_load(re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)[0])
    return found


@pytest.fixture
def client(tmp_path: Path) -> tuple[TestClient, MemoryPublisher]:
    public = {**jwt.algorithms.RSAAlgorithm.to_jwk(KEY.public_key(), as_dict=True), "kid": "g1", "use": "sig"}
    (tmp_path / "google.json").write_text(json.dumps({"keys": [public]}))
    config = documented()
    config["issuers"][0]["jwks"] = str(tmp_path / "google.json")
    (tmp_path / "oidc.yaml").write_text(yaml.safe_dump(config))
    publisher = MemoryPublisher()
    settings = Settings(oidc=str(tmp_path / "oidc.yaml"), regions="europe-west1=1")
    return TestClient(create_app(settings, publisher), client=("203.0.113.9", 1)), publisher


def token(**changed: Any) -> str:
    now = int(time.time())
    claims = {
        "iss": "https://accounts.google.com",
        "aud": "https://deploytrail.example.com",
        "sub": "113774264463038321964",
        "email": PUSHER,
        "email_verified": True,
        "iat": now,
        "exp": now + 3600,
        **changed,
    }
    return jwt.encode(claims, KEY, "RS256", headers={"kid": "g1"})


def push(client: TestClient, case: str, bearer: str | None) -> int:
    payload = json.loads((GOLDEN / f"{case}.json").read_text("utf-8"))["payload"]
    headers = {"Authorization": f"Bearer {bearer}"} if bearer else {}
    return client.post("/webhooks/cloud_run?environment=production", json=payload, headers=headers).status_code


@pytest.mark.requirement("M8.6", "M2.6")
def test_a_deployment_is_told_from_its_start_to_its_end(client: tuple[TestClient, MemoryPublisher]) -> None:
    http, publisher = client
    answers = [push(http, case, token()) for case in ("replaced_pushed", "not_yet_ready", "ready")]
    values = [decode(record.value)[1] for record in publisher.records]

    assert answers == [202, 202, 202]
    assert [value["event_type"] for value in values] == ["started", "succeeded"]
    assert len({value["deployment_id"] for value in values}) == 1
    assert {dict(record.headers)["dt-reporter"] for record in publisher.records} == {b"google:113774264463038321964"}


@pytest.mark.requirement("M8.6", "M2.6")
@pytest.mark.parametrize(
    "changed",
    [{"email": "mallory@example.com"}, {"email_verified": False}, {"aud": "https://elsewhere.example"}, None],
    ids=["another account", "not verified", "another audience", "no token"],
)
def test_whoever_is_not_that_account_says_nothing(
    client: tuple[TestClient, MemoryPublisher], changed: dict[str, Any] | None
) -> None:
    http, publisher = client
    status = push(http, "ready", None if changed is None else token(**changed))

    assert status == 401
    assert [decode(record.value)[0].value for record in publisher.records] == ["Signal"]  # the refusal itself
