"""Records survive the wire, and nothing else is taken for one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from deploytrail_schemas.codec import (
    CONFLUENT_MARKER,
    HEADER_BYTES,
    MARKER,
    MAX_MESSAGE_BYTES,
    DecodeError,
    decode,
    decode_routing,
    encode,
)
from deploytrail_schemas.errors import EncodeError
from deploytrail_schemas.reasons import DeadLetterReason
from deploytrail_schemas.records import RecordType
from deploytrail_schemas.schema import fields, fingerprint, schema_fingerprint, versions
from hypothesis import given
from hypothesis import strategies as st

SAMPLES = Path(__file__).with_name("samples")
NOON = 1_793_620_800_000_000  # 2026-11-02T12:00:00Z
STARTED: dict[str, Any] = {
    "event_id": "019a43ee-5c00-7000-8000-000000000001",
    "event_type": "started",
    "deployment_id": "shop-1",
    "occurred_at": NOON,
    "region": "eu-west-1",
    "environment": "production",
    "service": "shop",
    "producer_id": "runner-7",
    "producer_seq": 3,
}


def values_of(kind: RecordType) -> st.SearchStrategy[dict[str, Any]]:
    """Any value that a kind's schema admits."""
    return st.fixed_dictionaries({field["name"]: values_of_type(field["type"]) for field in fields(kind)})


def values_of_type(declared: Any) -> st.SearchStrategy[Any]:
    if isinstance(declared, list):
        return st.one_of([values_of_type(branch) for branch in declared])
    name = declared if isinstance(declared, str) else declared["type"]
    text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
    simple = {
        "null": st.none(),
        "string": text,
        "long": st.integers(-(1 << 63), (1 << 63) - 1),
        "double": st.floats(allow_nan=False),
        "boolean": st.booleans(),
        "map": st.dictionaries(text, text, max_size=4),
        "array": st.lists(text, max_size=4),
    }
    return st.sampled_from(declared["symbols"]) if name == "enum" else simple[name]


@pytest.mark.parametrize("kind", RecordType)
def test_every_value_survives_the_wire(kind: RecordType) -> None:
    @given(values_of(kind))
    def survives(value: dict[str, Any]) -> None:
        assert decode(encode(kind, value)) == (kind, value)

    survives()


def test_bytes_are_single_object_encoded() -> None:
    data = encode(RecordType.DEPLOYMENT_EVENT, STARTED)

    assert data[:2] == bytes.fromhex("c301")
    assert data[2:10] == fingerprint(RecordType.DEPLOYMENT_EVENT)
    assert data[10:47] == bytes([72]) + STARTED["event_id"].encode()


def test_fingerprint_is_the_one_of_the_specification() -> None:
    # Avro 1.12, "Schema fingerprints": CRC-64-AVRO of "null" is 0x63dd24e7cc258f8a, sent little-endian.
    assert schema_fingerprint("null") == bytes.fromhex("8a8f25cce724dd63")  # type: ignore[arg-type]


def test_fingerprints_of_released_versions_never_change() -> None:
    released = json.loads((SAMPLES / "fingerprints.json").read_text())
    found = {f"{k.file_stem}.v{v}": schema_fingerprint(s).hex() for k in RecordType for v, s in versions(k).items()}

    assert found == released


@pytest.mark.requirement("M7.4")
@pytest.mark.parametrize("sample", sorted(SAMPLES.glob("*.v*.hex")), ids=lambda path: path.stem)
def test_every_version_that_was_written_is_read_under_the_newest(sample: Path) -> None:
    expected = json.loads(sample.with_suffix(".json").read_text("utf-8"))
    kind, value = decode(bytes.fromhex(sample.read_text()))

    assert kind.file_stem == sample.stem.partition(".")[0]
    assert {name: value[name] for name in expected} == expected


def test_every_version_has_a_sample() -> None:
    have = {path.stem for path in SAMPLES.glob("*.hex")}

    assert have == {f"{kind.file_stem}.v{version}" for kind in RecordType for version in versions(kind)}


def test_routing_reads_the_leading_fields_only() -> None:
    kind, routing = decode_routing(encode(RecordType.DEPLOYMENT_EVENT, STARTED))

    assert (kind, routing) == (RecordType.DEPLOYMENT_EVENT, STARTED)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (None, DeadLetterReason.EMPTY),
        (b"", DeadLetterReason.EMPTY),
        (b"{}", DeadLetterReason.UNKNOWN_WIRE_FORMAT),
        (bytes([CONFLUENT_MARKER, 0, 0, 0, 1, 2]), DeadLetterReason.UNKNOWN_WIRE_FORMAT),
        (MARKER, DeadLetterReason.UNKNOWN_SCHEMA),
        (MARKER + b"12345678" + b"body", DeadLetterReason.UNKNOWN_SCHEMA),
        (encode(RecordType.DEPLOYMENT_EVENT, STARTED)[:-1], DeadLetterReason.MALFORMED),
        (encode(RecordType.DEPLOYMENT_EVENT, STARTED) + b"\0", DeadLetterReason.MALFORMED),
        (MARKER + fingerprint(RecordType.DEPLOYMENT_EVENT) + b"\xff" * 40, DeadLetterReason.MALFORMED),
        (MARKER + b"\0" * MAX_MESSAGE_BYTES, DeadLetterReason.TOO_LARGE),
    ],
)
def test_bad_bytes_are_refused_with_a_reason(data: bytes | None, reason: DeadLetterReason) -> None:
    with pytest.raises(DecodeError) as caught:
        decode(data)

    assert caught.value.reason is reason
    assert caught.value.detail


@given(st.binary(max_size=400), st.sampled_from(list(RecordType)))
def test_no_bytes_crash_the_decoder(body: bytes, kind: RecordType) -> None:
    try:
        decode(MARKER + fingerprint(kind) + body)
    except DecodeError as error:
        assert error.reason is DeadLetterReason.MALFORMED


def test_every_truncation_is_noticed() -> None:
    data = encode(RecordType.DEPLOYMENT_EVENT, STARTED)
    for length in range(HEADER_BYTES, len(data)):
        with pytest.raises(DecodeError):
            decode(data[:length])


@pytest.mark.parametrize(
    "change",
    [
        {"service": 3},
        {"service": None},
        {"occurred_at": "2026-11-02"},
        {"event_type": "exploded"},
        {"producer_seq": 1 << 63},
        {"servcie": "shop"},
        {"tags": {"a": 1}},
    ],
)
def test_values_that_do_not_fit_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(EncodeError, match="DeploymentEvent"):
        encode(RecordType.DEPLOYMENT_EVENT, STARTED | change)
