"""Tokens: what they look like, what a store keeps of them, and when they hold."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from deploytrail_schemas.credentials import Credential, authenticate, read_credentials, revoke, write_line
from deploytrail_schemas.errors import ConfigurationError
from deploytrail_schemas.reasons import Refusal
from deploytrail_schemas.record_signatures import public_key_of
from deploytrail_schemas.scopes import Scope, Verb
from deploytrail_schemas.tokens import PATTERN, InvalidToken, Token, make_token, read_token
from hypothesis import given
from hypothesis import strategies as st

NOON, DAY = 1_793_620_800_000_000, 86_400_000_000
# Looks like a token, as a leaked one would in a log; its checksum was made up.
LOOKS_LIKE_ONE = "dtk_abc123def456_1gH3w2Hq3nLfVb4pVxGTrUdXDLpf2MZS8JtvPwDvNYl0MadeU"


def credential(token: Token, **fields: object) -> Credential:
    scope = Scope("payments", ("pay-*",), ("production",), ("eu-west-1",), frozenset({Verb.REPORT}))
    made = Credential(token.id, token.digest, public_key_of(token), scope, created=NOON)
    return replace(made, **fields)  # type: ignore[arg-type]  # the tests name its own fields


@given(st.integers(0, 20))
def test_every_token_can_be_read_again(_: int) -> None:
    token = make_token()

    assert read_token(token.text) == token
    assert re.fullmatch(PATTERN, token.text)
    assert len(token.signing_seed) == 32


@given(st.text() | st.from_regex(PATTERN, fullmatch=True))
def test_no_text_is_taken_for_a_token_by_chance(text: str) -> None:
    with pytest.raises(InvalidToken):
        read_token(text)


@given(st.integers(4, 64), st.characters(codec="ascii"))
def test_one_changed_character_is_seen(place: int, char: str) -> None:
    text = make_token().text
    changed = text[:place] + char + text[place + 1 :]
    if changed == text:
        return

    with pytest.raises(InvalidToken):
        read_token(changed)


def test_a_token_does_not_show_where_it_is_printed() -> None:
    token = make_token()

    assert token.text not in repr(token)
    assert token.text[17:] not in str([token])


@pytest.mark.requirement("M2.6")
def test_the_store_keeps_no_secret() -> None:
    token = make_token()
    line = write_line(credential(token))

    assert token.text[17:60] not in line
    assert token.signing_seed.hex() not in line
    assert read_credentials(line, "f") == {token.id: credential(token)}


@pytest.mark.requirement("M2.6")
def test_a_token_holds_until_it_expires_or_is_revoked() -> None:
    token = make_token()
    known = {token.id: credential(token, expires=NOON + DAY)}
    taken_back = {token.id: revoke(known[token.id], NOON + 5)}

    assert authenticate(known, token.text, now=NOON + DAY - 1) == known[token.id]
    assert authenticate(known, token.text, now=NOON + DAY) is Refusal.EXPIRED
    assert authenticate(taken_back, token.text, now=NOON + 4) == taken_back[token.id]
    assert authenticate(taken_back, token.text, now=NOON + 5) is Refusal.REVOKED
    assert revoke(taken_back[token.id], NOON + 9).revoked == NOON + 5


def test_another_secret_under_a_known_id_is_unknown() -> None:
    mine, other = make_token(), make_token()
    stolen_id = {mine.id: credential(mine, digest=other.digest)}

    assert authenticate(stolen_id, mine.text, now=NOON) is Refusal.UNKNOWN_TOKEN
    assert authenticate({}, mine.text, now=NOON) is Refusal.UNKNOWN_TOKEN
    assert authenticate({}, mine.text[:-1], now=NOON) is Refusal.MALFORMED_TOKEN


def test_every_wrong_line_is_named() -> None:
    line = write_line(credential(make_token()))
    text = "\n".join(['{"id": "x"}', "# said by hand", "", "[]", line, line, "{", line.replace('"report"', '"rule"')])
    with pytest.raises(ConfigurationError) as caught:
        read_credentials(text, "tokens")
    problems = str(caught.value).split("; tokens:")

    assert len(problems) == 5
    assert problems[0] == "tokens:1: 'digest' is missing"
    assert problems[1] == "4: expected a JSON object, as `deploytrail token create` writes it"
    assert "stands twice" in problems[2]
    assert problems[4] == "8: 'rule' is not a valid Verb"


def test_a_made_up_token_is_told_by_its_checksum() -> None:
    assert re.fullmatch(PATTERN, LOOKS_LIKE_ONE)
    with pytest.raises(InvalidToken, match="checksum"):
        read_token(LOOKS_LIKE_ONE)
