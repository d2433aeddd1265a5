"""`deploytrail token`: a token is shown once, and what is kept lets nobody in."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

pytest.importorskip("cryptography", reason="the producers alone make no tokens")

from deploytrail import token_command
from deploytrail_schemas.credential_file import CredentialFile
from deploytrail_schemas.credentials import Credential, authenticate
from deploytrail_schemas.errors import ConfigurationError
from deploytrail_schemas.reasons import Refusal
from deploytrail_schemas.scopes import Scope, Verb
from deploytrail_schemas.tokens import read_token

CREATE = ("create", "--team", "payments", "--service", "pay-*", "--service", "ledger", "--environment", "production")
LONG_AGO, FAR = 1_600_000_000_000_000, 4_000_000_000_000_000


def create(path: Path, capsys: pytest.CaptureFixture[str], *more: str) -> str:
    assert token_command.main(["--file", str(path), *CREATE, *more]) == 0
    return capsys.readouterr().out.strip()


@pytest.mark.requirement("M2.6")
def test_a_token_is_printed_once_and_never_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "deep" / "tokens"
    text = create(path, capsys, "--verb", "report", "--verb", "approve", "--region", "eu-west-1")
    found = authenticate(CredentialFile(path).credentials, text, now=LONG_AGO)

    assert isinstance(found, Credential)
    assert found.scope == Scope(
        "payments", ("pay-*", "ledger"), ("production",), ("eu-west-1",), frozenset({Verb.REPORT, Verb.APPROVE})
    )
    assert found.expires == found.created + 90 * 86_400_000_000
    assert text[17:] not in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600
    assert token_command.main(["--file", str(path), "list"]) == 0
    assert text[17:] not in capsys.readouterr().out


@pytest.mark.requirement("M2.6")
def test_a_revoked_token_stays_in_the_file_and_lets_nobody_in(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "tokens"
    text = create(path, capsys, "--expires", "never")
    file = CredentialFile(path)
    assert isinstance(authenticate(file.credentials, text, now=FAR), Credential)
    assert token_command.main(["--file", str(path), "revoke", text]) == 0

    assert authenticate(file.credentials, text, now=FAR) is Refusal.REVOKED
    assert token_command.main(["--file", str(path), "list"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"{read_token(text).id}  revoked  expires never  team payments  may report")


def test_an_unknown_id_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "tokens"
    create(path, capsys)

    assert token_command.main(["--file", str(path), "revoke", "nobody"]) == 78
    assert "has no token 'nobody'" in capsys.readouterr().err


def test_tokens_made_at_once_are_all_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "tokens"
    threads = [threading.Thread(target=token_command.main, args=(["--file", str(path), *CREATE],)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(CredentialFile(path).credentials) == 8


def test_a_file_that_breaks_lets_in_whom_it_let_in_before(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "tokens"
    create(path, capsys)
    file = CredentialFile(path)
    known = dict(file.credentials)
    path.write_text("broken\n")

    assert dict(file.credentials) == known
    assert dict(file.credentials) == known
    assert len(caplog.records) == 1
    path.unlink()
    assert dict(file.credentials) == known
    create(path, capsys)
    assert len(file.credentials) == 1 and dict(file.credentials) != known


def test_a_file_that_is_missing_at_the_start_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="tokens cannot be read"):
        CredentialFile(tmp_path / "tokens")


@pytest.mark.parametrize("words", [["create", "--team", "x"], ["create", *CREATE[1:], "--expires", "soon"], []])
def test_words_that_make_no_sense_are_refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        token_command.main(["--file", "tokens", *words])


def test_a_verb_that_is_none_is_told_which_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        token_command.main(["--file", "tokens", *CREATE, "--verb", "reprt"])

    assert "choose from 'report', 'register', 'approve'" in capsys.readouterr().err


def test_without_a_file_it_says_which_setting_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("DEPLOYTRAIL_CREDENTIALS", raising=False)

    assert token_command.main(["list"]) == 78
    assert "DEPLOYTRAIL_CREDENTIALS" in capsys.readouterr().err
