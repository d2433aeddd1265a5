"""The gate's keys: the newest signs, all are published, and one that others may read is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from deploytrail_processors.gate_keys import GateKeys
from deploytrail_processors.rules.approval import Judgement, Position
from deploytrail_processors.rules.approval_steps import Asked
from deploytrail_processors.rules.permit import Issuer, claims_of, issued
from deploytrail_schemas.codec import encode
from deploytrail_schemas.errors import ConfigurationError
from deploytrail_schemas.permits import Authority, Subject, read_keys, verify_permit
from deploytrail_schemas.reasons import Reason
from deploytrail_schemas.records import RecordType
from support.gate import AUDIENCE, DIGEST, ISSUER, make_key
from support.values import MINUTE, NOON, SECOND

ASKED = Asked("shop-1", "shop", "production", "eu-west-1", DIGEST)
ALLOWED = Judgement(
    Position.ALLOWED, Reason.APPROVED, (), ("approval/production/1",), {"change_ticket": "CHG1"}, ("ada",)
)


@pytest.mark.requirement("M5.4")
def test_the_newest_key_signs_and_all_are_published(tmp_path: Path) -> None:
    make_key(tmp_path, "2026-01")
    keys = GateKeys(tmp_path)
    make_key(tmp_path, "2026-02")
    text, kid = keys.sign(claims_of(ASKED, ALLOWED, Issuer(ISSUER, AUDIENCE), NOON))
    published = keys.published()
    authority = Authority(read_keys(json.dumps(published).encode(), "keys"), ISSUER, AUDIENCE)
    found = verify_permit(text, Subject(DIGEST, "shop", "production", "eu-west-1", "shop-1"), authority, now=NOON / 1e6)

    assert (kid, found.is_allowed) == ("2026-02", True)
    assert [(key["kid"], sorted(key)) for key in published["keys"]] == [
        (kid, ["alg", "crv", "kid", "kty", "use", "x"]) for kid in ("2026-01", "2026-02")
    ]


def test_a_key_that_cannot_be_one_is_refused_and_what_stood_before_stands(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="has no key"):
        GateKeys(tmp_path)
    make_key(tmp_path, "2026-01")
    keys = GateKeys(tmp_path)
    (tmp_path / "2026-02.pem").write_text("no key")
    (tmp_path / "2026-02.pem").chmod(0o600)
    with pytest.raises(ConfigurationError, match=r"2026-02\.pem is no private key"):
        GateKeys(tmp_path)

    assert keys.sign({})[1] == "2026-01"
    pem = rsa.generate_private_key(65537, 2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (tmp_path / "2026-02.pem").write_bytes(pem)
    with pytest.raises(ConfigurationError, match="no Ed25519 key"):
        GateKeys(tmp_path)
    (tmp_path / "2026-02.pem").unlink()
    (tmp_path / "2026-01.pem").chmod(0o640)
    with pytest.raises(ConfigurationError, match="read by others than its owner"):
        GateKeys(tmp_path)


@pytest.mark.requirement("M5.4")
@pytest.mark.parametrize(
    ("until", "seconds", "lives"),
    [(None, 900, 900), (None, 86_400, 900), (None, 60, 60), (NOON + 5 * MINUTE, 900, 300), (NOON + 1, 900, 1)],
)
def test_a_permit_ends_with_what_it_rests_on(until: int | None, seconds: int, lives: int) -> None:
    judgement = Judgement(Position.ALLOWED, Reason.APPROVED, (), (), until=until)
    claims = claims_of(ASKED, judgement, Issuer(ISSUER, AUDIENCE, seconds), NOON)

    assert (claims["iat"], claims["exp"] - claims["iat"]) == (NOON // SECOND, lives)
    assert claims["change_ticket"] == "none"


def test_the_same_question_within_a_second_has_the_same_permit() -> None:
    issuer = Issuer(ISSUER, AUDIENCE)
    first, again, later = (claims_of(ASKED, ALLOWED, issuer, NOON + more) for more in (0, SECOND - 1, SECOND))
    records = [
        issued(claims, ALLOWED, kid="k", caller="ci", tzdata="2026f", now=NOON) for claims in (first, again, later)
    ]

    assert first == again
    assert first["jti"] != later["jti"]
    assert records[0]["approval_id"] == records[1]["approval_id"] != records[2]["approval_id"]
    assert all(encode(RecordType.APPROVAL, record) for record in records)
    assert records[0]["tags"]["approvers"] == "ada"
