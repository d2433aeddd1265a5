"""Tokens for tests: made, kept in a file, and shown."""

from __future__ import annotations

from pathlib import Path

from deploytrail_schemas.credential_file import change
from deploytrail_schemas.credentials import Credential, revoke
from deploytrail_schemas.record_signatures import public_key_of
from deploytrail_schemas.scopes import Scope, Verb
from deploytrail_schemas.tokens import make_token, read_token

LONG_AGO = 1_600_000_000_000_000


def add_token(
    path: Path,
    *verbs: Verb,
    team: str = "payments",
    services: tuple[str, ...] = ("pay-*",),
    environments: tuple[str, ...] = ("production",),
    regions: tuple[str, ...] = ("eu-west-1",),
    expires: int | None = None,
) -> str:
    """A new token that the file of credentials knows; default: payments may report pay-* in production, eu-west-1."""
    token = make_token()
    scope = Scope(team, services, environments, regions, frozenset(verbs or (Verb.REPORT,)))
    made = Credential(token.id, token.digest, public_key_of(token), scope, LONG_AGO, expires)
    change(path, lambda found: found.update({token.id: made}))
    return token.text


def revoke_token(path: Path, text: str, at: int) -> None:
    """Revoke a token of the file."""
    identity = read_token(text).id
    change(path, lambda found: found.update({identity: revoke(found[identity], at)}))


def relay_token(path: Path) -> str:
    """A token for a gateway or a backfill."""
    return add_token(path, Verb.RELAY, team="", services=("*",), environments=("*",), regions=("*",))
