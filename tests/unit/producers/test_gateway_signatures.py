"""Deliveries are believed where their signature fits, and nowhere else."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from deploytrail import adapters
from deploytrail.gateway.app import create_app
from deploytrail.gateway.publisher import MemoryPublisher
from deploytrail.gateway.signatures import SCHEMES, Delivery
from deploytrail_schemas.settings import Settings
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

NOON = 1_793_620_800
BODY = b'{"deployed": "checkout"}'
KEY = base64.b64encode(b"thirty-two bytes that no one saw").decode()
WRONG = f"whsec_{base64.b64encode(b'w' * 32).decode()}"
Sign = Callable[[str, bytes, int], dict[str, str]]


def _hex(secret: str, signed: bytes, digest: str = "sha256") -> str:
    return hmac.new(secret.encode(), signed, digest).hexdigest()


def _over_the_body(header: str, prefix: str = "", digest: str = "sha256") -> Sign:
    return lambda secret, body, _: {header: prefix + _hex(secret, body, digest)}


def _standard(secret: str, body: bytes, at: int) -> dict[str, str]:
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signature = base64.b64encode(hmac.new(key, f"msg_1.{at}.".encode() + body, hashlib.sha256).digest()).decode()
    return {"webhook-id": "msg_1", "webhook-timestamp": str(at), "webhook-signature": f"v1,{signature}"}


def _jwt(claims: dict[str, Any], secret: str, *, algorithm: str = "HS256") -> str:
    def part(raw: bytes) -> str:
        return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()

    signed = part(json.dumps({"alg": algorithm, "typ": "JWT"}).encode()) + "." + part(json.dumps(claims).encode())
    return f"{signed}.{part(hmac.new(secret.encode(), signed.encode(), hashlib.sha256).digest())}"


def _netlify(secret: str, body: bytes, _: int) -> dict[str, str]:
    return {"x-webhook-signature": _jwt({"iss": "netlify", "sha256": hashlib.sha256(body).hexdigest()}, secret)}


def _vonage(secret: str, body: bytes, at: int) -> dict[str, str]:
    claims = {"iat": at, "exp": at + 60, "payload_hash": hashlib.sha256(body).hexdigest()}
    return {"authorization": f"Bearer {_jwt(claims, secret)}"}


def _basic(secret: str, _: bytes, __: int) -> dict[str, str]:
    return {"authorization": "Basic " + base64.b64encode(secret.encode()).decode()}


def _buildkite(secret: str, body: bytes, at: int) -> dict[str, str]:
    return {"x-buildkite-signature": f"timestamp={at},signature={_hex(secret, f'{at}.'.encode() + body)}"}


def _slack(secret: str, body: bytes, at: int) -> dict[str, str]:
    signature = _hex(secret, f"v0:{at}:".encode() + body)
    return {"x-slack-request-timestamp": str(at), "x-slack-signature": f"v0={signature}"}


def _grafana(header: str) -> Sign:
    return lambda secret, body, at: {
        header: str(at),
        "x-grafana-alerting-signature": _hex(secret, f"{at}:".encode() + body),
    }


# scheme, secret, how a sender signs; whether the signature covers the body, and a time.
WAYS: dict[str, tuple[str, str, Sign, bool, bool]] = {
    "basic": ("basic", "azure:s3cret:with:colons", _basic, False, False),
    "basic without a user": ("basic", ":s3cret", _basic, False, False),
    "bearer": ("bearer", "s3cret", lambda secret, _, __: {"authorization": f"Bearer {secret}"}, False, False),
    "buildkite signature": ("buildkite", "s3cret", _buildkite, True, True),
    "buildkite token": ("buildkite", "s3cret", lambda secret, _, __: {"x-buildkite-token": secret}, False, False),
    "circleci": ("circleci", "s3cret", _over_the_body("circleci-signature", "v1="), True, False),
    "datadog_api_key": ("datadog_api_key", "s3cret", lambda secret, _, __: {"dd-api-key": secret}, False, False),
    "flux": ("flux", "s3cret", _over_the_body("x-signature", "sha256="), True, False),
    "github": ("github", "s3cret", _over_the_body("x-hub-signature-256", "sha256="), True, False),
    "gitlab secret token": ("gitlab", "s3cret", lambda secret, _, __: {"x-gitlab-token": secret}, False, False),
    "gitlab signing token": ("gitlab", f"whsec_{KEY}", _standard, True, True),
    "grafana": ("grafana", "s3cret", _over_the_body("x-grafana-alerting-signature"), True, False),
    "grafana with a time": ("grafana", "s3cret", _grafana("x-grafana-alerting-timestamp"), True, True),
    "grafana with a signature's time": (
        "grafana",
        "s3cret",
        _grafana("x-grafana-alerting-signature-timestamp"),
        True,
        True,
    ),
    "hub_signature": ("hub_signature", "s3cret", _over_the_body("x-hub-signature", "sha256="), True, False),
    "jwt of netlify": ("jwt", "s3cret", _netlify, True, False),
    "jwt of vonage": ("jwt", "s3cret", _vonage, True, True),
    "pagerduty": ("pagerduty", "s3cret", _over_the_body("x-pagerduty-signature", "v1="), True, False),
    "sentry": ("sentry", "s3cret", _over_the_body("sentry-hook-signature"), True, False),
    "slack": ("slack", "s3cret", _slack, True, True),
    "standard_webhooks": ("standard_webhooks", f"whsec_{KEY}", _standard, True, True),
    "terraform_cloud": (
        "terraform_cloud",
        "s3cret",
        _over_the_body("x-tfe-notification-signature", digest="sha512"),
        True,
        False,
    ),
}
EACH = pytest.mark.parametrize(("scheme", "secret", "sign", "covers_body", "covers_time"), WAYS.values(), ids=WAYS)


def _sources_of(scheme: str) -> list[str]:
    return [name for name in adapters.names() if adapters.load(name).signature == scheme]


def _is_believed(
    scheme: str, secrets: list[str], headers: dict[str, str], body: bytes = BODY, at: float = NOON
) -> bool:
    return SCHEMES[scheme].check(Delivery(body, headers, at), secrets)


def test_every_scheme_is_proven_here_or_in_a_file_of_its_own() -> None:
    assert set(SCHEMES) - {"sns"} == {scheme for scheme, *_ in WAYS.values()}


def test_every_source_names_a_scheme() -> None:
    assert {adapters.load(name).signature for name in adapters.names()} <= set(SCHEMES)


@pytest.mark.requirement("M3.1")
@EACH
def test_what_was_made_with_the_secret_is_believed(
    scheme: str, secret: str, sign: Sign, covers_body: bool, covers_time: bool
) -> None:
    assert _is_believed(scheme, [secret], sign(secret, BODY, NOON))


@EACH
def test_what_was_made_with_another_secret_or_without_one_is_not(
    scheme: str, secret: str, sign: Sign, covers_body: bool, covers_time: bool
) -> None:
    another = f"whsec_{base64.b64encode(b'x' * 32).decode()}" if secret.startswith("whsec_") else f"x{secret}x"
    headers = sign(another, BODY, NOON)

    assert not _is_believed(scheme, [secret], headers)
    assert not _is_believed(scheme, [], headers)
    assert not _is_believed(scheme, [secret], {})


@EACH
def test_while_a_secret_is_replaced_both_are_believed(
    scheme: str, secret: str, sign: Sign, covers_body: bool, covers_time: bool
) -> None:
    old = f"whsec_{base64.b64encode(b'o' * 32).decode()}" if secret.startswith("whsec_") else f"old:{secret}"

    assert _is_believed(scheme, [old, secret], sign(secret, BODY, NOON))
    assert _is_believed(scheme, [old, secret], sign(old, BODY, NOON))


@EACH
def test_each_header_of_a_signature_is_needed(
    scheme: str, secret: str, sign: Sign, covers_body: bool, covers_time: bool
) -> None:
    headers = sign(secret, BODY, NOON)

    for gone in headers:
        assert not _is_believed(scheme, [secret], {name: value for name, value in headers.items() if name != gone})
        assert not _is_believed(scheme, [secret], headers | {gone: ""})


@EACH
def test_another_body_does_not_fit_a_signature_that_covers_it(
    scheme: str, secret: str, sign: Sign, covers_body: bool, covers_time: bool
) -> None:
    assert _is_believed(scheme, [secret], sign(secret, BODY, NOON), BODY + b" ") is not covers_body


@EACH
def test_a_signed_time_holds_for_five_minutes_before_and_behind(
    scheme: str, secret: str, sign: Sign, covers_body: bool, covers_time: bool
) -> None:
    headers = sign(secret, BODY, NOON)

    assert _is_believed(scheme, [secret], headers, at=NOON + 300)
    assert _is_believed(scheme, [secret], headers, at=NOON - 300)
    assert _is_believed(scheme, [secret], headers, at=NOON + 301) is not covers_time
    assert _is_believed(scheme, [secret], headers, at=NOON - 301) is not covers_time


@pytest.mark.requirement("M3.1")
def test_published_signatures_are_believed(shared: Path) -> None:
    vectors = json.loads((shared / "fixtures/security/webhook_signatures.json").read_text())
    seen = set()
    for name, scheme, header in (
        ("github", "github", "X-Hub-Signature-256"),
        ("pagerduty_v3", "pagerduty", "X-PagerDuty-Signature"),
        ("standard_webhooks", "standard_webhooks", "webhook-signature"),
        ("standard_webhooks", "gitlab", "webhook-signature"),
    ):
        for case in vectors[name]:
            sent = (header, "webhook-id", "webhook-timestamp")
            headers = {key.lower(): str(case[key]) for key in sent if key in case}
            body, at = case["payload"].encode(), float(case.get("webhook-timestamp", NOON))
            seen.add(name)

            assert _is_believed(scheme, ["whsec_b3RoZXI=", case["secret"]], headers, body, at)
            assert not _is_believed(scheme, [case["secret"]], headers, body + b" ", at)
            assert not _is_believed(scheme, ["whsec_b3RoZXI="], headers, body, at)

    assert seen == {name for name in vectors if not name.endswith("_rules")}


@pytest.mark.parametrize(
    "signature", ["v1,Ceo5qEr07ixe2NLpvHk3FH9bwy/WavXrAFQ/9tdO6mc=", "v1,", "v1", "", "v1a,{right}", "{right},v1"]
)
def test_a_standard_signature_that_is_wrong_is_refused(signature: str) -> None:
    headers = _standard(f"whsec_{KEY}", BODY, NOON)
    right = headers["webhook-signature"].removeprefix("v1,")
    headers["webhook-signature"] = signature.replace("{right}", right)

    assert not _is_believed("standard_webhooks", [f"whsec_{KEY}"], headers)


@pytest.mark.parametrize(("scheme", "separator"), [("standard_webhooks", " "), ("pagerduty", ","), ("circleci", ", ")])
def test_one_of_several_signatures_is_enough(scheme: str, separator: str) -> None:
    _, secret, sign, *_ = WAYS[scheme]
    headers = sign(secret, BODY, NOON)
    *_, name = headers
    headers[name] = separator.join(("v0=old", "v1=0000", headers[name], "v2=new"))

    assert _is_believed(scheme, [secret], headers)


def test_only_the_first_16_signatures_are_tried() -> None:
    _, secret, sign, *_ = WAYS["pagerduty"]
    right = sign(secret, BODY, NOON)["x-pagerduty-signature"]

    assert _is_believed("pagerduty", [secret], {"x-pagerduty-signature": ",".join(["v1=0"] * 15 + [right])})
    assert not _is_believed("pagerduty", [secret], {"x-pagerduty-signature": ",".join(["v1=0"] * 16 + [right])})


def test_a_signing_token_of_gitlab_is_no_secret_token() -> None:
    assert not _is_believed("gitlab", [f"whsec_{KEY}"], {"x-gitlab-token": f"whsec_{KEY}"})


def test_sha1_is_not_believed() -> None:
    headers = {"x-hub-signature": "sha1=" + _hex("s3cret", BODY, "sha1")}

    assert not _is_believed("hub_signature", ["s3cret"], headers)


@pytest.mark.parametrize(
    "token",
    [
        _jwt({"sha256": hashlib.sha256(BODY).hexdigest()}, "s3cret", algorithm="none"),
        _jwt({"sha256": hashlib.sha256(BODY).hexdigest()}, "s3cret", algorithm="HS512"),
        _jwt({"qsh": hashlib.sha256(b"POST&/webhooks/jira&").hexdigest(), "iat": NOON}, "s3cret"),
        _jwt({"sha256": 5}, "s3cret"),
        _jwt({"sha256": hashlib.sha256(BODY).hexdigest(), "exp": "tomorrow"}, "s3cret"),
        _jwt({"sha256": hashlib.sha256(BODY).hexdigest(), "nbf": NOON + 301}, "s3cret"),
        _jwt({"sha256": hashlib.sha256(BODY).hexdigest(), "exp": NOON - 301}, "s3cret"),
        _jwt({"sha256": hashlib.sha256(BODY).hexdigest(), "pad": "x" * 8192}, "s3cret"),
        _jwt({"sha256": hashlib.sha256(BODY).hexdigest()}, "s3cret").rpartition(".")[0] + ".",
    ],
    ids=["none", "another algorithm", "query only", "number", "text", "not yet", "over", "long", "unsigned"],
)
def test_a_json_web_token_that_proves_less_is_refused(token: str) -> None:
    assert _is_believed("jwt", ["s3cret"], _netlify("s3cret", BODY, NOON))
    assert not _is_believed("jwt", ["s3cret"], {"authorization": f"JWT {token}"})


def test_a_secret_beyond_ascii_is_compared_as_it_comes_over_the_wire() -> None:
    wire = "clé".encode().decode("latin-1")

    assert _is_believed("gitlab", ["clé"], {"x-gitlab-token": wire})
    assert not _is_believed("gitlab", ["cle"], {"x-gitlab-token": wire})


@pytest.mark.parametrize(
    ("scheme", "secret"),
    [("gitlab", "whsec_"), ("gitlab", "whsec_plain*"), ("basic", "password"), ("basic", "user:"), ("basic", ":")],
)
def test_a_scheme_says_which_secret_cannot_be_its_own(scheme: str, secret: str) -> None:
    assert "expected" in SCHEMES[scheme].problem_of(secret)


@pytest.mark.parametrize("scheme", sorted(set(SCHEMES) - {"sns"}))
def test_no_header_of_any_shape_crashes_a_scheme_or_is_believed(scheme: str) -> None:
    mine = [way for way in WAYS.values() if way[0] == scheme]
    names = sorted({name for _, secret, sign, *_ in mine for name in sign(secret, BODY, NOON)})
    right = [value for _, secret, sign, *_ in mine for value in sign(secret, BODY, NOON).values()]
    anything = (
        st.text()
        | st.just("\ud800")
        | st.builds(
            lambda value, cut, more: value[:cut] + more,
            st.sampled_from(right),
            st.integers(0, 40),
            st.text(max_size=9) | st.just(f"{NOON},"),
        )
    )
    shapes = st.dictionaries(st.sampled_from([*names, "authorization"]), anything)

    # The first text builds its table of characters.
    @settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(shapes, st.binary(max_size=9), st.floats(0, 2**40))
    def survives(headers: dict[str, str], body: bytes, at: float) -> None:
        believed = _is_believed(scheme, [way[1] for way in mine], headers, body, at)

        shown = {value.strip().lower() for value in headers.values()}
        assert not believed or shown & {value.lower() for value in right}

    survives()


@pytest.mark.requirement("M3.1")
@pytest.mark.parametrize("way", [way for way in WAYS.values() if _sources_of(way[0])], ids=lambda way: way[0])
def test_the_gateway_lets_in_what_is_signed_and_nothing_else(way: tuple[str, str, Sign, bool, bool]) -> None:
    scheme, secret, sign, *_ = way
    name, now = _sources_of(scheme)[0], int(time.time())
    client = TestClient(create_app(Settings(webhook_secrets=f"{name}={secret}"), MemoryPublisher()))
    url, sent = f"/webhooks/{name}", {"Content-Type": "application/json"}
    unsigned = client.post(url, content=BODY, headers=sent)
    wrong = client.post(url, content=BODY, headers=sent | sign(WRONG if "whsec" in secret else "x:y", BODY, now))
    signed = client.post(url, content=BODY, headers=sent | sign(secret, BODY, now))

    assert (unsigned.status_code, wrong.status_code) == (401, 401)
    assert SCHEMES[scheme].what in unsigned.json()["detail"]
    # What the adapter says of this body is its own matter.
    assert signed.status_code in (202, 422)


def test_a_sender_that_is_not_let_in_is_told_how_to_show_itself() -> None:
    client = TestClient(create_app(Settings(webhook_secrets="azure_devops=azure:s3cret"), MemoryPublisher()))
    answer = client.post("/webhooks/azure_devops", json={})

    assert answer.headers["www-authenticate"] == 'Basic realm="deploytrail"'
