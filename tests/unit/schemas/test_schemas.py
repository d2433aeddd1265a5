"""The schemas keep the rules that stored bytes and columns rely on."""

from __future__ import annotations

from pathlib import Path

import pytest
from deploytrail_schemas.field_table import fill
from deploytrail_schemas.records import CANONICAL_FIELDS, REPORTED, RecordType
from deploytrail_schemas.schema import AvroSchema, avro_schema, fields, is_instant

README = Path(__file__).parents[3] / "schemas/README.md"


def enum_of(field: AvroSchema) -> AvroSchema | None:
    declared = field["type"]
    return declared if isinstance(declared, dict) and declared["type"] == "enum" else None


@pytest.mark.requirement("M3.2")
def test_readme_lists_every_field_and_setting() -> None:
    text = README.read_text("utf-8")

    assert fill(text) == text, "run: python -m deploytrail_schemas.field_table schemas/README.md"


@pytest.mark.parametrize("kind", RecordType)
def test_every_field_is_documented(kind: RecordType) -> None:
    assert avro_schema(kind)["doc"].endswith(".")
    assert all(field["doc"].strip() for field in fields(kind))


@pytest.mark.parametrize("kind", RecordType)
def test_every_enum_has_a_default_for_older_readers(kind: RecordType) -> None:
    for enum in filter(None, map(enum_of, fields(kind))):
        assert enum["default"] in enum["symbols"]


def test_word_of_a_global_change_has_every_field_of_the_event_that_it_tells() -> None:
    assert fields(RecordType.GLOBAL_CHANGE) == fields(RecordType.DEPLOYMENT_EVENT)
    assert RecordType.GLOBAL_CHANGE not in REPORTED


@pytest.mark.parametrize("kind", RecordType)
def test_records_are_flat(kind: RecordType) -> None:
    for field in fields(kind):
        branches = field["type"] if isinstance(field["type"], list) else [field["type"]]

        assert not any(isinstance(branch, dict) and branch["type"] == "record" for branch in branches)


@pytest.mark.parametrize("kind", sorted(REPORTED, key=lambda kind: kind.value))
def test_reported_kinds_end_in_the_canonical_tail(kind: RecordType) -> None:
    names = [field["name"] for field in fields(kind)]

    assert tuple(names[-len(CANONICAL_FIELDS) :]) == CANONICAL_FIELDS
    assert "producer_id" in names


def test_routing_fields_come_first() -> None:
    names = [field["name"] for field in fields(RecordType.DEPLOYMENT_EVENT)]

    assert names[:9] == [
        "event_id",
        "event_type",
        "deployment_id",
        "occurred_at",
        "region",
        "environment",
        "service",
        "producer_id",
        "producer_seq",
    ]


def test_instants_are_recognised() -> None:
    by_name = {field["name"]: field for field in fields(RecordType.DEPLOYMENT_EVENT)}

    assert is_instant(by_name["occurred_at"])
    assert is_instant(by_name["corrected_at"])
    assert not is_instant(by_name["producer_seq"])
