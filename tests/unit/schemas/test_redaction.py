"""Secrets are taken out, and what the product exists for is left alone."""

from __future__ import annotations

import random
import time
from typing import Any

import pytest
from deploytrail_schemas.byte_redaction import redact_bytes
from deploytrail_schemas.codec import DecodeError, decode, encode
from deploytrail_schemas.dead_letters import dead_letter
from deploytrail_schemas.headers import DETAIL, REDACTED
from deploytrail_schemas.json_values import MAX_DEPTH
from deploytrail_schemas.reasons import DeadLetterReason
from deploytrail_schemas.records import RecordType
from deploytrail_schemas.redaction import redact_text, redact_value, without_credentials
from deploytrail_schemas.secret_names import kind_of_name
from hypothesis import given
from hypothesis import strategies as st
from support.secrets import HEX, MARKED, URL_SAFE, Planted, planted, text_of
from support.values import event

SECRETS = planted(200, seed=20261102)
ORIGIN = ("deploytrail.intake", 1, 42)
WHY = DeadLetterReason.MALFORMED


def ids(item: Planted) -> str:
    return item.kind


def test_two_hundred_secrets_of_every_kind_are_planted() -> None:
    assert len({item.secret for item in SECRETS}) == 200
    assert {item.kind for item in SECRETS} >= MARKED.keys()
    assert all(item.secret in item.text for item in SECRETS)


def test_no_planted_secret_stays_in_a_text() -> None:
    left = [(item.kind, item.text, redact_text(item.text)) for item in SECRETS if item.secret in redact_text(item.text)]

    assert left == []


def test_no_planted_secret_stays_in_any_field_of_a_record() -> None:
    for item in SECRETS:
        for field in ("error", "justification", "build_url", "repository", "ref", "version", "raw_status", "team"):
            assert item.secret not in repr(redact_value(event("failed", **{field: item.text}))), (field, item)
        for field in ("tags", "config_changes"):
            for entry in ({item.name: item.secret}, {"note": item.text}, {item.text: "x"}):
                if item.kind in MARKED or entry != {item.name: item.secret} or kind_of_name(item.name):
                    assert item.secret not in repr(redact_value(event("failed", **{field: entry}))), (field, item)


@pytest.mark.parametrize("kind", [kind for kind in MARKED if kind not in ("aws_secret", "random_32", "random_base64",
                                                                        "random_lower")])  # fmt: skip
def test_marked_tokens_are_found_in_names_and_ids_too(kind: str) -> None:
    token = MARKED[kind](random.Random(7))

    assert token not in repr(redact_value(event("started", deployment_id=token, build_id=token)))


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("password=hunter2, user=bob", "password=[redacted:password], user=bob"),
        ("Authorization: Basic dXNlcjpwYXNz", "Authorization: [redacted:authorization]"),
        ('{"db_password": "a\\"b", "x": 1}', '{"db_password": "[redacted:password]", "x": 1}'),
        ("clone https://me:secret@host/x failed", "clone https://host/x failed"),
        ("postgres://app:pa/ss@db:5432/x", "postgres://db:5432/x"),
        ("Password=hun,ter2;Encrypt=yes", "Password=[redacted:password];Encrypt=yes"),
        ("deploy --token abc123 --wait", "deploy --token [redacted:token] --wait"),
        ("AccountKey=abc/def+ghi==;Endpoint=x", "AccountKey=[redacted:key];Endpoint=x"),
    ],
)
def test_what_stands_around_a_secret_stays(text: str, clean: str) -> None:
    assert redact_text(text) == clean


SHA = "9fceb02d0ae598e95dc970b74767f19372d61af8"
SHA_256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
# ruff: noqa: E501  # one list of many short texts reads best so
INNOCENT = (
    SHA, SHA[:7], SHA_256, f"sha256:{SHA_256}", f"sha256:{SHA_256}".upper(), SHA_256 * 2, "d41d8cd98f00b204e9800998ecf8427e",
    "019a43ee-5c00-7000-8000-000000000001", "urn:uuid:7b1a2f6e-1d52-4a0e-9a64-0a1b2c3d4e5f", "4.2.0", "v1.2.3-rc.1+build.20261102T120000Z",
    "2026.11.02-1430-gc0ffee1", "CHG0031337", "SHOP-42", "PAY-1234-Add-Payment-Provider-V2-For-Germany",
    "refs/heads/feature/SHOP-1234-AddPaymentProviderV2", "refs/tags/release-2026-11-02", "dependabot/npm_and_yarn/lodash-4.17.21",
    "https://github.com/shop/checkout/actions/runs/123456789/attempts/1", "https://gitlab.example/shop/checkout/-/pipelines/8842",
    "https://host/@scope/package", "https://host:8443/@scope/package", "https://ci.example/job/Deploy%20Production/77/console?from=2026-11-02#L12",
    "git@github.com:shop/checkout.git", "ssh://git.example/shop.git", "s3://artifacts/shop/checkout-4.2.0.tar.gz",
    "registry.example.com:5000/shop/checkout:4.2.0", f"ghcr.io/shop/checkout@sha256:{SHA_256}", "quay.io/shop/token-service:4.2.0",
    "vault-secret-operator:2.0", "token-service:8080", "arn:aws:ecs:eu-west-1:123456789012:service/production/checkout",
    "123456789012.dkr.ecr.eu-west-1.amazonaws.com/checkout:4.2.0", "checkout-7d9f8b6c5d-x2k4z", "ip-10-0-12-34.eu-west-1.compute.internal",
    "i-0abcd1234ef567890", "2026-11-02T12:00:00.000000Z", "1793620800000000", "sha512-z4PhNX7vuL3xVChQ1m2AB9Yg5AULVxXcg/SpIdNs6c5H0NE8XYXysP+DGNKHfuwvY7kxvUdBeoGlODJ6+SfaPg==",
    "h1:ZRJJnS3CSJlnN2kfkfTqs2mvTQlfSoaEwAsfaSbNK2c=", "pkg:oci/checkout@sha256%3A244fd47e07d1004f0aed9c", "me@example.com", "Ada Lovelace <ada@example.com>",
    "production/eu-west-1/checkout/canary", "/srv/deploy/ShopCheckoutService2/releases/20261102T120000Z/bin", "KubernetesDeploymentReplicaSetV1Beta2Controller",
    "the token: expired at noon", "401: invalid token", "password_policy=strict", "max_tokens=4096", "token_ttl=3600", "secretName: checkout-tls",
    'secret "checkout-tls" not found', "exit 1", "authentication failed", "author: Ada", "keyboard: de", "primary_key=id", "cache.key=shop:basket",
    "docker run -u 1000:1000 shop", "mysql -h db -u root shop", "curl -u robot https://x", "PASSWORD=${DB_PASSWORD}", "password: '***'", "auth=none",
    "deploy --token-file /run/secrets/token --wait", "basic authentication-required", "bearer of bad news", "signature=verified", "Köln – 30 % done ✓",
)  # fmt: skip


@pytest.mark.parametrize("text", INNOCENT)
def test_what_is_no_secret_stays_as_it_is(text: str) -> None:
    value = event("failed", error=text, build_url=text, version=text, tags={"note": text}, config_changes={"x": text})

    assert redact_text(text) == text
    assert redact_value(value) is value or redact_value(value) == value


@pytest.mark.parametrize(
    ("name", "item"),
    [
        ("token_bucket", "enabled"),
        ("password_policy", "strict"),
        ("auth-service.replicas", "3"),
        ("image.token-service", "4.2.0"),
        ("DB_PASSWORD", f"sha256:{SHA_256}"),
        ("DB_PASSWORD", "${DB_PASSWORD}"),
        ("db_secret_arn", "arn:aws:secretsmanager:eu-west-1:123456789012:secret:db"),
        ("author", "ada"),
        ("monkey", "7"),
        ("deployment_id", "DE_kwDOABCdEf4xYz7812Qw3456"),
    ],
)
def test_names_that_only_speak_of_secrets_keep_their_values(name: str, item: str) -> None:
    value = event("started", tags={name: item})

    assert redact_value(value)["tags"] == {name: item}


def test_digests_and_ids_by_chance_are_never_taken_for_secrets() -> None:
    rng = random.Random(3)
    for length in (7, 12, 20, 32, 40, 64, 96, 128):
        for _ in range(50):
            made = text_of(rng, HEX, length)

            assert redact_text(f"built {made} and {made.upper()}") == f"built {made} and {made.upper()}"


def test_random_tokens_are_found_without_name_or_mark() -> None:
    rng = random.Random(4)
    kept = 0
    for _ in range(1000):
        token = text_of(rng, URL_SAFE, 43)
        kept += redact_text(token) == token

    assert kept <= 5


@given(st.text(max_size=300))
def test_redaction_raises_nothing_and_is_done_once(text: str) -> None:
    once = redact_text(text)

    assert redact_text(once) == once


def test_planted_texts_are_done_once() -> None:
    for item in SECRETS:
        once = redact_text(item.text)

        assert redact_text(once) == once


@pytest.mark.parametrize(
    "part",
    ["a", "a=", "password=", "a:", ";a", "https://", "-----BEGIN PRIVATE KEY-----", "--a ", "eyJ", "Aa1", "'", '\\"', " ",
     "<a>", "mysql -h ", "redis-cli a ", "://a:", "bearer ", "token= ", "[redacted:", "authorization:", "\x10password"],
)  # fmt: skip
def test_hostile_text_costs_no_more_than_its_length(part: str) -> None:
    text = (part * 16_384)[:16_384] + " password x://@"
    began = time.process_time()
    redact_text(text)
    redact_bytes(text.encode())

    assert time.process_time() - began < 2.0


def test_an_event_of_thirty_fields_costs_less_than_a_tenth_of_a_millisecond() -> None:
    value: dict[str, Any] = {
        name: f"{name}-4.2.0"
        for name in [
            "region",
            "environment",
            "service",
            "team",
            "kind",
            "strategy",
            "cohort",
            "version",
            "previous_version",
            "ref",
            "pipeline",
            "job",
            "stage",
            "deployer",
            "sprint",
            "source",
            "tier",
            "raw_status",
            "reporter",
            "instance",
        ]
    } | {
        "event_id": "019a43ee-5c00-7000-8000-000000000001",
        "deployment_id": "019a43ee-5c00-7000-8000-000000000002",
        "producer_id": "runner-7-1a2b3c4d-5e6f7a8b",
        "artifact_digest": f"sha256:{SHA_256}",
        "commit_sha": SHA,
        "repository": "https://github.com/shop/checkout.git",
        "build_url": "https://github.com/shop/checkout/actions/runs/123456789",
        "justification": "Ship the new basket",
        "error": "",
        "tags": {"sprint": "42"},
    }
    best = 1.0
    for _ in range(50):
        began = time.perf_counter()
        for _ in range(20):
            redact_value(value)
        best = min(best, (time.perf_counter() - began) / 20)
    print(f"redaction: {best * 1e6:.0f} µs an event of {len(value)} fields")  # noqa: T201  # shown by pytest -rP

    assert len(value) == 30
    assert best < 100e-6


def test_credentials_alone_are_left_out_of_urls() -> None:
    assert without_credentials("https://u:p@host/x?token=abcdefgh") == "https://host/x?token=abcdefgh"


def test_a_dead_letter_without_secrets_keeps_every_byte() -> None:
    rng = random.Random(5)
    for value in (None, b"", b"{}", rng.randbytes(4096), encode(RecordType.DEPLOYMENT_EVENT, event("started"))[:-3]):
        key, kept, headers = dead_letter(b"runner-7", value, [("mine", b"kept")], ORIGIN, WHY, "cut off")

        assert (key, kept) == (b"runner-7", value)
        assert [name for name, _ in headers] == ["mine", "dt-reason", "dt-detail", "dt-origin"]


def test_no_planted_secret_stays_in_a_dead_letter() -> None:
    for item in SECRETS:
        whole = event(
            "failed", error=item.text, tags={item.name: item.secret, "note": item.text}, justification=item.text
        )
        sound = encode(RecordType.DEPLOYMENT_EVENT, whole)
        for value in (sound, sound[:-3], b"\x00" + sound, item.text.encode(), b'{"tags": [' + item.text.encode()):
            given_headers: list[tuple[str, str | bytes | None]] = [("note", item.text.encode()), ("none", None)]
            key, kept, headers = dead_letter(item.text.encode(), value, given_headers, ORIGIN, WHY, f"bad: {item.text}")
            everything = b"\n".join(
                [key or b"", kept or b"", *(h.encode() if isinstance(h, str) else h or b"" for _, h in headers)]
            )

            assert item.secret.encode() not in everything, item
            assert REDACTED in dict(headers)


def test_a_sound_dead_letter_can_be_replayed_without_its_secrets() -> None:
    value = encode(RecordType.DEPLOYMENT_EVENT, event("failed", tags={"db_password": "hunter2"}))
    _, kept, headers = dead_letter(b"k", value, [], ORIGIN, DeadLetterReason.RULE_FAILED, "lifecycle: KeyError('x')")

    assert decode(kept)[1] == event("failed", tags={"db_password": "[redacted:password]"})
    assert dict(headers)[REDACTED] == b"record"


def test_damaged_bytes_stay_damaged_at_the_same_place() -> None:
    value = encode(RecordType.DEPLOYMENT_EVENT, event("failed", tags={"db_password": "hunter2"}))[:-3]
    _, kept, headers = dead_letter(b"k", value, [], ORIGIN, WHY, "cut")
    with pytest.raises(DecodeError) as before:
        decode(value)
    with pytest.raises(DecodeError) as after:
        decode(kept)

    assert kept is not None
    assert len(kept) == len(value)
    assert b"hunter2" not in kept
    assert str(before.value) == str(after.value)
    assert dict(headers)[REDACTED] == b"password"


def test_the_detail_of_a_dead_letter_is_cut_behind_its_secrets() -> None:
    _, _, headers = dead_letter(None, b"x", [], ORIGIN, WHY, "x" * 1010 + " password=hunter2hunter2hunter2")

    assert dict(headers)[DETAIL] == b"x" * 1010 + b" password=[red"


def test_deep_values_are_no_trouble() -> None:
    nested: Any = "password=hunter2"
    for _ in range(MAX_DEPTH):
        nested = {"a": [nested]}

    assert "hunter2" not in repr(redact_value({"tags": nested}))


@pytest.mark.requirement("M2.6")
@pytest.mark.parametrize(
    "stretch",
    [
        *("sk-", "sk-a", "aB3", "aB3/", "a.b-c.", "eyJabcdefgh.", "glpat-", "ghs_", "SG.", "xoxb-", "dtk_", "pypi-"),
        *("password=", 'password="', 'password=\\"', "token=a;", "key=aaaaaaaaaaaaaaaaaaaaaaa;", "--password ", "-u a:"),
        *("://a:", "://", "<token>", "mysql -x ", "redis-cli ", "bearer ", "authorization: ", "-----BEGIN PRIVATE KEY-----"),
    ],
)  # fmt: skip
def test_no_text_takes_longer_than_in_proportion_to_its_length(stretch: str) -> None:
    """A deploy waits for it, and so does a gateway, for what anybody sends over syslog."""
    text = stretch * (200_000 // len(stretch))
    began = time.process_time()
    for whole in (text, f"{text}!", f"{text}.atlasv1.", f"{text}=x", f"{text}@"):
        redact_text(whole)

    assert time.process_time() - began < 10


def test_a_key_is_found_behind_other_words() -> None:
    key = "sk-proj-" + "aB3dE5fG7h" * 5
    state = "AbCdEfGhIjKl" + ".atlasv1." + "x" * 40

    assert redact_text(f"is {key}, x.{state}") == "is [redacted:api_key], x.[redacted:terraform_token]"
    assert key not in redact_text(f"my-{key}")
