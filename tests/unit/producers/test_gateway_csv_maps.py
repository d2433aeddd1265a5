"""CSV of legacy systems: good lines become records, every bad one is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from deploytrail import csv_maps
from deploytrail.csv_maps import csv_map, read
from deploytrail.gateway.app import create_app
from deploytrail.gateway.publisher import MemoryPublisher
from deploytrail_schemas.codec import encode
from deploytrail_schemas.errors import ConfigurationError
from deploytrail_schemas.settings import Settings
from hypothesis import given
from hypothesis import strategies as st
from starlette.testclient import TestClient

NOON = 1_793_620_800_000_000
SPEC: dict[str, Any] = {
    "delimiter": ";",
    "encoding": "iso-8859-1",
    "time_format": "%d.%m.%Y %H:%M",
    "timezone": "Europe/Vienna",
    "columns": {"deployment_id": "Nr", "service": "App", "occurred_at": "Start", "event_type": "Status",
                "tags.note": "Notiz"},
    "values": {"event_type": {"OK": "succeeded", "NOK": "failed"}},
    "constants": {"environment": "production", "region": "eu-central-1"},
    "confidence": 0.7,
}  # fmt: skip
MAP = csv_map("legacy", SPEC)
FILE = """Nr;App;Start;Status;Notiz;Rest
4711;Kassa;02.11.2026 13:00;OK;"schön; wirklich";x

4712;Kassa;02.11.2026 14:00;NOK;;x
"""


@pytest.mark.requirement("M8.5")
def test_each_line_is_a_record_by_the_map() -> None:
    good, wrong = read(MAP, FILE.encode("iso-8859-1"), NOON + 5)

    assert wrong == []
    assert [line.number for line in good] == [2, 4]
    first = good[0].value
    assert len(first.pop("event_id")) == 36
    assert first == {
        "deployment_id": "4711",
        "service": "Kassa",
        "occurred_at": NOON,
        "event_type": "succeeded",
        "tags": {"note": "schön; wirklich"},
        "environment": "production",
        "region": "eu-central-1",
        "producer_id": "csv:legacy",
        "source": "csv",
        "confidence": 0.7,
    }


def test_every_bad_line_is_named_and_the_good_ones_are_kept() -> None:
    text = (
        FILE + "4713;Kassa;yesterday;OK;;x\n4714;Kassa\n4715;Kassa;02.11.2026 15:00;MEH;;x\n;;02.11.2026 15:00;OK;;x\n"
    )
    good, wrong = read(MAP, text.encode("iso-8859-1"), NOON)

    assert [line.value["deployment_id"] for line in good] == ["4711", "4712"]
    assert [(v.pointer, v.detail) for v in wrong] == [
        ("/5/occurred_at", "is 'yesterday'; expected the form '%d.%m.%Y %H:%M'"),
        ("/6", "has 2 cells; the header has 6"),
        ("/7/event_type", "is 'MEH'; expected one of OK, NOK"),
        ("/8/service", "is required"),
    ]


def test_the_same_line_sent_again_is_the_same_record() -> None:
    first, _ = read(MAP, FILE.encode("iso-8859-1"), NOON)
    again, _ = read(MAP, FILE.encode("iso-8859-1"), NOON + 99)

    assert first == again
    assert first[0].value["event_id"] != first[1].value["event_id"]


@pytest.mark.parametrize(
    ("data", "part"),
    [
        (b"Nr;App\n1;2\n", "no column 'Notiz', 'Start', 'Status'"),
        (b'Nr;App;Start;Status;Notiz\n1;"x"y;z;OK;\n', "is no CSV"),
    ],
)
def test_a_file_that_does_not_fit_is_said(data: bytes, part: str) -> None:
    good, [wrong] = read(MAP, data, NOON)

    assert good == []
    assert part in wrong.detail


def test_bytes_of_another_encoding_are_said() -> None:
    _, [wrong] = read(csv_map("m", {"columns": {"service": "App"}}), b"App\n\xff\n", NOON)

    assert wrong.detail == "not utf-8-sig at byte 4"


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"kind": "thing"}, "kind is 'thing'"),
        ({"columns": {"servce": "App"}}, "no field 'servce'"),
        ({"colums": {}}, "it has no colums"),
        ({"timezone": "Mars/Olympus"}, "Mars/Olympus"),
        ({"delimiter": ";;"}, "delimiter"),
        ({"encoding": "utf-13"}, "utf-13"),
        ({"columns": None}, "wrong"),
    ],
)
def test_a_map_that_makes_no_sense_is_refused(change: dict[str, Any], part: str) -> None:
    with pytest.raises(ConfigurationError, match="the CSV map 'm' is wrong") as refused:
        csv_map("m", SPEC | change)

    assert part in str(refused.value)


@given(st.binary(max_size=300))
def test_any_bytes_are_read(data: bytes) -> None:
    good, _ = read(MAP, b"Nr;App;Start;Status;Notiz\n" + data, NOON)
    for line in good:
        encode(MAP.kind, line.value)


@pytest.mark.requirement("M8.5")
def test_a_file_is_uploaded_to_its_map(tmp_path: Path) -> None:
    maps = tmp_path / "maps.yaml"
    maps.write_text("legacy: {columns: {service: App, event_type: Status}, constants: {environment: e, region: r}}\n")
    publisher = MemoryPublisher()
    client = TestClient(create_app(Settings(csv_maps=str(maps)), publisher), client=("127.0.0.1", 1))
    some = client.post("/v1/csv/legacy", content=b"App,Status\nshop,succeeded\nshop,exploded\n")
    none = client.post("/v1/csv/legacy", content=b"App,Status\nshop,exploded\n")
    unknown = client.post("/v1/csv/other", content=b"")

    assert (some.status_code, some.json()["accepted"], len(publisher.records)) == (202, 1, 1)
    assert [v["pointer"] for v in some.json()["violations"]] == ["/3/event_type"]
    assert (none.status_code, [v["pointer"] for v in none.json()["violations"]]) == (422, ["/2/event_type"])
    assert (unknown.status_code, "has legacy" in unknown.json()["detail"]) == (404, True)


def test_a_file_of_too_many_lines_is_refused_however_bad_they_are(tmp_path: Path) -> None:
    maps = tmp_path / "maps.yaml"
    maps.write_text("m: {columns: {service: s}, constants: {region: r}}")
    client = TestClient(create_app(Settings(csv_maps=str(maps)), MemoryPublisher()), client=("127.0.0.1", 1))
    most = client.post("/v1/csv/m", content="s\n" + "x\n" * 10_000)
    more = client.post("/v1/csv/m", content="s\n" + "x,y\n" * 10_001)

    assert most.status_code == 422
    assert (more.status_code, more.json()["detail"]) == (413, "more than 10000 lines; one request may carry so many")


def test_a_file_of_maps_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be read"):
        csv_maps.load(tmp_path / "nowhere.yaml")
