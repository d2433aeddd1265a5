"""Records out of texts: types follow the schema, and what does not fit is named by the check."""

from __future__ import annotations

import pytest
from deploytrail_schemas.json_values import validate
from deploytrail_schemas.records import RecordType
from deploytrail_schemas.text_values import from_texts
from hypothesis import given
from hypothesis import strategies as st

KIND = RecordType.DEPLOYMENT_EVENT


@pytest.mark.requirement("M8.5")
def test_texts_take_the_types_of_their_fields() -> None:
    found = from_texts(
        KIND,
        [
            ("event_type", "started"),
            ("cohort_weight", "0.25"),
            ("exit_code", "-9"),
            ("emergency", "Yes"),
            ("occurred_at", "1793620800000000"),
            ("tags.sprint", "42"),
            ("tags.team.lead", "ann"),
            ("config_changes.POOL_SIZE", "20"),
            ("version", "4.20"),
            ("ref", ""),
        ],
    )

    assert found == {
        "event_type": "started",
        "cohort_weight": 0.25,
        "exit_code": -9,
        "emergency": True,
        "occurred_at": 1_793_620_800_000_000,
        "tags": {"sprint": "42", "team.lead": "ann"},
        "config_changes": {"POOL_SIZE": "20"},
        "version": "4.20",
    }


def test_a_number_that_is_too_large_is_none() -> None:
    said = from_texts(RecordType.SIGNAL, [("value", "1e999")])
    _, wrong = validate(RecordType.SIGNAL, said)

    assert said == {"value": "1e999"}
    assert "/value" in [violation.pointer for violation in wrong]


def test_what_does_not_fit_stays_text_and_is_named() -> None:
    found = from_texts(KIND, [("exit_code", "nine"), ("emergency", "maybe"), ("versoin", "1"), ("tags", "flat")])
    _, wrong = validate(KIND, found)

    assert found == {"exit_code": "nine", "emergency": "maybe", "versoin": "1", "tags": "flat"}
    assert {v.pointer for v in wrong} >= {"/exit_code", "/emergency", "/versoin", "/tags"}


@pytest.mark.parametrize("text", ["1_0", " 1", "+1", "1 ", "١", "nan", "inf", "0x1"])
def test_only_digits_are_numbers(text: str) -> None:
    assert from_texts(KIND, [("exit_code", text), ("cohort_weight", text)]) == {
        "exit_code": text,
        "cohort_weight": text,
    }


@given(st.lists(st.tuples(st.text(max_size=12) | st.sampled_from(["tags", "tags.a", "exit_code"]), st.text())))
def test_any_texts_are_read(pairs: list[tuple[str, str]]) -> None:
    validate(KIND, from_texts(KIND, pairs))
