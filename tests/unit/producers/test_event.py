"""Whatever a caller says becomes an event that can be encoded."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from deploytrail import _report
from deploytrail._event import build, error_text
from deploytrail_schemas.codec import decode, encode
from deploytrail_schemas.records import RecordType
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

PLACE = {"deployment_id": "d", "service": "checkout", "environment": "production", "region": "eu-west-1"}


@pytest.fixture(autouse=True)
def _speak_again() -> Iterator[None]:
    _report.forget()
    yield
    _report.forget()


def _round_trip(value: dict[str, Any]) -> dict[str, Any]:
    whole = {"occurred_at": 1_793_491_200_000_000, "event_id": str(uuid.uuid4()), "producer_id": "p"} | value
    return decode(encode(RecordType.DEPLOYMENT_EVENT, whole))[1]


def test_facts_keep_their_names_and_types() -> None:
    event = _round_trip(
        build(
            PLACE
            | {
                "version": "4.2.0",
                "kind": "hotfix",
                "cohort_weight": 0.1,
                "emergency": True,
                "occurred_at": datetime(2026, 11, 2, 9, 30, tzinfo=UTC),
                "tags": {"sprint": "42"},
            },
            {},
        )
    )

    assert event["kind"] == "hotfix"
    assert event["cohort_weight"] == 0.1
    assert event["emergency"] is True
    assert event["occurred_at"] == 1_793_611_800_000_000
    assert event["tags"] == {"sprint": "42"}


@pytest.mark.parametrize("weight", [30, -0.1, float("nan"), "30"])
def test_a_share_that_is_none_is_left_out_and_said(weight: object, capsys: pytest.CaptureFixture[str]) -> None:
    event = _round_trip(build(PLACE | {"cohort_weight": weight}, {}))

    assert event["cohort_weight"] is None
    assert "cohort_weight is left out" in (said := capsys.readouterr().err) and "a share from 0 to 1" in said


def test_unknown_fact_goes_to_tags_and_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    first = build(PLACE | {"vresion": "4.2.0"}, {})
    build(PLACE | {"vresion": "4.2.1"}, {})

    assert first["tags"] == {"vresion": "4.2.0"}
    assert capsys.readouterr().err == "deploytrail: an event has no field 'vresion'; it is kept in tags\n"


def test_wrong_kind_becomes_unknown_and_is_kept(capsys: pytest.CaptureFixture[str]) -> None:
    event = build(PLACE | {"kind": "big bang"}, {})

    assert (event["kind"], event["tags"]) == ("unknown", {"kind": "big bang"})
    assert "kind is 'big bang'; expected one of release, hotfix" in capsys.readouterr().err


def test_missing_place_is_named_and_filled(capsys: pytest.CaptureFixture[str]) -> None:
    event = build({"deployment_id": "d", "service": ""}, {})

    assert (event["service"], event["environment"], event["region"]) == ("unknown", "unknown", "other")
    assert capsys.readouterr().err.count("DEPLOYTRAIL_") == 3


@pytest.mark.parametrize("name", ["producer_seq", "event_id", "corrected_at", "reporter"])
def test_what_deploytrail_sets_cannot_be_given(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert name not in build(PLACE | {name: "7"}, {})
    assert f"{name} cannot be given" in capsys.readouterr().err


def test_rollback_has_its_kind() -> None:
    assert build(PLACE | {"rollback_of": "d0"}, {})["kind"] == "rollback"


def test_error_carries_no_credentials_and_is_cut() -> None:
    assert error_text(RuntimeError("clone https://u:p@host/x failed")) == "RuntimeError: clone https://host/x failed"
    assert len(error_text(ValueError("x" * 10_000))) == 4096


class _Broken:
    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__
    __bool__ = __str__


_ANYTHING = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(),
    st.binary(),
    st.dictionaries(st.text(), st.text() | st.none() | st.integers()),
    st.lists(st.integers()),
    st.just(_Broken()),
    st.just("\ud800 half a pair"),
    st.just("x" * 20_000),
)
_NAMES = st.sampled_from(
    ["service", "region", "kind", "cohort_weight", "exit_code", "emergency", "reversible", "tags", "config_changes",
     "occurred_at", "version", "hybrid_logical_clock", "confidence", "no_such_field"]
)  # fmt: skip


@settings(suppress_health_check=[HealthCheck.too_slow])  # the first text builds its table of characters
@given(st.dictionaries(_NAMES, _ANYTHING))
def test_no_argument_makes_an_event_that_cannot_be_encoded(facts: dict[str, Any]) -> None:
    event = _round_trip(build({**facts, "deployment_id": "d"}, {}))

    assert event["deployment_id"] == "d"
