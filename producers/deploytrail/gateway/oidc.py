"""Tokens that CI systems give their jobs (OpenID Connect): nothing secret is stored anywhere.

https://docs.github.com/en/actions/reference/security/oidc
https://docs.gitlab.com/ci/secrets/id_token_authentication/
https://cloud.google.com/pubsub/docs/authenticate-push-subscriptions
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jwt
from deploytrail_schemas.reasons import Refusal
from deploytrail_schemas.scopes import Scope
from jwt.types import Options

from deploytrail.gateway.oidc_config import Issuer, Oidc
from deploytrail.gateway.oidc_keys import Jwk, KeySet

LEEWAY_SECONDS = 60  # between the issuer's clock and ours
LONGEST_TOKEN = 8192  # bytes; GitHub's have 1,500 to 2,500
_LEAST_RSA_BITS = 2048
_NAME_LIMIT = 200
# Times are checked here, against a time that is an argument.
_OPTIONS: Options = {
    "require": ["exp", "iat", "iss", "aud", "sub"],
    "verify_exp": False,
    "verify_nbf": False,
    "verify_iat": False,
}


@dataclass(frozen=True, slots=True)
class Job:
    """A CI job that proved who it is. `facts`: fields of a DeploymentEvent that its token proves."""

    name: str
    scope: Scope
    facts: Mapping[str, str]


class Jobs:
    """Knows jobs by their tokens."""

    def __init__(self, config: Oidc, keys: Callable[[str], KeySet] = KeySet) -> None:
        self._config = config
        self._keys = {url: keys(issuer.jwks) for url, issuer in config.issuers.items()}

    async def of_token(self, text: str, *, now: float) -> Job | Refusal:
        """The job of a token, at `now` in seconds; or why it is none. RetryLater where an issuer's keys are away."""
        if len(text) > LONGEST_TOKEN:
            return Refusal.MALFORMED_TOKEN
        try:
            header = jwt.get_unverified_header(text)
            pretended = jwt.decode(text, options={"verify_signature": False})
        except (jwt.PyJWTError, ValueError, RecursionError):
            return Refusal.MALFORMED_TOKEN
        # Which keys to ask is all that is taken from it before the signature is checked. A key that
        # the token brings itself (jwk, jku, x5c, x5u) is never looked at.
        issuer = self._config.issuers.get(str(pretended.get("iss")))
        if issuer is None:
            return Refusal.UNKNOWN_ISSUER
        if "crit" in header or header.get("alg") not in issuer.algorithms:
            return Refusal.WRONG_SIGNATURE
        key = await self._keys[issuer.url].key(str(header.get("kid", "")))
        if key is None:
            return Refusal.UNKNOWN_KEY
        claims = _verified(text, header["alg"], key, issuer, self._config.audience)
        if isinstance(claims, Refusal):
            return claims
        if refusal := _refusal_of_times(claims, now):
            return refusal
        scope = self._config.scope_of(issuer.url, claims)
        if scope is None:
            return Refusal.NO_RULE
        return Job(_name(issuer, claims), scope, _FACTS[issuer.kind](claims, issuer.server))


def _verified(text: str, algorithm: str, key: Jwk, issuer: Issuer, audience: str) -> dict[str, Any] | Refusal:
    if key.get("alg", algorithm) != algorithm:
        return Refusal.WRONG_SIGNATURE
    try:
        public = jwt.PyJWK(key, algorithm)
        if getattr(public.key, "key_size", _LEAST_RSA_BITS) < _LEAST_RSA_BITS and key["kty"] == "RSA":
            return Refusal.WRONG_SIGNATURE
        return jwt.decode(text, public, [algorithm], _OPTIONS, audience=audience, issuer=issuer.url)
    except jwt.InvalidAudienceError:
        return Refusal.WRONG_AUDIENCE
    except (jwt.InvalidSignatureError, jwt.InvalidAlgorithmError, jwt.InvalidKeyError, jwt.PyJWKError):
        return Refusal.WRONG_SIGNATURE
    except (jwt.PyJWTError, ValueError, TypeError):
        return Refusal.MALFORMED_TOKEN


def _refusal_of_times(claims: Mapping[str, Any], now: float) -> Refusal | None:
    times = [claims["exp"], claims["iat"], claims.get("nbf", claims["iat"])]
    if not all(isinstance(t, (int, float)) and not isinstance(t, bool) for t in times):
        return Refusal.MALFORMED_TOKEN
    expires, issued, not_before = times
    if now >= expires + LEEWAY_SECONDS:
        return Refusal.EXPIRED
    return Refusal.NOT_YET_VALID if max(issued, not_before) > now + LEEWAY_SECONDS else None


def _name(issuer: Issuer, claims: Mapping[str, Any]) -> str:
    return re.sub(r"[^\x21-\x7e]", "?", f"{issuer.kind}:{claims['sub']}")[:_NAME_LIMIT]


def _github(claims: Mapping[str, Any], server: str) -> dict[str, str]:
    name, run = _text(claims, "repository"), _text(claims, "run_id")
    return _told(
        build_system="github_actions",
        build_id=run,
        build_number=_text(claims, "run_number"),
        build_url=f"{server}/{name}/actions/runs/{run}" if name and run else "",
        commit_sha=_text(claims, "sha"),
        repository=f"{server}/{name}.git" if name else "",
        ref=_ref(_text(claims, "head_ref") or _text(claims, "ref")),
        pipeline=_text(claims, "workflow"),
        **_who(_text(claims, "actor"), automatic=_text(claims, "event_name") == "schedule"),
    )


def _gitlab(claims: Mapping[str, Any], server: str) -> dict[str, str]:
    path, pipeline = _text(claims, "project_path"), _text(claims, "pipeline_id")
    return _told(
        build_system="gitlab_ci",
        build_id=pipeline,
        build_url=f"{server}/{path}/-/pipelines/{pipeline}" if path and pipeline else "",
        commit_sha=_text(claims, "sha"),
        repository=f"{server}/{path}.git" if path else "",
        ref=_ref(_text(claims, "ref")),
        pipeline=path,
        **_who(_text(claims, "user_login"), automatic=_text(claims, "pipeline_source") == "schedule"),
    )


def _google(claims: Mapping[str, Any], server: str) -> dict[str, str]:
    """A service account, e.g. of a push subscription of Pub/Sub: it carries what others did."""
    del claims, server
    return {}


_FACTS = {"github": _github, "gitlab": _gitlab, "google": _google}


def _told(**facts: str) -> dict[str, str]:
    return {name: text for name, text in facts.items() if text}


def _who(name: str, *, automatic: bool) -> dict[str, str]:
    bot = automatic or name.endswith("[bot]")
    return {"deployer": name, "deployer_type": "automation" if bot else "person"} if name else {}


def _ref(ref: str) -> str:
    return ref.removeprefix("refs/").removeprefix("heads/").removeprefix("tags/")


def _text(claims: Mapping[str, Any], name: str) -> str:
    value = claims.get(name, "")
    return str(value)[:512] if isinstance(value, (str, int)) and not isinstance(value, bool) else ""
