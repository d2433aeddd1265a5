"""Policy documents as rows, and credentials as grants."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from deploytrail_schemas.credentials import Credential
from deploytrail_schemas.instants import to_micros
from deploytrail_schemas.scopes import Scope, Verb
from deploytrail_sinks.clickhouse import grants_command
from deploytrail_sinks.clickhouse.batches import Row
from deploytrail_sinks.clickhouse.policy_rows import policy_rows

NOON = datetime(2026, 11, 2, 12, tzinfo=UTC)


def row(value: bytes | None, offset: int = 0) -> Row:
    return Row("deploytrail.policies", 0, offset, to_micros(NOON) // 1000, b"service/shop/1", value, ())


def test_a_policy_document_becomes_a_row() -> None:
    document = {
        "kind": "service",
        "name": "shop",
        "version": 3,
        "effective_from": "2026-11-01T00:00:00Z",
        "spec": {"b": 1, "a": "ü"},
    }
    rows, wrong = policy_rows((row(json.dumps(document).encode(), 7),))

    assert rows == [[0, 7, NOON, "service", "shop", 3, datetime(2026, 11, 1, tzinfo=UTC), '{"a": "ü", "b": 1}']]
    assert wrong == []


def test_a_document_without_a_date_holds_from_the_beginning() -> None:
    [[*_, since, _]], _ = policy_rows((row(b'{"kind": "service", "name": "shop", "spec": {}}'),))

    assert since == datetime(1970, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    "value",
    [
        b"no json",
        b"[]",
        b"3",
        b'{"kind": "service", "name": "shop"}',
        b'{"kind": "service", "name": "shop", "spec": []}',
        b'{"kind": "service", "name": "shop", "spec": {}, "effective_from": "yesterday"}',
        b'{"kind": "service", "name": "shop", "spec": {}, "effective_from": 7}',
        b'{"kind": "service", "name": "shop", "spec": {}, "version": "three"}',
        b'{"kind": "service", "name": "shop", "spec": {}, "version": 99999999999999999999}',
        b"\xff\xfe",
        b"[" * 100_000,
    ],
)
def test_what_is_no_document_is_set_aside_and_the_rest_goes_in(value: bytes) -> None:
    sound = row(b'{"kind": "service", "name": "shop", "spec": {}}', 2)
    rows, wrong = policy_rows((row(value, 1), sound))

    assert [r[1] for r in rows] == [2]
    assert [(r.offset, error.reason.value) for r, error in wrong] == [(1, "malformed")]


def test_a_tombstone_is_no_document_and_no_dead_letter() -> None:
    assert policy_rows((row(None),)) == ([], [])


@pytest.mark.requirement("M5.6")
def test_a_grant_says_what_a_credential_may_and_nothing_of_its_secret() -> None:
    scope = Scope("money", ("pay*",), ("*",), ("eu-west-1",), frozenset({Verb.REPORT, Verb.APPROVE}))
    credential = Credential("abc", "d" * 64, b"k" * 32, scope, created=to_micros(NOON), revoked=to_micros(NOON))
    [found] = grants_command.grant_rows([credential], NOON)

    assert found == [
        NOON,
        credential.name,
        "money",
        ["pay*"],
        ["*"],
        ["eu-west-1"],
        ["approve", "report"],
        NOON,
        None,
        NOON,
    ]
    assert not any("d" * 64 in str(value) or "kkkk" in str(value) for value in found)


def test_grants_say_which_file_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert grants_command.main([str(tmp_path / "none.jsonl")]) == 78
    assert "none.jsonl cannot be read" in capsys.readouterr().err
