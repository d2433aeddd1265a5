"""Signatures of records: nothing that the intake app believes can be changed under one."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from deploytrail_schemas.errors import ConfigurationError, MissingDependencyError
from deploytrail_schemas.record_signatures import Signer, is_signed, public_key_of, read_signature, signed_bytes
from deploytrail_schemas.tokens import make_token
from hypothesis import given
from hypothesis import strategies as st

TOKEN = make_token()
RECORD: dict[str, Any] = {
    "topic": "deploytrail.intake",
    "partition": 1,
    "key": b"host-1",
    "headers": {"dt-sent-at": b"1793620800000000", "dt-echo": b"1,2,3"},
    "value": b"\xc3\x01value",
}
CHANGES: list[dict[str, Any]] = [
    {"topic": "deploytrail.events"},
    {"partition": 15},
    {"key": b"host-2"},
    {"value": b"\xc3\x01valuf"},
    {"headers": RECORD["headers"] | {"dt-sent-at": b"1793620800000001"}},
    {"headers": RECORD["headers"] | {"dt-echo": b"1,2,4"}},
    {"headers": RECORD["headers"] | {"dt-clock": b"0,1"}},
    {"headers": RECORD["headers"] | {"dt-sent-monotonic": b"1"}},
    {"headers": RECORD["headers"] | {"dt-received-at": b"1793620800000000"}},
    {"headers": RECORD["headers"] | {"dt-reporter": b"backfill"}},
]


def signature_of(record: dict[str, Any]) -> tuple[str, bytes]:
    name, header = Signer(TOKEN.text, "DEPLOYTRAIL_TOKEN").header(
        record["topic"], record["partition"], record["key"], list(record["headers"].items()), record["value"]
    )
    read = read_signature(header.decode())
    assert name == "dt-signature" and read is not None
    return read


@pytest.mark.requirement("M2.6")
def test_a_signature_holds_for_its_record() -> None:
    identity, signature = signature_of(RECORD)

    assert identity == TOKEN.id
    assert is_signed(public_key_of(TOKEN), signature, signed_bytes(**RECORD))
    assert not is_signed(public_key_of(make_token()), signature, signed_bytes(**RECORD))


@pytest.mark.requirement("M2.6")
@pytest.mark.parametrize("change", CHANGES, ids=lambda change: next(iter(change)))
def test_a_changed_record_is_not_signed(change: dict[str, Any]) -> None:
    _, signature = signature_of(RECORD)

    assert not is_signed(public_key_of(TOKEN), signature, signed_bytes(**(RECORD | change)))


@given(st.lists(st.binary(max_size=8), min_size=2, max_size=2), st.lists(st.binary(max_size=8), min_size=2, max_size=2))
def test_two_records_never_share_their_bytes(one: list[bytes], other: list[bytes]) -> None:
    first, second = (signed_bytes("t", 0, key, {}, value) for key, value in (one, other))

    assert (first == second) == (one == other)


@given(st.text())
def test_no_header_crashes_the_reader(header: str) -> None:
    found = read_signature(header)

    assert found is None or len(found[1]) == 64


def test_a_key_that_is_none_signs_nothing() -> None:
    assert not is_signed(b"", b"0" * 64, b"")
    assert not is_signed(b"\x00" * 32, b"\x00" * 64, b"data")


def test_a_cut_token_is_refused_by_its_setting_and_not_shown() -> None:
    with pytest.raises(ConfigurationError, match="DEPLOYTRAIL_TOKEN is the token's checksum") as caught:
        Signer(TOKEN.text[:-1] + ("0" if TOKEN.text[-1] != "0" else "1"), "DEPLOYTRAIL_TOKEN")

    assert TOKEN.text[17:40] not in str(caught.value)


def test_without_cryptography_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.asymmetric.ed25519", None)

    with pytest.raises(MissingDependencyError, match=r"pip install 'deploytrail\[signing\]'"):
        Signer(TOKEN.text, "DEPLOYTRAIL_TOKEN")
    with pytest.raises(MissingDependencyError, match="pip install"):
        public_key_of(TOKEN)
