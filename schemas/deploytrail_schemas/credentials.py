"""Credentials as a store keeps them: no secret among them. Pure: text and times in, verdicts out."""

from __future__ import annotations

import base64
import binascii
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from deploytrail_schemas.errors import ConfigurationError
from deploytrail_schemas.instants import format_instant, parse_instant
from deploytrail_schemas.reasons import Refusal
from deploytrail_schemas.scopes import Scope, Verb
from deploytrail_schemas.tokens import PREFIX, InvalidToken, read_token

_DIGEST = 64


@dataclass(frozen=True, slots=True)
class Credential:
    """One token's line in the store. `public_key`: of the Ed25519 key that it signs records with. Times in µs."""

    id: str
    digest: str
    public_key: bytes
    scope: Scope
    created: int
    expires: int | None = None
    revoked: int | None = None

    @property
    def name(self) -> str:
        """What it is called where a record says who reported it."""
        return PREFIX + self.id

    def refusal_at(self, when: int) -> Refusal | None:
        """Why it does not hold at an instant; None where it does. A revocation holds for good."""
        if self.revoked is not None and when >= self.revoked:
            return Refusal.REVOKED
        if self.expires is not None and when >= self.expires:
            return Refusal.EXPIRED
        return None


Credentials = Mapping[str, Credential]


def authenticate(credentials: Credentials, text: str, *, now: int) -> Credential | Refusal:
    """The credential of a token's text, or why it is none. The digest is compared in constant time."""
    try:
        token = read_token(text)
    except InvalidToken:
        return Refusal.MALFORMED_TOKEN
    found = credentials.get(token.id)
    # An unknown id costs the same comparison: how long it takes tells nothing.
    same = hmac.compare_digest(token.digest, found.digest if found else "0" * _DIGEST)
    if found is None or not same:
        return Refusal.UNKNOWN_TOKEN
    return found.refusal_at(now) or found


def revoke(credential: Credential, at: int) -> Credential:
    """The credential, revoked; an earlier revocation stands."""
    return replace(credential, revoked=at if credential.revoked is None else min(at, credential.revoked))


def read_credentials(text: str, source: str) -> dict[str, Credential]:
    """The credentials of a text, one JSON object a line; ConfigurationError names every line that is wrong."""
    found: dict[str, Credential] = {}
    wrong: list[str] = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        try:
            credential = _read_line(line)
            if credential.id in found:
                raise ValueError(f"the id {credential.id} stands twice")
            found[credential.id] = credential
        except (ValueError, KeyError, TypeError) as error:
            wrong.append(f"{source}:{number}: {f'{error} is missing' if isinstance(error, KeyError) else error}")
    if wrong:
        raise ConfigurationError("; ".join(wrong))
    return found


def write_line(credential: Credential) -> str:
    """The line of a credential, without its end."""
    scope = credential.scope
    value: dict[str, Any] = {
        "id": credential.id,
        "digest": credential.digest,
        "public_key": base64.b64encode(credential.public_key).decode(),
        "team": scope.team,
        "services": list(scope.services),
        "environments": list(scope.environments),
        "regions": list(scope.regions),
        "verbs": sorted(scope.verbs),
        "created": format_instant(credential.created),
        "expires": format_instant(credential.expires) if credential.expires is not None else None,
        "revoked": format_instant(credential.revoked) if credential.revoked is not None else None,
    }
    return json.dumps(value, ensure_ascii=False)


def _read_line(line: str) -> Credential:
    try:
        value = json.loads(line)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise ValueError("expected a JSON object, as `deploytrail token create` writes it")
    digest, key = str(value["digest"]), _bytes(value["public_key"])
    if len(digest) != _DIGEST or len(key) != 32:
        raise ValueError("digest is 64 hexadecimal digits, public_key base64 of 32 bytes")
    scope = Scope(
        team=str(value["team"]),
        services=_texts(value["services"]),
        environments=_texts(value["environments"]),
        regions=_texts(value["regions"]),
        verbs=frozenset(Verb(verb) for verb in _texts(value["verbs"])),
    )
    expires, revoked = value.get("expires"), value.get("revoked")
    return Credential(
        id=str(value["id"]),
        digest=digest,
        public_key=key,
        scope=scope,
        created=parse_instant(value["created"]),
        expires=None if expires is None else parse_instant(expires),
        revoked=None if revoked is None else parse_instant(revoked),
    )


def _texts(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ValueError(f"{value!r} is no list of texts")
    return tuple(value)


def _bytes(value: object) -> bytes:
    try:
        return base64.b64decode(str(value), validate=True)
    except binascii.Error as error:
        raise ValueError(f"public_key: {error}") from None
