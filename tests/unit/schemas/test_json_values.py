"""JSON from outside is read strictly, and every violation is named."""

from __future__ import annotations

import time
from typing import Any

import pytest
from deploytrail_schemas.json_values import MAX_DEPTH, MOST_VIOLATIONS, JsonError, parse_json, validate
from deploytrail_schemas.records import RecordType

EVENT: dict[str, Any] = {
    "event_id": "019A43EE-5C00-7000-8000-000000000001",
    "event_type": "started",
    "deployment_id": "shop-1",
    "occurred_at": "2026-11-02T12:00:00Z",
    "region": "eu-west-1",
    "environment": "production",
    "service": "shop",
    "producer_id": "runner-7",
}


@pytest.mark.parametrize(
    ("text", "part"),
    [
        (b'{"a": 1, "a": 2}', "stands twice"),
        (b'{"a": NaN}', "NaN is not JSON"),
        (b'{"a": -Infinity}', "Infinity is not JSON"),
        (b'{"a": 1e999}', "too large"),
        (b'{"a": 9223372036854775808}', "64 bits"),
        (b'{"a": ' + b"9" * 5000 + b"}", "64 bits"),
        (b'{"a": "\\ud800"}', "surrogate"),
        (b'{"a": "\xff"}', "not UTF-8 at byte 7"),
        (b'{"a": ', "line 1, column 7"),
        (b"", "not JSON"),
        (b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1), "nested deeper than 32"),
        (b"[" * 100_000, "nested deeper than 32"),
    ],
)
def test_bad_json_is_refused_with_what_is_wrong(text: bytes, part: str) -> None:
    with pytest.raises(JsonError, match=part):
        parse_json(text)


def test_one_byte_too_many_is_too_large() -> None:
    text = b'"' + b"a" * (1 << 20) + b'"'
    with pytest.raises(JsonError) as caught:
        parse_json(text)

    assert caught.value.too_large
    assert parse_json(text, max_bytes=len(text)) == "a" * (1 << 20)


def test_brackets_in_strings_are_no_nesting() -> None:
    assert parse_json(b'["' + b"[{" * 100 + b'\\"["]') == ["[{" * 100 + '"[']


def test_a_good_event_is_converted() -> None:
    value, wrong = validate(RecordType.DEPLOYMENT_EVENT, EVENT | {"cohort_weight": 1, "exit_code": None})

    assert wrong == []
    assert value["occurred_at"] == 1_793_620_800_000_000
    assert value["event_id"] == "019a43ee-5c00-7000-8000-000000000001"
    assert value["cohort_weight"] == 1.0
    assert "exit_code" not in value


def test_junk_costs_no_more_than_its_size() -> None:
    """Each unknown name is compared with every known one, which takes a thousand times as long as reading it."""
    names = {f"servic_{number}": 1 for number in range(200_000)}
    began = time.process_time()
    _, wrong = validate(RecordType.DEPLOYMENT_EVENT, {**names, "tags": dict(names)})
    took = time.process_time() - began

    assert MOST_VIOLATIONS <= len(wrong) < 3 * MOST_VIOLATIONS
    assert took < 5


def test_every_violation_is_listed_at_once() -> None:
    bad = EVENT | {
        "event_type": "exploded",
        "occurred_at": "yesterday",
        "versoin": "1.2",
        "emergency": "yes",
        "producer_seq": 1.5,
        "tags": {"sprint": 12},
        "corrected_at": "2026-11-02T12:00:00Z",
        "service": "",
    }
    del bad["region"]
    _, wrong = validate(RecordType.DEPLOYMENT_EVENT, bad)

    assert {violation.pointer: violation.detail for violation in wrong} == {
        "/event_type": "is 'exploded'; expected one of registered, queued, started, progressed, succeeded, failed, "
        "cancelled, rolled_back, amended, voided, unknown",
        "/occurred_at": "'yesterday' is not an RFC 3339 date-time such as 2026-11-02T09:30:00Z",
        "/versoin": "DeploymentEvent has no field 'versoin'; did you mean 'version'?",
        "/emergency": "is a string; expected true or false",
        "/producer_seq": "is a number; expected a 64-bit integer",
        "/tags/sprint": "is an integer; expected a string",
        "/corrected_at": "is set by deploytrail itself and cannot be reported",
        "/region": "is required",
        "/service": "must not be empty",
    }


@pytest.mark.parametrize("given", [None, [], "x", 3])
def test_what_is_no_object_is_refused(given: object) -> None:
    assert validate(RecordType.SIGNAL, given)[1][0].pointer == ""


@pytest.mark.parametrize(
    "instant",
    [1_793_620_800, 1_793_620_800_000, "2026-11-02T12:00:00", True, "2026-W45-1T12:00:00Z", "2026-02-30T12:00:00Z"],
)
def test_instants_without_zone_or_in_another_unit_are_refused(instant: object) -> None:
    _, wrong = validate(RecordType.DEPLOYMENT_EVENT, EVENT | {"occurred_at": instant})

    assert [violation.pointer for violation in wrong] == ["/occurred_at"]


def test_integer_microseconds_are_accepted() -> None:
    value, wrong = validate(RecordType.DEPLOYMENT_EVENT, EVENT | {"occurred_at": 1_793_620_800_000_000})

    assert (value["occurred_at"], wrong) == (1_793_620_800_000_000, [])
