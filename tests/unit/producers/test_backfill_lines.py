"""Lines of history: read strictly, with all that is wrong, before anything is sent."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from deploytrail.backfill_command import InvalidLine, main, read_line

VALUE = {
    "event_id": "0f0e0d0c-0b0a-4908-8706-050403020100",
    "event_type": "started",
    "deployment_id": "shop-1",
    "occurred_at": "2026-11-02T11:59:58Z",
    "region": "eu-west-1",
    "environment": "production",
    "service": "shop",
    "producer_id": "runner-7",
}


def line(**changes: Any) -> bytes:
    whole: dict[str, Any] = {
        "kind": "deployment",
        "sent_at": "2026-11-02T11:59:59Z",
        "received_at": "2026-11-02T12:00:00Z",
        "value": VALUE,
    }
    return json.dumps({k: v for k, v in (whole | changes).items() if v is not ...}).encode() + b"\n"


def problems(given: bytes) -> list[str]:
    with pytest.raises(InvalidLine) as caught:
        read_line(given)
    return caught.value.problems


def test_line_is_read_with_its_times_and_its_echo() -> None:
    entry = read_line(
        line(
            echo=["2026-11-02T11:58:00Z", "2026-11-02T11:58:01Z", "2026-11-02T11:58:02Z"], received_at=1793620800000000
        )
    )

    assert entry.received_at == 1793620800000000
    assert entry.sent_at == 1793620799000000
    assert entry.echo == (1793620680000000, 1793620681000000, 1793620682000000)
    assert entry.value["occurred_at"] == 1793620798000000


def test_sent_at_and_echo_may_be_missing() -> None:
    entry = read_line(line(sent_at=...))

    assert (entry.sent_at, entry.echo) == (None, None)


def test_missing_id_follows_from_the_content() -> None:
    without = {name: item for name, item in VALUE.items() if name != "event_id"}

    assert read_line(line(value=without)).value["event_id"] == read_line(line(value=without)).value["event_id"]
    other = read_line(line(value=without | {"service": "search"})).value["event_id"]
    assert other != read_line(line(value=without)).value["event_id"]


def test_everything_wrong_is_named_at_once() -> None:
    found = problems(
        line(kind="deployment", received_at="noon", echo=[1], extra=1, value=VALUE | {"event_type": "began", "tier": 1})
    )

    assert found == [
        "/extra: is no field of a line",
        "/received_at: 'noon' is not an RFC 3339 date-time such as 2026-11-02T09:30:00Z",
        "/echo: expected [sent, received, acknowledged]",
        "/value/event_type: is 'began'; expected one of registered, queued, started, progressed, succeeded, failed, "
        "cancelled, rolled_back, amended, voided, unknown",
        "/value/tier: is an integer; expected a string",
    ]


@pytest.mark.parametrize(
    ("given", "detail"),
    [
        (b"{", "not JSON"),
        (b'{"kind": "deployment", "kind": "signal"}', "stands twice"),
        (b'{"received_at": NaN}', "NaN is not JSON"),
        (b"[]", "a line is an object"),
        (line(kind="tick"), "/kind: is 'tick'"),
        (line(received_at=...), "/received_at: expected RFC 3339 text"),
        (line(received_at=True), "/received_at: expected RFC 3339 text"),
        (line(value=[]), "/value: a DeploymentEvent is an object"),
        (line(value=VALUE | {"corrected_at": 1}), "/value/corrected_at: is set by deploytrail itself"),
    ],
)
def test_wrong_line_is_refused(given: bytes, detail: str) -> None:
    assert any(detail in problem for problem in problems(given))


def test_check_says_where_each_problem_stands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    history = tmp_path / "history.jsonl"
    history.write_bytes(line() + b"\n" + line(kind="tick"))

    assert main(["--check", str(history)]) == 65
    said = capsys.readouterr().err
    assert f"{history}:3: /kind: is 'tick'" in said
    assert "nothing was loaded" in said


def test_missing_file_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "none.jsonl")]) == 66
    assert "No such file" in capsys.readouterr().err


def test_end_before_the_newest_line_is_refused(tmp_path: Path) -> None:
    history = tmp_path / "history.jsonl"
    history.write_bytes(line())

    assert main(["--check", "--until", "2026-11-02T11:00:00Z", str(history)]) == 65
    assert main(["--check", "--until", "2026-11-02T13:00:00Z", str(history)]) == 0
