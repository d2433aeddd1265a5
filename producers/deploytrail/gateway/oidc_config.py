"""The file DEPLOYTRAIL_OIDC: which CI systems are believed, and what their jobs may say. Pure but for reading it.

    audience: https://deploytrail.example.com
    issuers:
      - {issuer: https://token.actions.githubusercontent.com, kind: github, jwks: …/.well-known/jwks}
    rules:
      - issuer: https://token.actions.githubusercontent.com
        claims: {repository: acme/checkout, ref: refs/heads/main}
        scope: {team: payments, services: [checkout], environments: [production], verbs: [report]}

The first rule whose claims all fit decides. In a claim's pattern `*` stands for text without `/`
and `:`, the separators of names and subjects.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml
from deploytrail_schemas.errors import ConfigurationError
from deploytrail_schemas.scopes import Scope, Verb

from deploytrail.gateway.anonymity import is_loopback

# Symmetric ones never: a key that everybody knows would sign.
ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
# An issuer serves everybody: one of these must say whose job it is.
WHOSE = {
    "github": ("repository", "repository_owner", "repository_id", "repository_owner_id", "sub"),
    "gitlab": ("project_path", "namespace_path", "project_id", "namespace_id", "sub"),
    "google": ("email", "sub"),
}


@dataclass(frozen=True, slots=True)
class Issuer:
    """A CI system. `server`: where its repositories lie. `jwks`: URL or path of its keys."""

    url: str
    kind: str
    jwks: str
    server: str
    algorithms: tuple[str, ...] = ("RS256",)


@dataclass(frozen=True, slots=True)
class Rule:
    """Jobs of an issuer whose claims fit may say what lies in the scope."""

    issuer: str
    claims: Mapping[str, str]
    scope: Scope

    def admits(self, claims: Mapping[str, Any]) -> bool:
        """Whether all patterns fit; a claim that is missing fits none."""
        return all(name in claims and claim_fits(p, _text(claims[name])) for name, p in self.claims.items())


@dataclass(frozen=True, slots=True)
class Oidc:
    """All of the file."""

    audience: str
    issuers: Mapping[str, Issuer]
    rules: tuple[Rule, ...]

    def scope_of(self, issuer: str, claims: Mapping[str, Any]) -> Scope | None:
        """The scope of the first rule that admits a job; None where none does."""
        return next((r.scope for r in self.rules if r.issuer == issuer and r.admits(claims)), None)


def load(path: Path) -> Oidc:
    """The file's content; ConfigurationError where it cannot be read, or with all that is wrong in it."""
    try:
        value = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigurationError(f"DEPLOYTRAIL_OIDC: {path} cannot be read: {error}") from error
    return read(value)


def read(value: object) -> Oidc:
    """The content of a loaded file."""
    wrong: list[str] = []
    given = _mapping(value, "the file", {"audience", "issuers", "rules"}, wrong)
    audience = given.get("audience")
    if not isinstance(audience, str) or not audience:
        wrong.append("audience is missing: the address of this gateway, which jobs ask a token for")
    issuers = [_issuer(item, f"issuers[{i}]", wrong) for i, item in enumerate(_items(given, "issuers", wrong))]
    known = {issuer.url: issuer for issuer in issuers}
    rules = [_rule(item, f"rules[{i}]", known, wrong) for i, item in enumerate(_items(given, "rules", wrong))]
    if wrong:
        raise ConfigurationError("DEPLOYTRAIL_OIDC: " + "; ".join(wrong))
    return Oidc(str(audience), known, tuple(rules))


def claim_fits(pattern: str, text: str) -> bool:
    """Whether a claim's text fits a pattern; case matters."""
    return len(text) <= 512 and _expression(pattern).fullmatch(text) is not None


@lru_cache(1024)
def _expression(pattern: str) -> re.Pattern[str]:
    return re.compile("[^/:]*".join(re.escape(part) for part in re.split(r"\*+", pattern)))


def _issuer(value: object, where: str, wrong: list[str]) -> Issuer:
    given = _mapping(value, where, {"issuer", "kind", "jwks", "server", "algorithms"}, wrong)
    url, kind, jwks = (str(given.get(name, "")) for name in ("issuer", "kind", "jwks"))
    if kind not in WHOSE:
        wrong.append(f"{where}.kind is {kind!r}; expected {' or '.join(WHOSE)}")
    if not url.startswith(("https://", "http://")):
        wrong.append(f"{where}.issuer is {url!r}; expected a URL, as the claim iss has it")
    if not jwks or not _may_be_fetched(jwks):
        wrong.append(f"{where}.jwks is {jwks!r}; expected https://… or the path of a file")
    algorithms = tuple(_texts(given.get("algorithms", ["RS256"]), f"{where}.algorithms", wrong))
    if not algorithms or not set(algorithms) <= set(ALGORITHMS):
        wrong.append(f"{where}.algorithms is {list(algorithms)}; expected some of {', '.join(ALGORITHMS)}")
    usual = "https://github.com" if kind == "github" else url
    return Issuer(url, kind, jwks, str(given.get("server", usual)).rstrip("/"), algorithms)


def _may_be_fetched(source: str) -> bool:
    parts = urlsplit(source)
    return parts.scheme in ("", "https") or (parts.scheme == "http" and is_loopback(parts.hostname or ""))


def _rule(value: object, where: str, issuers: Mapping[str, Issuer], wrong: list[str]) -> Rule:
    given = _mapping(value, where, {"issuer", "claims", "scope"}, wrong)
    url = str(given.get("issuer", ""))
    claims = {str(k): _text(v) for k, v in _mapping(given.get("claims"), f"{where}.claims", None, wrong).items()}
    if url not in issuers:
        wrong.append(f"{where}.issuer is {url!r}; expected one of issuers")
    elif not any(claims.get(name, "*")[:1] not in ("*", "") for name in WHOSE.get(issuers[url].kind, ())):
        needed = ", ".join(WHOSE.get(issuers[url].kind, ()))
        wrong.append(f"{where}.claims must say whose jobs: one of {needed}, not beginning with *")
    return Rule(url, claims, _scope(given.get("scope"), f"{where}.scope", wrong))


def _scope(value: object, where: str, wrong: list[str]) -> Scope:
    given = _mapping(value, where, {"team", "services", "environments", "regions", "verbs"}, wrong)
    verbs = _texts(given.get("verbs", ["report"]), f"{where}.verbs", wrong)
    if not verbs or not set(verbs) <= set(Verb) - {Verb.RELAY}:
        wrong.append(f"{where}.verbs is {verbs}; expected some of {', '.join(v for v in Verb if v is not Verb.RELAY)}")
        verbs = []
    for name in ("services", "environments"):
        if not given.get(name):
            wrong.append(f"{where}.{name} is missing; ['*'] stands for all")
    return Scope(
        team=str(given.get("team", "")),
        services=tuple(_texts(given.get("services", []), f"{where}.services", wrong)),
        environments=tuple(_texts(given.get("environments", []), f"{where}.environments", wrong)),
        regions=tuple(_texts(given.get("regions", ["*"]), f"{where}.regions", wrong)),
        verbs=frozenset(Verb(verb) for verb in verbs),
    )


def _mapping(value: object, where: str, known: set[str] | None, wrong: list[str]) -> dict[str, Any]:
    if not isinstance(value, dict):
        wrong.append(f"{where} is no mapping")
        return {}
    if known is not None:
        wrong.extend(f"{where} has no field {name!r}" for name in value if name not in known)
    return value


def _items(given: Mapping[str, Any], name: str, wrong: list[str]) -> list[Any]:
    value = given.get(name)
    if isinstance(value, list) and value:
        return value
    wrong.append(f"{name} is missing or no list")
    return []


def _texts(value: object, where: str, wrong: list[str]) -> list[str]:
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return value
    wrong.append(f"{where} is no list of texts")
    return []


def _text(value: object) -> str:
    # YAML reads `true` and numbers where claims have texts, and the other way round.
    return str(value).lower() if isinstance(value, bool) else str(value)
