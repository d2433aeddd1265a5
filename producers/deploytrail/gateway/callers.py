"""Who calls: what a request proves of its sender, and what that sender may say."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from deploytrail_schemas.credential_file import CredentialFile
from deploytrail_schemas.credentials import authenticate
from deploytrail_schemas.errors import ConfigurationError, RetryLater
from deploytrail_schemas.reasons import Refusal
from deploytrail_schemas.scopes import EVERYTHING, Scope
from deploytrail_schemas.settings import Settings
from deploytrail_schemas.tokens import is_token
from starlette.requests import Request

from deploytrail import adapters
from deploytrail.adapters.base import Source
from deploytrail.gateway import anonymity, signatures
from deploytrail.gateway.oidc import Jobs
from deploytrail.gateway.oidc_config import load
from deploytrail.gateway.problems import Problem, Refused

ANONYMOUS = "anonymous"
_BEARER = {"WWW-Authenticate": "Bearer"}
_CHALLENGES = {"bearer": _BEARER, "basic": {"WWW-Authenticate": 'Basic realm="deploytrail"'}}
_WORDS = {
    Refusal.NO_CREDENTIAL: "the bearer token is missing",
    Refusal.MALFORMED_TOKEN: "the bearer token is cut short, mistyped or no token at all",
    Refusal.UNKNOWN_TOKEN: "the bearer token is not known here",
    Refusal.EXPIRED: "the bearer token has expired",
    Refusal.REVOKED: "the bearer token was revoked",
    Refusal.WRONG_SIGNATURE: "the bearer token's signature does not fit",
    Refusal.UNKNOWN_ISSUER: "the bearer token's issuer is none of DEPLOYTRAIL_OIDC",
    Refusal.UNKNOWN_KEY: "the bearer token's issuer has no such key",
    Refusal.WRONG_AUDIENCE: "the bearer token is for another audience",
    Refusal.NOT_YET_VALID: "the bearer token does not hold yet",
    Refusal.NO_RULE: "no rule of DEPLOYTRAIL_OIDC admits this job",
}


@dataclass(frozen=True, slots=True)
class Caller:
    """Who was authenticated: the record's `reporter`, its bounds, and the event fields that its credential proves."""

    name: str
    scope: Scope = EVERYTHING
    facts: Mapping[str, str] = field(default_factory=dict)


class Callers:
    """Tokens, CI systems and webhook secrets of the settings. ConfigurationError for one that can prove nothing."""

    def __init__(self, settings: Settings) -> None:
        self._secrets = webhook_secrets(settings.webhook_secrets)
        self._file = CredentialFile(Path(settings.credentials)) if settings.credentials else None
        self._jobs = Jobs(load(Path(settings.oidc))) if settings.oidc else None
        # Where there is a file of tokens, only that says what one of them may do.
        static = signatures.secrets_of(settings.token)
        self._static = [token for token in static if not (self._file and is_token(token))]
        self._anonymous = anonymity.read(settings.anonymous)
        self._has_tokens = bool(static or self._file or self._jobs)

    async def of_report(self, request: Request) -> Caller:
        """Who calls a /v1 route. Refused (401) for a wrong credential, and for none where one is needed."""
        headers = request.headers
        scheme, _, text = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            host = request.client.host if request.client else ""
            if "authorization" not in headers and anonymity.is_allowed(
                self._anonymous, host, headers, has_tokens=self._has_tokens
            ):
                return Caller(ANONYMOUS)
            raise _refused(Refusal.NO_CREDENTIAL)
        if signatures.is_bearer(headers, self._static):
            return Caller("token")
        return await self._of_bearer(text.strip())

    async def of_delivery(self, source: Source, body: bytes, request: Request) -> Caller:
        """Who sent a webhook. Refused (401) where the source has a secret and the delivery does not prove to know it.

        A source without a secret shows a bearer token like any other caller, or is anonymous.
        """
        secrets = self._secrets.get(source.name)
        if not secrets:
            try:
                return await self.of_report(request)
            except Refused as refused:
                if refused.reason is Refusal.NO_CREDENTIAL:
                    refused.detail += f"; DEPLOYTRAIL_WEBHOOK_SECRETS has no secret of {source.name}"
                raise
        scheme = signatures.SCHEMES[source.signature]
        fits = scheme.check(signatures.Delivery(body, request.headers, time.time()), secrets)
        if not isinstance(fits, bool):
            with _answered_later():
                fits = await fits
        if not fits:
            more = _CHALLENGES.get(source.signature, {})
            said = f"{scheme.what} is missing, too old, or does not fit the body"
            raise Refused(401, said, Refusal.WRONG_SIGNATURE, caller=f"webhook:{source.name}", headers=more)
        return Caller(f"webhook:{source.name}")

    async def answered(self, source: Source, body: bytes, request: Request) -> str:
        """What was done because a sender that was let in asks for it before it delivers anything; "" for nothing."""
        secrets, answer = self._secrets.get(source.name), signatures.SCHEMES[source.signature].answer
        if not secrets or answer is None:
            return ""
        with _answered_later():
            return await answer(signatures.Delivery(body, request.headers, time.time()), secrets)

    async def _of_bearer(self, text: str) -> Caller:
        if self._file is not None and is_token(text):
            found = authenticate(self._file.credentials, text, now=time.time_ns() // 1000)
            if isinstance(found, Refusal):
                raise _refused(found)
            return Caller(found.name, found.scope)
        if self._jobs is not None and text.count(".") == 2:
            with _answered_later():
                job = await self._jobs.of_token(text, now=time.time())
            if isinstance(job, Refusal):
                raise _refused(job)
            return Caller(job.name, job.scope, job.facts)
        raise _refused(Refusal.UNKNOWN_TOKEN)


@contextlib.contextmanager
def _answered_later() -> Iterator[None]:
    try:
        yield
    except RetryLater as error:
        raise Problem(503, f"{error}; send it again", headers={"Retry-After": "60"}) from error


def _refused(reason: Refusal) -> Refused:
    return Refused(401, _WORDS[reason], reason, headers=_BEARER)


def webhook_secrets(setting: str) -> dict[str, list[str]]:
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
