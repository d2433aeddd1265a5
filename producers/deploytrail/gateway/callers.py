"""Who calls: what a request proves of its sender."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

from deploytrail_schemas.errors import ConfigurationError
from deploytrail_schemas.settings import Settings

from deploytrail import adapters
from deploytrail.adapters.base import Source
from deploytrail.gateway import signatures
from deploytrail.gateway.problems import Problem

ANONYMOUS = "anonymous"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who was authenticated; the record's `reporter`."""

    name: str


class Callers:
    """Tokens and webhook secrets of the settings. ConfigurationError for a secret that can sign nothing."""

    def __init__(self, settings: Settings) -> None:
        self._tokens = signatures.secrets_of(settings.token)
        self._secrets = _webhook_secrets(settings.webhook_secrets)

    def of_report(self, headers: Mapping[str, str]) -> Caller:
        """Who calls a /v1 route; Problem 401 where a token is asked for and none fits."""
        if not self._tokens:
            return Caller(ANONYMOUS)
        if not signatures.is_bearer(headers, self._tokens):
            raise Problem(401, "the bearer token is missing or wrong", headers={"WWW-Authenticate": "Bearer"})
        return Caller("token")

    def of_delivery(self, source: Source, body: bytes, headers: Mapping[str, str]) -> Caller:
        """Who sent a webhook; Problem 401 where the source has a secret and the delivery does not prove to know it."""
        if secrets := self._secrets.get(source.name):
            scheme = signatures.SCHEMES[source.signature]
            if not scheme.check(signatures.Delivery(body, headers, time.time()), secrets):
                more = {"WWW-Authenticate": "Bearer"} if source.signature == "bearer" else {}
                raise Problem(401, f"{scheme.what} is missing, too old, or does not fit the body", headers=more)
        return Caller(f"webhook:{source.name}")


def _webhook_secrets(setting: str) -> dict[str, list[str]]:
    """source=secret[,secret…];… with every secret checked for what its scheme can use."""
    found: dict[str, list[str]] = {}
    for pair in filter(None, map(str.strip, setting.split(";"))):
        name, _, given = pair.partition("=")
        if name not in adapters.names() or not (secrets := signatures.secrets_of(given)):
            raise ConfigurationError(
                f"DEPLOYTRAIL_WEBHOOK_SECRETS names {name!r}; expected source=secret;… with a source of "
                f"{', '.join(adapters.names())}"
            )
        scheme = signatures.SCHEMES[adapters.load(name).signature]
        for secret in secrets:
            if problem := scheme.problem_of(secret):
                raise ConfigurationError(f"DEPLOYTRAIL_WEBHOOK_SECRETS: the secret of {name} {problem}")
        found[name] = secrets
    return found
