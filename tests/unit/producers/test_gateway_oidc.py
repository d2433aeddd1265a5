"""Tokens of CI systems: jobs that are let in without any stored secret, and everything that is not let in."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jwt
import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from deploytrail.gateway import oidc_config
from deploytrail.gateway.oidc import LEEWAY_SECONDS, Job, Jobs
from deploytrail.gateway.oidc_config import claim_fits
from deploytrail.gateway.oidc_keys import KeySet, read_jwks
from deploytrail_schemas.errors import ConfigurationError, RetryLater
from deploytrail_schemas.reasons import Refusal
from deploytrail_schemas.scopes import Scope, Verb
from hypothesis import given
from hypothesis import strategies as st

NOW = 1_793_620_800  # 2026-11-02T12:00:00Z
AUDIENCE = "https://deploytrail.acme.example"
GITHUB, GITLAB = "https://token.actions.githubusercontent.com", "https://gitlab.acme.example"
KEY, OTHER_KEY = (rsa.generate_private_key(65537, 2048) for _ in range(2))
WEAK_KEY = rsa.generate_private_key(65537, 1024)
CURVE_KEY = ec.generate_private_key(ec.SECP256R1())
PUBLIC_PEM = KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

GITHUB_CLAIMS: dict[str, Any] = {
    "iss": GITHUB,
    "aud": AUDIENCE,
    "sub": "repo:acme/checkout:environment:production",
    "iat": NOW - 10,
    "nbf": NOW - 10,
    "exp": NOW + 300,
    "repository": "acme/checkout",
    "repository_owner": "acme",
    "ref": "refs/heads/main",
    "sha": "6dcb09b5b57875f334f61aebed695e2e4193db5e",
    "environment": "production",
    "actor": "maria",
    "event_name": "push",
    "run_id": "1658821493",
    "run_number": "57",
    "workflow": "deploy",
}
GITLAB_CLAIMS: dict[str, Any] = {
    "iss": GITLAB,
    "aud": [AUDIENCE, "https://vault.acme.example"],
    "sub": "project_path:acme/shop/api:ref_type:branch:ref:main",
    "iat": NOW - 10,
    "nbf": NOW - 15,
    "exp": NOW + 3600,
    "project_path": "acme/shop/api",
    "namespace_path": "acme/shop",
    "user_login": "nightly",
    "pipeline_id": "4711",
    "pipeline_source": "schedule",
    "ref": "main",
    "ref_protected": "true",
    "sha": "9fceb02d0ae598e95dc970b74767f19372d61af8",
}


def jwk(key: Any, kid: str, **more: Any) -> dict[str, Any]:
    algorithm = jwt.algorithms.RSAAlgorithm if isinstance(key, rsa.RSAPrivateKey) else jwt.algorithms.ECAlgorithm
    return {**algorithm.to_jwk(key.public_key(), as_dict=True), "kid": kid, "use": "sig"} | more


def config(**more: Any) -> dict[str, Any]:
    return {
        "audience": AUDIENCE,
        "issuers": [
            {"issuer": GITHUB, "kind": "github", "jwks": "github.json"},
            {"issuer": GITLAB, "kind": "gitlab", "jwks": "gitlab.json", "algorithms": ["RS256", "ES256"]},
        ],
        "rules": [
            {
                "issuer": GITHUB,
                "claims": {"repository": "acme/checkout", "ref": "refs/heads/main", "environment": "production"},
                "scope": {"team": "payments", "services": ["checkout"], "environments": ["production"]},
            },
            {
                "issuer": GITLAB,
                "claims": {"project_path": "acme/shop/*", "ref_protected": True},
                "scope": {
                    "team": "shop",
                    "services": ["shop-*"],
                    "environments": ["*"],
                    "regions": ["eu-west-1"],
                    "verbs": ["report", "observe"],
                },
            },
        ],
    } | more


@pytest.fixture
def jobs(tmp_path: Path) -> Iterator[Jobs]:
    keys = [jwk(KEY, "k1", alg="RS256"), jwk(WEAK_KEY, "weak"), {"kty": "oct", "kid": "shared", "k": "c2VjcmV0"}]
    (tmp_path / "github.json").write_text(json.dumps({"keys": keys}))
    (tmp_path / "gitlab.json").write_text(json.dumps({"keys": [jwk(KEY, "k1"), jwk(CURVE_KEY, "curve")]}))
    here = Path.cwd()
    os.chdir(tmp_path)
    yield Jobs(oidc_config.read(config()))
    os.chdir(here)


def token(claims: dict[str, Any], key: Any = KEY, algorithm: str = "RS256", **headers: Any) -> str:
    return jwt.encode(claims, key, algorithm, headers={"kid": "k1"} | headers)


def outcome(jobs: Jobs, text: str, now: float = NOW) -> Job | Refusal:
    return asyncio.run(jobs.of_token(text, now=now))


@pytest.mark.requirement("M2.6", "M2.1")
def test_a_github_job_proves_who_what_and_where_from(jobs: Jobs) -> None:
    assert outcome(jobs, token(GITHUB_CLAIMS)) == Job(
        "github:repo:acme/checkout:environment:production",
        Scope("payments", ("checkout",), ("production",), ("*",), frozenset({Verb.REPORT})),
        {
            "build_system": "github_actions",
            "build_id": "1658821493",
            "build_number": "57",
            "build_url": "https://github.com/acme/checkout/actions/runs/1658821493",
            "commit_sha": "6dcb09b5b57875f334f61aebed695e2e4193db5e",
            "repository": "https://github.com/acme/checkout.git",
            "ref": "main",
            "pipeline": "deploy",
            "deployer": "maria",
            "deployer_type": "person",
        },
    )


@pytest.mark.requirement("M2.6", "M2.1")
def test_a_gitlab_job_proves_who_what_and_where_from(jobs: Jobs) -> None:
    found = outcome(jobs, token(GITLAB_CLAIMS, CURVE_KEY, "ES256", kid="curve"))

    assert isinstance(found, Job)
    assert found.name == "gitlab:project_path:acme/shop/api:ref_type:branch:ref:main"
    assert found.scope == Scope("shop", ("shop-*",), ("*",), ("eu-west-1",), frozenset({Verb.REPORT, Verb.OBSERVE}))
    assert found.facts == {
        "build_system": "gitlab_ci",
        "build_id": "4711",
        "build_url": "https://gitlab.acme.example/acme/shop/api/-/pipelines/4711",
        "commit_sha": "9fceb02d0ae598e95dc970b74767f19372d61af8",
        "repository": "https://gitlab.acme.example/acme/shop/api.git",
        "ref": "main",
        "pipeline": "acme/shop/api",
        "deployer": "nightly",
        "deployer_type": "automation",
    }


def without(*names: str) -> dict[str, Any]:
    return {name: item for name, item in GITHUB_CLAIMS.items() if name not in names}


def by_hand(header: dict[str, Any], sign: Callable[[bytes], bytes], claims: dict[str, Any] = GITHUB_CLAIMS) -> str:
    """A token that no library would make."""

    def part(data: bytes) -> str:
        return base64.urlsafe_b64encode(data).rstrip(b"=").decode()

    signed = f"{part(json.dumps(header).encode())}.{part(json.dumps(claims).encode())}"
    return f"{signed}.{part(sign(signed.encode()))}"


def with_public_key(data: bytes) -> bytes:
    return hmac.digest(PUBLIC_PEM, data, hashlib.sha256)


MINE = jwk(OTHER_KEY, "k1")
CHANGED: dict[str, tuple[dict[str, Any], Refusal]] = {
    "another issuer": ({"iss": "https://evil.example"}, Refusal.UNKNOWN_ISSUER),
    "an issuer that begins alike": ({"iss": GITHUB + ".evil.example"}, Refusal.UNKNOWN_ISSUER),
    "an issuer that ends alike": ({"iss": GITHUB + "/"}, Refusal.UNKNOWN_ISSUER),
    "another audience": ({"aud": "https://github.com/acme"}, Refusal.WRONG_AUDIENCE),
    "an audience that begins alike": ({"aud": AUDIENCE + ".evil.example"}, Refusal.WRONG_AUDIENCE),
    "expired": ({"exp": NOW - LEEWAY_SECONDS}, Refusal.EXPIRED),
    "an end that is true": ({"exp": True}, Refusal.MALFORMED_TOKEN),
    "not yet": ({"nbf": NOW + LEEWAY_SECONDS + 1}, Refusal.NOT_YET_VALID),
    "issued in the future": ({"iat": NOW + LEEWAY_SECONDS + 1}, Refusal.NOT_YET_VALID),
    "another repository": ({"repository": "acme/website"}, Refusal.NO_RULE),
    "a repository that begins alike": ({"repository": "acme/checkout-fork"}, Refusal.NO_RULE),
    "another owner": ({"repository": "evil/checkout"}, Refusal.NO_RULE),
    "another branch": ({"ref": "refs/heads/feature"}, Refusal.NO_RULE),
    "a pull request": ({"ref": "refs/pull/1/merge"}, Refusal.NO_RULE),
    "another environment": ({"environment": "Production"}, Refusal.NO_RULE),
    "a huge token": ({"workflow": "x" * 8192}, Refusal.MALFORMED_TOKEN),
}
FORGED: dict[str, tuple[Callable[[], str], Refusal]] = {
    "algorithm none": (lambda: by_hand({"alg": "none", "kid": "k1"}, lambda _: b""), Refusal.WRONG_SIGNATURE),
    "algorithm None": (lambda: by_hand({"alg": "None", "kid": "k1"}, lambda _: b""), Refusal.WRONG_SIGNATURE),
    "no algorithm": (lambda: by_hand({"kid": "k1"}, lambda _: b""), Refusal.WRONG_SIGNATURE),
    "HS256 with the public key": (
        lambda: by_hand({"alg": "HS256", "kid": "k1"}, with_public_key),
        Refusal.WRONG_SIGNATURE,
    ),
    "HS256 with a symmetric key of the set": (
        lambda: by_hand({"alg": "HS256", "kid": "shared"}, lambda d: hmac.digest(b"secret", d, "sha256")),
        Refusal.WRONG_SIGNATURE,
    ),
    "symmetric key under RS256": (
        lambda: by_hand({"alg": "RS256", "kid": "shared"}, lambda d: hmac.digest(b"secret", d, "sha256")),
        Refusal.UNKNOWN_KEY,
    ),
    "an algorithm that the issuer does not use": (
        lambda: token(GITHUB_CLAIMS, algorithm="RS512"),
        Refusal.WRONG_SIGNATURE,
    ),
    "a key that is too short": (lambda: _weakly_signed(), Refusal.WRONG_SIGNATURE),
    "another key under a known id": (lambda: token(GITHUB_CLAIMS, OTHER_KEY), Refusal.WRONG_SIGNATURE),
    "the key in the token": (lambda: token(GITHUB_CLAIMS, OTHER_KEY, jwk=MINE), Refusal.WRONG_SIGNATURE),
    "the key in the token, no id": (lambda: token(GITHUB_CLAIMS, OTHER_KEY, jwk=MINE, kid="mine"), Refusal.UNKNOWN_KEY),
    "the key behind jku": (
        lambda: token(GITHUB_CLAIMS, OTHER_KEY, jku="https://evil.example/jwks", kid="mine"),
        Refusal.UNKNOWN_KEY,
    ),
    "the key behind x5u": (
        lambda: token(GITHUB_CLAIMS, OTHER_KEY, x5u="https://evil.example/crt"),
        Refusal.WRONG_SIGNATURE,
    ),
    "the key in x5c": (lambda: token(GITHUB_CLAIMS, OTHER_KEY, x5c=["MIIB"]), Refusal.WRONG_SIGNATURE),
    "an extension that must be understood": (lambda: token(GITHUB_CLAIMS, crit=["exp"]), Refusal.MALFORMED_TOKEN),
    "an id that is a path": (lambda: token(GITHUB_CLAIMS, kid="../../../dev/null"), Refusal.UNKNOWN_KEY),
    "no key id": (lambda: by_hand({"alg": "RS256"}, lambda _: b"x"), Refusal.UNKNOWN_KEY),
    "no issuer": (lambda: token(without("iss")), Refusal.UNKNOWN_ISSUER),
    "an issuer's claims under the other's name": (
        lambda: token(GITHUB_CLAIMS | {"iss": GITLAB}, CURVE_KEY, "ES256", kid="curve"),
        Refusal.NO_RULE,
    ),
    "no audience": (lambda: token(without("aud")), Refusal.MALFORMED_TOKEN),
    "no end": (lambda: token(without("exp")), Refusal.MALFORMED_TOKEN),
    "an end in words": (
        lambda: by_hand({"alg": "RS256", "kid": "k1"}, _sign, GITHUB_CLAIMS | {"exp": "never"}),
        Refusal.MALFORMED_TOKEN,
    ),
    "no subject": (lambda: token(without("sub")), Refusal.MALFORMED_TOKEN),
    "no environment": (lambda: token(without("environment")), Refusal.NO_RULE),
    "a changed claim": (lambda: _tampered(), Refusal.WRONG_SIGNATURE),
    "no token": (lambda: "a.b.c", Refusal.MALFORMED_TOKEN),
    "nothing between the dots": (lambda: "..", Refusal.MALFORMED_TOKEN),
}


def _sign(data: bytes) -> bytes:
    return jwt.algorithms.RSAAlgorithm(jwt.algorithms.RSAAlgorithm.SHA256).sign(data, KEY)


def _weakly_signed() -> str:
    algorithm = jwt.algorithms.RSAAlgorithm(jwt.algorithms.RSAAlgorithm.SHA256)
    return by_hand({"alg": "RS256", "kid": "weak"}, lambda data: algorithm.sign(data, WEAK_KEY))


def _tampered() -> str:
    head, _, signature = token(GITHUB_CLAIMS).split(".")
    other = token(GITHUB_CLAIMS | {"repository": "acme/checkout", "actor": "ceo"}).split(".")[1]
    return f"{head}.{other}.{signature}"


@pytest.mark.requirement("M2.6")
@pytest.mark.parametrize("name", FORGED)
def test_what_the_issuer_did_not_make_is_refused(name: str, jobs: Jobs) -> None:
    make, reason = FORGED[name]

    assert outcome(jobs, make()) is reason


@pytest.mark.requirement("M2.6")
@pytest.mark.parametrize("name", CHANGED)
def test_what_the_issuer_made_for_something_else_is_refused(name: str, jobs: Jobs) -> None:
    change, reason = CHANGED[name]

    assert outcome(jobs, token(GITHUB_CLAIMS | change)) is reason


def test_clocks_may_differ_by_a_minute(jobs: Jobs) -> None:
    claims = GITHUB_CLAIMS | {"nbf": NOW + LEEWAY_SECONDS, "iat": NOW + LEEWAY_SECONDS}

    assert isinstance(outcome(jobs, token(claims)), Job)
    assert isinstance(outcome(jobs, token(GITHUB_CLAIMS), NOW + 300 + LEEWAY_SECONDS - 1), Job)


@given(text=st.text(max_size=200) | st.lists(st.binary(max_size=40), min_size=3, max_size=3).map(
    lambda parts: ".".join(base64.urlsafe_b64encode(part).decode() for part in parts)
))  # fmt: skip
def test_no_text_is_let_in_by_chance_nor_crashes(text: str) -> None:
    empty = Jobs(oidc_config.read(config()), keys=lambda _: None)  # type: ignore[arg-type,return-value]  # never asked

    assert isinstance(outcome(empty, text), Refusal)


@pytest.mark.parametrize(
    ("pattern", "text", "fits"),
    [
        ("acme/*", "acme/checkout", True),
        ("acme/*", "acme/shop/api", False),
        ("acme/*", "acme/", True),
        ("acme/*", "evil/acme/x", False),
        ("repo:acme/*:ref:refs/heads/main", "repo:acme/x:ref:refs/heads/main", True),
        ("repo:acme/*:ref:refs/heads/main", "repo:acme/x:environment:a:ref:refs/heads/main", False),
        ("refs/heads/release-*", "refs/heads/release-1/evil", False),
        ("acme.x", "acmeyx", False),
        ("a", "A", False),
    ],
)
def test_a_star_does_not_cross_a_separator(pattern: str, text: str, fits: bool) -> None:
    assert claim_fits(pattern, text) is fits


@pytest.mark.requirement("M2.6")
@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"audience": ""}, "audience is missing"),
        ({"issuers": []}, "issuers is missing"),
        ({"rules": [{"issuer": GITHUB, "claims": {"ref": "refs/heads/main"}, "scope": {}}]}, "must say whose jobs"),
        ({"rules": [{"issuer": GITHUB, "claims": {"repository": "*/checkout"}, "scope": {}}]}, "must say whose jobs"),
        ({"rules": [{"issuer": "https://evil.example", "claims": {}, "scope": {}}]}, "expected one of issuers"),
        ({"rules": [{"issuer": GITLAB, "claims": {"sub": "a"}, "scope": {"verbs": ["relay"]}}]}, "expected some of"),
        ({"rules": [{"issuer": GITLAB, "claims": {"sub": "a"}, "scope": {}}]}, "services is missing"),
        ({"issuers": [{"issuer": GITHUB, "kind": "github", "jwks": "http://keys.example"}]}, "expected https://"),
        ({"issuers": [{"issuer": GITHUB, "kind": "github", "jwks": "k", "algorithms": ["HS256"]}]}, "expected some of"),
        ({"issuers": [{"issuer": GITHUB, "kind": "github", "jwks": "k", "algorithms": ["none"]}]}, "expected some of"),
        ({"issuers": [{"issuer": GITHUB, "kind": "jenkins", "jwks": "k"}]}, "expected github or gitlab"),
        ({"isuers": []}, "has no field 'isuers'"),
    ],
)
def test_a_file_that_would_let_in_anybody_is_refused(change: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigurationError, match=problem):
        oidc_config.read(config() | change)


def test_a_file_that_is_no_yaml_is_named(tmp_path: Path) -> None:
    (tmp_path / "oidc.yaml").write_text("a: [")

    with pytest.raises(ConfigurationError, match=r"oidc\.yaml cannot be read"):
        oidc_config.load(tmp_path / "oidc.yaml")
    (tmp_path / "oidc.yaml").write_text(yaml.safe_dump(config()))
    assert oidc_config.load(tmp_path / "oidc.yaml") == oidc_config.read(config())


def test_private_and_nameless_keys_are_left_out() -> None:
    private = jwt.algorithms.RSAAlgorithm.to_jwk(KEY, as_dict=True) | {"kid": "private"}
    nameless = {name: item for name, item in jwk(KEY, "x").items() if name != "kid"}
    encryption = jwk(KEY, "enc") | {"use": "enc"}
    keys = {"keys": [private, nameless, encryption, 3, jwk(KEY, "good")]}

    assert list(read_jwks(json.dumps(keys).encode())) == ["good"]
    with pytest.raises(ValueError, match="no key that can check"):
        read_jwks(json.dumps({"keys": [private]}).encode())
    with pytest.raises(ValueError, match="no JWKS"):
        read_jwks(b"[]")


def test_keys_of_a_file_are_read_again_when_it_changes(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    path.write_text(json.dumps({"keys": [jwk(KEY, "old")]}))
    keys = KeySet(str(path))
    assert asyncio.run(keys.key("old")) is not None
    path.write_text(json.dumps({"keys": [jwk(KEY, "new")]}))
    os.utime(path, ns=(1, 1))

    assert asyncio.run(keys.key("old")) is None
    assert asyncio.run(keys.key("new")) is not None
    path.write_text("broken")
    assert asyncio.run(keys.key("new")) is not None


def test_keys_that_cannot_be_read_at_the_start_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"nowhere\.json cannot be read"):
        KeySet(str(tmp_path / "nowhere.json"))


def test_where_no_key_was_ever_fetched_the_caller_is_asked_to_come_again() -> None:
    keys = KeySet("http://127.0.0.1:9/jwks")

    with pytest.raises(RetryLater, match="cannot be fetched"):
        asyncio.run(keys.key("k1"))
