"""The JSON Schemas say what the validator does, and what is valid is what Avro stores."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from deploytrail_schemas.codec import decode, encode
from deploytrail_schemas.json_lines import canonical, json_line
from deploytrail_schemas.json_schema import FOLDER, file_name, file_text, json_schema, write_files
from deploytrail_schemas.json_values import JsonError, parse_json, validate
from deploytrail_schemas.records import CANONICAL_FIELDS, RecordType
from deploytrail_schemas.schema import AvroSchema, fields, is_instant
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

SAMPLES = Path(__file__).with_name("samples")
UUID = "019a43ee-5c00-7000-8000-000000000001"
NOON_TEXT, NOON = "2026-11-02T12:00:00Z", 1_793_620_800_000_000
# What no schema can say, and so only `parse_json` and `validate` know, each with its reason.
EXCEPTIONS = {
    "an instant within a day of 2000 or 2100": "a pattern sees the year as written, not the year in UTC",
    "the same key twice, NaN, half a surrogate pair, integers beyond 64 bits": "a schema is asked of what was parsed: "
    "parse_json refuses these before",
    "more than 1 MiB, or nesting deeper than 32": "limits of a text, not of a value; parse_json refuses them",
}


@cache
def validator(kind: RecordType, *, is_canonical: bool = False) -> Draft202012Validator:
    schema = json_schema(kind, canonical=is_canonical)
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER)


def verdicts(kind: RecordType, obj: Any) -> tuple[bool, bool]:
    """(by the schema, by the validator) of an object as a reporter would send it; both False where it is no JSON."""
    try:
        parsed = parse_json(json.dumps(obj, allow_nan=False).encode())
    except (JsonError, ValueError):
        return False, False
    return validator(kind).is_valid(parsed), not validate(kind, parsed)[1]


def usual(kind: RecordType) -> dict[str, Any]:
    """A valid object with every field that may be reported."""
    return {f["name"]: _usual(kind, f) for f in fields(kind) if f["name"] not in CANONICAL_FIELDS}


def _usual(kind: RecordType, field: AvroSchema) -> Any:
    if is_instant(field):
        return NOON_TEXT
    declared = field["type"]
    if isinstance(declared, list):
        declared = declared[1]
    name = declared if isinstance(declared, str) else declared["type"]
    if field["name"] in {"event_id", "signal_id", "approval_id", "observation_id", "finding_id"}:
        return UUID
    simple = {"string": "shop", "boolean": True, "long": 7, "double": 0.5, "map": {"sprint": "42"}, "array": ["github"]}
    return declared["symbols"][0] if name == "enum" else simple[name]


# ruff: noqa: E501  # lists of many short texts read best so
INSTANTS = (
    NOON_TEXT, "2026-11-02t12:00:00z", "2026-11-02T12:00:00.123456789+01:30", "2026-11-02T12:00:00-23:59",
    "2026-11-02T12:00:00", "2026-11-02", "2026-11-02 12:00:00Z", "2026-02-30T12:00:00Z", "2026-11-02T24:00:00Z",
    "2026-11-02T23:60:00Z", "2016-12-31T23:59:60Z", "2026-11-02T12:00:00+24:00", "2026-11-02T12:00:00+01:60",
    "2026-11-02T12:00:00+0100", "2026-11-02T12:00:00Z\n", "２０26-11-02T12:00:00Z", "2026-W45-1T12:00:00Z", "26-11-02T12:00:00Z",
    "1999-06-01T00:00:00Z", "2101-01-01T00:00:00Z", "2100-06-01T00:00:00Z", "2026-11-02T12:00:00.Z", "2028-02-29T00:00:00Z",
    "2027-02-29T00:00:00Z", "2026-13-01T00:00:00Z", "2026-00-01T00:00:00Z", "2026-01-00T00:00:00Z", "",
    NOON, float(NOON), NOON + 0.5, NOON // 1000, -1, 0, 946_684_800_000_000, 946_684_799_999_999, 4_102_444_800_000_000,
    4_102_444_799_999_999, True,
)  # fmt: skip
VALUES = (
    *INSTANTS, None, False, 1, 7.0, 1.5, -0.0, 1e300, -(1 << 63), (1 << 63) - 1, 1e18, 1e19, "", "shop", "Köln", "\x00", UUID,
    UUID.upper(), UUID.replace("-", ""), "{" + UUID + "}", "urn:uuid:" + UUID, UUID + "\n", UUID[:-1], " " + UUID[1:],
    "0x" + UUID.replace("-", "")[2:], "started", "STARTED", "exploded", "unknown", "release", [], ["a"], ["a", 1], [None], [[]],
    {}, {"a": "b"}, {"a": 1}, {"a": None}, {"": ""}, {"a": {"b": "c"}},
)  # fmt: skip


def by_hand(kind: RecordType) -> Iterator[Any]:
    """Every value in every field, fields left out, fields too many."""
    whole = usual(kind)
    yield from (whole, {}, [], "x", None, 3, True, [whole])
    for name in whole:
        yield {key: item for key, item in whole.items() if key != name}
        yield whole | {name + "x": "y"}
        for item in VALUES:
            yield whole | {name: item}
    for name in (*CANONICAL_FIELDS, "record_type", "$schema", "a/b", "~"):
        yield whole | {name: NOON_TEXT}
        yield whole | {name: None}


@pytest.mark.requirement("M3.3")
@pytest.mark.parametrize("kind", RecordType)
def test_schema_and_validator_agree_on_every_value_in_every_field(kind: RecordType) -> None:
    corpus = list(by_hand(kind))
    found = [verdicts(kind, obj) for obj in corpus]
    differ = [obj for obj, verdict in zip(corpus, found, strict=True) if len(set(verdict)) == 2]
    accepted = found.count((True, True))

    assert differ == []
    assert 10 < accepted < len(corpus)


def test_the_corpus_made_by_hand_is_large() -> None:
    sizes = {kind.value: sum(1 for _ in by_hand(kind)) for kind in RecordType}

    assert sum(sizes.values()) > 10_000
    assert sizes["DeploymentEvent"] > 3_000


_ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=4,
)


@pytest.mark.requirement("M3.3")
@pytest.mark.parametrize("kind", RecordType)
def test_schema_and_validator_agree_on_what_chance_makes(kind: RecordType) -> None:
    whole = usual(kind)
    names = st.sampled_from([*whole, *CANONICAL_FIELDS, "vresion"]) | st.text(max_size=6)

    @settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(st.dictionaries(names, _ANY | st.sampled_from(VALUES), max_size=5), st.sets(names, max_size=2))
    def agree(change: dict[str, Any], left_out: set[str]) -> None:
        by_schema, by_validator = verdicts(kind, {k: v for k, v in (whole | change).items() if k not in left_out})

        assert by_schema == by_validator

    agree()


def test_exceptions_are_what_they_are_said_to_be() -> None:
    event = usual(RecordType.DEPLOYMENT_EVENT)
    just_before = event | {"occurred_at": "2000-01-01T00:30:00+01:00"}  # 1999 in UTC
    just_after = event | {"occurred_at": "1999-12-31T23:30:00-01:00"}  # 2000 in UTC

    assert verdicts(RecordType.DEPLOYMENT_EVENT, just_before) == (True, False)
    assert verdicts(RecordType.DEPLOYMENT_EVENT, just_after) == (False, True)
    assert len(EXCEPTIONS) == 3


@pytest.mark.requirement("M3.3")
@pytest.mark.parametrize("kind", RecordType)
def test_what_is_valid_is_stored_by_avro_and_comes_back_the_same(kind: RecordType) -> None:
    stored = 0
    for obj in by_hand(kind):
        value, wrong = validate(kind, parse_json(json.dumps(obj).encode())) if _is_json(obj) else ({}, [obj])
        if wrong:
            continue
        back = decode(encode(kind, value))
        stored += 1

        assert back[0] is kind
        assert {name: back[1][name] for name in value} == value
        assert not list(validator(kind, is_canonical=True).iter_errors(json.loads(json_line(*back))))
    assert stored > 10


def _is_json(obj: Any) -> bool:
    try:
        parse_json(json.dumps(obj, allow_nan=False).encode())
    except (JsonError, ValueError):
        return False
    return True


@pytest.mark.requirement("M3.3")
@pytest.mark.parametrize("kind", RecordType)
def test_every_stored_value_has_a_canonical_line(kind: RecordType) -> None:
    sample = json.loads((SAMPLES / f"{kind.file_stem}.v1.json").read_text("utf-8"))
    rng = random.Random(1)
    hostile = {
        field["name"]: rng.choice([-(1 << 63), (1 << 63) - 1, 0, NOON]) for field in fields(kind) if is_instant(field)
    } | {field["name"]: rng.choice([math.nan, math.inf]) for field in fields(kind) if field["type"] == "double"}
    for value in (sample, sample | hostile):
        line = json_line(kind, decode(encode(kind, value))[1])
        told = json.loads(line)

        assert "\n" not in line
        assert line.isascii()
        assert [error.message for error in validator(kind, is_canonical=True).iter_errors(told)] == []
        assert list(told) == ["record_type", *(field["name"] for field in fields(kind))]


def test_a_canonical_object_says_what_was_stored() -> None:
    told = canonical(RecordType.TICK, {"at": NOON})

    assert told == {"record_type": "Tick", "at": "2026-11-02T12:00:00.000000Z", "region": ""}


def test_the_canonical_kinds_exclude_each_other() -> None:
    for kind in RecordType:
        sample = json.loads((SAMPLES / f"{kind.file_stem}.v1.json").read_text("utf-8"))
        told = json.loads(json_line(kind, decode(encode(kind, sample))[1]))

        assert [k for k in RecordType if validator(k, is_canonical=True).is_valid(told)] == [kind]


@pytest.mark.requirement("M3.3")
def test_the_committed_schemas_are_current() -> None:
    names = {file_name(kind, canonical=c): file_text(kind, canonical=c) for kind in RecordType for c in (False, True)}
    stale = [name for name, text in names.items() if (FOLDER / name).read_text("utf-8") != text]

    assert stale == [], "run: python -m deploytrail_schemas.json_schema"
    assert {path.name for path in FOLDER.iterdir()} == names.keys()


def test_the_schemas_can_be_written_anywhere(tmp_path: Path) -> None:
    assert len(write_files(tmp_path / "json")) == 2 * len(RecordType)
