"""What the commands of the sinks say to somebody who does not know them yet."""

from __future__ import annotations

import pytest
from clickhouse_connect.driver.exceptions import OperationalError
from deploytrail_sinks.archive import command as archive_command
from deploytrail_sinks.clickhouse import rehydrate_command
from deploytrail_sinks.clickhouse.away import in_words
from deploytrail_sinks.reports import report_command
from deploytrail_sinks.sink_command import SINKS, main


def test_each_sink_is_listed_with_what_it_does(capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["--help"])
    told = capsys.readouterr().out

    assert code == 0
    assert all(f"  {name} " in told and text in told for name, (_, text) in SINKS.items())


@pytest.mark.parametrize(
    ("words", "said"), [([], "usage: deploytrail sink NAME"), (["kafka"], "there is no sink 'kafka'; there are ")]
)
def test_wrong_words_are_said_with_those_that_there_are(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 64
    assert said in capsys.readouterr().err


def test_a_clickhouse_that_is_away_is_told_without_the_layers_of_its_client() -> None:
    error = OperationalError(
        "Error HTTPConnectionPool(host='db', port=1): Max retries exceeded with url: /?query_id=1 (Caused by "
        "NewConnectionError(\"HTTPConnection(host='db', port=1): Failed to establish a new connection: "
        '[Errno 111] Connection refused")) executing HTTP request attempt 1 (http://db:1)'
    )

    assert in_words("http://db:1", error) == (
        "ClickHouse at http://db:1 does not answer: Connection refused; "
        "is DEPLOYTRAIL_CLICKHOUSE_URL (or …_SHARDS) right, and does it run?"
    )
    assert in_words("http://127.0.0.1:8123", error).endswith(
        "does it run?; where `deploytrail up` made a stack on this machine, "
        'eval "$(deploytrail up --env)" points the shell to it'
    )
    assert in_words("http://db:1", OperationalError("busy\nand more")) == "ClickHouse at http://db:1: busy"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--from", "x", "--to", "2025-01-02"], "'x' is no day; expected one such as 2025-01-31"),
        (["--from", "2025-01-02", "--to", "2025-01-02"], "later than --from"),
    ],
)
def test_days_that_make_no_sense_are_refused(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        rehydrate_command.main(words)

    assert said in capsys.readouterr().err


@pytest.mark.parametrize("words", [["audit", "--month", "2026-13"], ["access", "--quarter", "2026-Q5"]])
def test_a_period_that_is_none_is_refused_as_wrong_words(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        report_command.main(words)

    assert "expected one such as 2026-" in capsys.readouterr().err


def test_help_of_the_archive_lists_every_word(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        archive_command.main(["--help"])
    told = capsys.readouterr().out

    words = ("verify", "cat", "prove", "verify-proof", "consistency", "keygen", "sequence", "sign", "witness")
    assert [word for word in (*words, "hold", "purge", "lengthen", "restore") if f"\n    {word} " not in told] == []


def test_help_of_verify_says_where_time_stamps_come_from(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        archive_command.main(["verify", "--help"])

    assert "DEPLOYTRAIL_ARCHIVE_TIMESTAMP_URL" in capsys.readouterr().out
