"""Permits: one good one is allowed, and everything that is not exactly that is refused, with every reason."""

from __future__ import annotations

import base64
import json
from dataclasses import replace

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from deploytrail_schemas.errors import ConfigurationError
from deploytrail_schemas.permits import Authority, Subject, read_keys, read_unverified, verify_permit
from deploytrail_schemas.reasons import PermitRefusal as No
from hypothesis import given
from hypothesis import strategies as st
from support.permits import (
    AUDIENCE,
    AUTHORITY,
    DIGEST,
    ISSUER,
    KEY,
    KID,
    NOON,
    OTHER_DIGEST,
    OTHER_KEY,
    SUBJECT,
    claims,
    jwk_of,
    jwks,
    permit,
)

RSA_KEY = rsa.generate_private_key(65537, 2048)
GOOD = permit()
HEAD, BODY, SIGNATURE = GOOD.split(".")
PUBLIC_PEM = KEY.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def reasons(text: str, subject: Subject = SUBJECT, now: float = NOON + 60, **more: object) -> tuple[No, ...]:
    found = verify_permit(text, subject, AUTHORITY, now=now, **more)  # type: ignore[arg-type]
    assert found.is_allowed == (not found.problems)
    return found.reasons


def b64(value: object) -> str:
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def hs256(secret: bytes) -> str:
    """Signed by HMAC: PyJWT itself refuses to use a public key for that."""
    import hmac

    signed = f"{b64({'alg': 'HS256', 'typ': 'deploytrail-permit+jwt', 'kid': KID})}.{b64(claims())}"
    return f"{signed}.{b64(hmac.digest(secret, signed.encode(), 'sha256'))}"


@pytest.mark.requirement("M5.4")
def test_a_good_permit_is_allowed_and_says_what_for() -> None:
    found = verify_permit(GOOD, SUBJECT, AUTHORITY, now=NOON + 60)

    assert found.is_allowed
    assert found.permit is not None
    assert (found.permit.id, found.permit.deployment_id, found.permit.change_ticket) == (
        "permit-1",
        "checkout-42",
        "CHG0031337",
    )
    assert found.permit.expires_at - found.permit.issued_at == 300


TWICE = b'{"sub": "a", "sub": "b"}'
REFUSED: dict[str, tuple[str, No]] = {
    "none": ("", No.NO_PERMIT),
    "no jwt": ("dtk_nothing", No.MALFORMED),
    "two parts": (f"{HEAD}.{BODY}", No.MALFORMED),
    "cut short": (GOOD[:-1], No.MALFORMED),
    "cut in the middle": (f"{HEAD}.{BODY[:-7]}.{SIGNATURE}", No.MALFORMED),
    "signature removed": (f"{HEAD}.{BODY}.", No.MALFORMED),
    "signature of other length": (f"{HEAD}.{BODY}.{b64(b'x' * 32)}", No.WRONG_SIGNATURE),
    "standard base64": (f"{HEAD}.{BODY}.{'+' * 86}", No.MALFORMED),
    "claims are a list": (f"{HEAD}.{b64([1])}.{SIGNATURE}", No.MALFORMED),
    "duplicate claims": (f"{HEAD}.{b64(TWICE)}.{SIGNATURE}", No.MALFORMED),
    "huge": ("a" * 9000, No.MALFORMED),
    "claims exchanged": (f"{HEAD}.{b64(claims(sub='checkout-42', jti='permit-2'))}.{SIGNATURE}", No.WRONG_SIGNATURE),
    "alg none": (
        jwt.encode(claims(), "", "none", {"typ": "deploytrail-permit+jwt", "kid": KID}) + "AA",
        No.WRONG_ALGORITHM,
    ),
    "HS256 with the public key's text": (hs256(PUBLIC_PEM), No.WRONG_ALGORITHM),
    "HS256 with the public key's bytes": (hs256(KEY.public_key().public_bytes_raw()), No.WRONG_ALGORITHM),
    "RS256": (permit(RSA_KEY, alg="RS256"), No.WRONG_ALGORITHM),
    "another's key": (permit(OTHER_KEY), No.WRONG_SIGNATURE),
    "another's key, brought along": (permit(OTHER_KEY, head={"jwk": jwk_of(OTHER_KEY)}), No.WRONG_SIGNATURE),
    "unknown kid": (permit(head={"kid": "2025-01"}), No.UNKNOWN_KEY),
    "no kid": (permit(head={"kid": None}), No.UNKNOWN_KEY),
    "ordinary JWT": (permit(head={"typ": "JWT"}), No.WRONG_TYPE),
    "crit": (permit(head={"crit": ["exp"]}), No.MALFORMED),
    "wrong audience": (permit(aud="shop"), No.WRONG_AUDIENCE),
    "wrong issuer": (permit(iss="https://gate.example.evil"), No.WRONG_ISSUER),
    "expired": (permit(iat=NOON - 900, nbf=NOON - 900, exp=NOON - 1), No.EXPIRED),
    "not yet valid": (permit(iat=NOON, nbf=NOON + 200, exp=NOON + 300), No.NOT_YET_VALID),
    "issued in the future": (permit(iat=NOON + 200, nbf=NOON, exp=NOON + 300), No.NOT_YET_VALID),
    "too long-lived": (permit(exp=NOON + 901), No.TOO_LONG_LIVED),
    "too long-lived by nbf": (permit(iat=NOON + 30, nbf=NOON - 600, exp=NOON + 400), No.TOO_LONG_LIVED),
    "other digest": (permit(artifact_digest=OTHER_DIGEST), No.OTHER_ARTIFACT),
    "other environment": (permit(environment="staging"), No.OTHER_ENVIRONMENT),
    "other service": (permit(service="checkout-2"), No.OTHER_SERVICE),
    "other region": (permit(region="us-east-1"), No.OTHER_REGION),
    "other deployment": (permit(sub="checkout-43"), No.OTHER_DEPLOYMENT),
    "no jti": (permit(jti=None), No.MISSING_CLAIM),
    "no exp": (permit(exp=None), No.MISSING_CLAIM),
    "no ticket": (permit(change_ticket=""), No.MISSING_CLAIM),
    "empty audience": (permit(aud=[]), No.MISSING_CLAIM),
    "times as text": (permit(iat=NOON, nbf=NOON, exp=True), No.INVALID_CLAIM),
    "digest that is none": (permit(artifact_digest="latest"), No.INVALID_CLAIM),
    "service that is a list": (permit(service=["checkout"]), No.INVALID_CLAIM),
}


@pytest.mark.requirement("M5.4")
@pytest.mark.parametrize("case", REFUSED)
def test_whatever_is_not_that_permit_is_refused(case: str) -> None:
    text, expected = REFUSED[case]

    assert reasons(text) == (expected,)


@pytest.mark.requirement("M5.4")
def test_every_reason_is_told_at_once() -> None:
    text = permit(OTHER_KEY, aud="shop", service="cart", environment="staging", exp=NOON + 3600, jti="permit-9")

    assert reasons(text, now=NOON + 9000, used={"permit-9"}) == (
        No.WRONG_SIGNATURE,
        No.EXPIRED,
        No.TOO_LONG_LIVED,
        No.OTHER_SERVICE,
        No.OTHER_ENVIRONMENT,
        No.WRONG_AUDIENCE,
        No.ALREADY_USED,
    )


@pytest.mark.requirement("M5.4")
def test_a_permit_that_was_used_is_refused() -> None:
    assert reasons(GOOD, used={"permit-0"}) == ()
    assert reasons(GOOD, used={"permit-1"}) == (No.ALREADY_USED,)


@pytest.mark.requirement("M5.4")
@pytest.mark.parametrize("digest", ["", "latest", "sha256:12", "sha512:" + "1b" * 64, DIGEST.upper()])
def test_what_is_deployed_must_be_named_by_its_digest(digest: str) -> None:
    assert reasons(GOOD, replace(SUBJECT, artifact_digest=digest)) == (No.NO_DIGEST,)


def test_what_cannot_be_known_is_not_compared_and_an_empty_name_fits_nothing() -> None:
    assert reasons(GOOD, Subject(DIGEST)) == ()
    assert reasons(GOOD, Subject(DIGEST, service="", deployment_id="")) == (No.OTHER_SERVICE, No.OTHER_DEPLOYMENT)


def test_names_are_compared_as_everywhere_and_ids_to_the_letter() -> None:
    assert reasons(GOOD, replace(SUBJECT, service=" Checkout ", environment="PRODUCTION")) == ()
    assert reasons(GOOD, replace(SUBJECT, deployment_id="Checkout-42")) == (No.OTHER_DEPLOYMENT,)


@pytest.mark.parametrize(("after", "expected"), [(-31, No.NOT_YET_VALID), (-30, None), (329, None), (330, No.EXPIRED)])
def test_half_a_minute_is_left_for_clocks_that_differ(after: int, expected: No | None) -> None:
    assert reasons(GOOD, now=NOON + after) == ((expected,) if expected else ())


@pytest.mark.parametrize(
    "other",
    [
        jwk_of(RSA_KEY),
        {"kty": "OKP", "crv": "X25519", "x": jwk_of()["x"], "kid": KID},
        jwk_of(use="enc"),
        jwk_of() | {"x": "AA"},
        jwk_of() | {"alg": "RS256"},
    ],
    ids=["RSA", "X25519", "for encryption", "too short", "other algorithm"],
)
@pytest.mark.requirement("M5.4")
def test_a_key_of_another_type_signs_no_permit(other: dict[str, object]) -> None:
    authority = Authority(read_keys(jwks(other), "keys"), ISSUER, AUDIENCE)

    assert verify_permit(GOOD, SUBJECT, authority, now=NOON).reasons == (No.UNSUITABLE_KEY,)


def test_a_key_that_is_replaced_serves_beside_the_next_one() -> None:
    keys = read_keys(jwks(jwk_of(), jwk_of(OTHER_KEY, "2026-12")), "keys")
    texts = [GOOD, permit(OTHER_KEY, head={"kid": "2026-12"})]

    assert all(verify_permit(t, SUBJECT, Authority(keys, ISSUER, AUDIENCE), now=NOON).is_allowed for t in texts)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"{", "is no JWKS: not JSON"),
        (b'{"keys": []}', "a list `keys` that is not empty"),
        (b'{"keys": [{"kty": "OKP"}]}', "has no `kid`"),
        (jwks(jwk_of(), jwk_of(OTHER_KEY)), "stands twice"),
        (jwks(jwk_of(d="c2VjcmV0")), "holds the private key of '2026-11'"),
    ],
)
def test_a_file_that_is_no_jwks_is_refused_with_its_name(data: bytes, message: str) -> None:
    with pytest.raises(ConfigurationError, match=f"keys.json.*{message}") as caught:
        read_keys(data, "keys.json")

    assert "c2VjcmV0" not in str(caught.value)


def test_what_a_permit_pretends_can_be_read_and_proves_nothing() -> None:
    assert read_unverified(permit(OTHER_KEY))["jti"] == "permit-1"
    assert read_unverified("nonsense") == {}
    assert verify_permit(permit(OTHER_KEY), SUBJECT, AUTHORITY, now=NOON).permit is None


@given(st.text(max_size=200) | st.binary(max_size=90).map(lambda data: f"{HEAD}.{b64(data)}.{SIGNATURE}"))
def test_no_text_crashes_the_check_or_passes_it(text: str) -> None:
    assert reasons(text)


@given(st.integers(0, len(GOOD) - 1), st.sampled_from("ABCabc019-_."))
def test_no_changed_letter_passes(place: int, letter: str) -> None:
    changed = GOOD[:place] + letter + GOOD[place + 1 :]

    assert (reasons(changed) == ()) == (changed == GOOD)
