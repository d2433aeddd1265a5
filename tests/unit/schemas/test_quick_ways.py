"""What is quick gives exactly what the plain way gives: reading JSON, checking it, encoding it, redacting it."""

from __future__ import annotations

import json
from io import BytesIO
from typing import Any

import pytest
from deploytrail_schemas.avro_writer import long_bytes, writer_for
from deploytrail_schemas.json_values import MAX_DEPTH, JsonError, _explained, _read_strictly, parse_json
from deploytrail_schemas.quick_check import quick_check
from deploytrail_schemas.records import RecordType
from deploytrail_schemas.redaction import redact_value
from deploytrail_schemas.schema import avro_schema, fields, without_logical_types
from fastavro import parse_schema, schemaless_writer
from hypothesis import given, settings
from hypothesis import strategies as st
from unit.schemas.test_codec import values_of
from unit.schemas.test_json_schema import by_hand, usual

# ruff: noqa: E501  # lists of many short texts read best so
# Pieces of which chance makes texts that are nearly JSON.
PIECES = (
    '{"a":1,"a" :2}', '{"a":1,"a"\n:2}', '{"a":":","a":2}', '{"a":1,"a"\t:":"}', '{"\\":":1}', '"a" :',
    '{"a":1}', '{"a":1,"a":2}', '{"a":{"a":1},"b":[{"a":2}]}', '"\\u00e4"', '"\\ud800"', '"\\"', '"\\\\"', '"{[:"', '"', "\\",
    "[", "]", "{", "}", ":", ",", " ", "1", "-0", "1e5", "1E400", "1.5", "NaN", "-Infinity", "true", "false", "null", "tru",
    "123456789012345678", "9223372036854775807", "9223372036854775808", "0.1234567890123456789", "\x00", "\n", "ü", '"e":', '"a":',
)  # fmt: skip


def plainly(text: str) -> Any:
    """What the plain way says of a text: depth by looking at each character, then the strict reader."""
    depth, in_string, escaped = 0, False, False
    for char in text:
        if in_string:
            escaped, in_string = (char == "\\" and not escaped), (char != '"' or escaped)
        elif char == '"':
            in_string = True
        elif char in "[{":
            depth += 1
            if depth > MAX_DEPTH:
                raise JsonError("nested deeper")
        elif char in "]}":
            depth -= 1
    return _read_strictly(text)


def outcome(read: Any, text: str) -> Any:
    try:
        return "read", repr(read(text))
    except JsonError as error:
        return "refused", "nested deeper" if "nested deeper" in error.detail else error.detail


@settings(max_examples=3000, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=8).map("".join))
def test_quick_reading_reads_and_refuses_the_same(text: str) -> None:
    def quickly(given: str) -> Any:
        return parse_json(given.encode())

    assert outcome(quickly, text) == outcome(plainly, text)


@settings(max_examples=500, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    ),
    st.booleans(),
)
def test_quick_reading_gives_the_same_values(value: Any, ascii_only: bool) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only)

    assert outcome(lambda given: parse_json(given.encode()), text) == outcome(plainly, text)


@pytest.mark.parametrize("depth", [MAX_DEPTH, MAX_DEPTH + 1])
def test_depth_is_counted_outside_of_strings_only(depth: int) -> None:
    deep = '{"[[{\\"\\\\": ' * depth + '"]]\\""' + "}" * depth

    assert (outcome(lambda given: parse_json(given.encode()), deep)[0] == "read") is (depth <= MAX_DEPTH)


@pytest.mark.parametrize("kind", RecordType)
def test_the_quick_check_accepts_only_what_is_sound_and_gives_the_same_value(kind: RecordType) -> None:
    accepted = 0
    for obj in by_hand(kind):
        if isinstance(obj, dict) and (value := quick_check(kind, obj)) is not None:
            accepted += 1
            expected, wrong = _explained(kind, obj)

            assert wrong == []
            assert (value, [type(item) for item in value.values()]) == (
                expected,
                [type(item) for item in expected.values()],
            )
    assert accepted > 10
    assert quick_check(kind, usual(kind)) is not None


def by_fastavro(kind: RecordType, value: dict[str, Any]) -> bytes:
    out = BytesIO()
    schemaless_writer(out, parse_schema(without_logical_types(avro_schema(kind))), value, strict_allow_default=True)
    return out.getvalue()


@pytest.mark.parametrize("kind", RecordType)
def test_the_writer_of_a_schema_writes_the_bytes_that_fastavro_writes(kind: RecordType) -> None:
    write = writer_for(without_logical_types(avro_schema(kind)))
    optional = [field["name"] for field in fields(kind) if "default" in field]

    @settings(max_examples=200, deadline=None)
    @given(values_of(kind), st.sets(st.sampled_from(optional)) if optional else st.just(set()))
    def same(value: dict[str, Any], left_out: set[str]) -> None:
        given = {name: item for name, item in value.items() if name not in left_out}

        assert write(given) == by_fastavro(kind, given)

    same()


@pytest.mark.parametrize("kind", RecordType)
def test_the_writer_of_a_schema_leaves_what_does_not_fit_to_fastavro(kind: RecordType) -> None:
    schema = without_logical_types(avro_schema(kind))
    write = writer_for(schema)
    whole = quick_check(kind, usual(kind))
    assert whole is not None

    assert write(whole) is not None
    assert write(whole | {"unheard_of": ""}) is None
    for name in whole:
        assert write(whole | {name: object()}) is None
    for field in schema["fields"]:
        if "default" not in field and field["name"] in whole:
            assert write({key: item for key, item in whole.items() if key != field["name"]}) is None


@given(st.integers(-(1 << 63), (1 << 63) - 1))
def test_every_long_has_its_bytes(number: int) -> None:
    out = BytesIO()
    schemaless_writer(out, parse_schema("long"), number)

    assert long_bytes(number) == out.getvalue()


SECRET = "ghp_" + "a1B2c3D4" * 4


@pytest.mark.parametrize("field", ["error", "deployment_id", "service"])
def test_a_secret_is_found_again_and_beside_texts_that_are_known(field: str) -> None:
    clean = {"service": "checkout", "deployment_id": "checkout-1", "error": "it broke", "tags": {"team": "shop"}}
    for _ in range(3):
        assert redact_value(clean) is clean
        told = redact_value(clean | {field: f"it said {SECRET}"})

        assert told == clean | {field: "it said [redacted:github_token]"}


def test_what_is_clean_as_a_name_is_searched_where_it_is_none() -> None:
    token = "q7Zk2Vx9Lm4Tn8Rb3Ws6Yd1Hf5Jc0Pg"
    for _ in range(2):
        assert redact_value({"build_id": token}) == {"build_id": token}
        assert redact_value({"error": token}) == {"error": "[redacted:random]"}
        assert redact_value({"tags": {"note": token, "build_id": token}})["tags"]["note"] == "[redacted:random]"


def test_what_is_clean_under_one_name_is_searched_under_another() -> None:
    for _ in range(2):
        assert redact_value({"tags": {"note": "hunter2-and-more"}}) == {"tags": {"note": "hunter2-and-more"}}
        assert redact_value({"tags": {"password": "hunter2-and-more"}}) == {"tags": {"password": "[redacted:password]"}}
