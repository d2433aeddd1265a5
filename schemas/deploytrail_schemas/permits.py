"""Permits: short-lived signed leave to deploy one artifact as one deployment. Checking them is pure: keys and time in.

A permit is a JWT (RFC 7519) in compact form, signed with Ed25519 (`EdDSA`, RFC 8037):

    header   {"alg": "EdDSA", "typ": "deploytrail-permit+jwt", "kid": …}
    claims   iss aud sub jti iat nbf exp                 sub: the deployment id; times: whole seconds
             service environment region artifact_digest change_ticket

It lives 15 minutes at most. The type keeps other tokens of the same issuer from passing for one (RFC 8725, 3.11).
Only the signature needs `cryptography`.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Container, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from deploytrail_schemas.errors import ConfigurationError
from deploytrail_schemas.json_values import JsonError, parse_json
from deploytrail_schemas.reasons import PermitRefusal

TYPE = "deploytrail-permit+jwt"
ALGORITHM = "EdDSA"
LONGEST_SECONDS = 15 * 60
LEEWAY_SECONDS = 30  # between the clocks of who issues and who checks
LONGEST_TEXT = 8192
_LONGEST_JWKS = 512 << 10
_KEY_BYTES, _SIGNATURE_BYTES = 32, 64
_COMPACT = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+", re.ASCII)
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}", re.ASCII)
_TEXTS = ("iss", "sub", "jti", "service", "environment", "region", "artifact_digest", "change_ticket")
_TIMES = ("iat", "nbf", "exp")
# What a permit names, the refusal where it names another, and whether case and surrounding space matter.
_BOUND = {
    "service": (PermitRefusal.OTHER_SERVICE, False),
    "environment": (PermitRefusal.OTHER_ENVIRONMENT, False),
    "region": (PermitRefusal.OTHER_REGION, False),
    "deployment_id": (PermitRefusal.OTHER_DEPLOYMENT, True),
    "artifact_digest": (PermitRefusal.OTHER_ARTIFACT, True),
}


@dataclass(frozen=True, slots=True)
class Permit:
    """What a permit says. Times in seconds since the epoch."""

    id: str
    deployment_id: str
    service: str
    environment: str
    region: str
    artifact_digest: str
    change_ticket: str
    issued_at: int
    not_before: int
    expires_at: int


@dataclass(frozen=True, slots=True)
class Subject:
    """What is about to be deployed, as whoever checks knows it by itself.

    None: that cannot be known where it is checked, and is not compared. Empty text is a name that no permit has.
    """

    artifact_digest: str
    service: str | None = None
    environment: str | None = None
    region: str | None = None
    deployment_id: str | None = None


@dataclass(frozen=True, slots=True)
class PermitProblem:
    """One reason why a permit does not hold, with the words for people."""

    reason: PermitRefusal
    detail: str


@dataclass(frozen=True, slots=True)
class PermitVerdict:
    """Every reason against it at once; none: allowed. `permit`: what it says, only where its signature holds."""

    problems: tuple[PermitProblem, ...]
    permit: Permit | None = None

    @property
    def is_allowed(self) -> bool:
        """Whether nothing stands against it."""
        return not self.problems and self.permit is not None

    @property
    def reasons(self) -> tuple[PermitRefusal, ...]:
        """The reasons, each once, in the order of their problems."""
        return tuple(dict.fromkeys(problem.reason for problem in self.problems))


@dataclass(frozen=True, slots=True)
class PermitKeys:
    """The public keys of a JWKS (RFC 7517) by their ids; None: a key that cannot sign permits (RSA, X25519, …)."""

    keys: Mapping[str, bytes | None]


@dataclass(frozen=True, slots=True)
class Authority:
    """Whose permits are believed, and for whom they must be meant."""

    keys: PermitKeys
    issuer: str
    audience: str


def read_keys(data: bytes, source: str) -> PermitKeys:
    """The keys of a JWKS. ConfigurationError, naming `source`, for what is none or holds a private key."""
    try:
        value = parse_json(data, _LONGEST_JWKS)
    except JsonError as error:
        raise ConfigurationError(f"{source} is no JWKS: {error.detail}") from None
    keys = value.get("keys") if isinstance(value, dict) else None
    if not isinstance(keys, list) or not keys:
        raise ConfigurationError(f"{source} is no JWKS: expected an object with a list `keys` that is not empty")
    found: dict[str, bytes | None] = {}
    for key in keys:
        if not isinstance(key, dict) or not isinstance(key.get("kid"), str) or not key["kid"]:
            raise ConfigurationError(f"{source}: a key has no `kid`, by which permits name it")
        if "d" in key:
            raise ConfigurationError(f"{source} holds the private key of {key['kid']!r}: replace that key, it is known")
        if key["kid"] in found:
            raise ConfigurationError(f"{source}: the key id {key['kid']!r} stands twice")
        found[key["kid"]] = _public_key(key)
    return PermitKeys(MappingProxyType(found))


def verify_permit(
    text: str, subject: Subject, authority: Authority, *, now: float, used: Container[str] = frozenset()
) -> PermitVerdict:
    """Whether a permit allows the subject at `now` (seconds since the epoch), and all that stands against it.

    `used`: ids (`jti`) of permits that were used before. MissingDependencyError without `cryptography`.
    """
    if not text:
        return PermitVerdict((PermitProblem(PermitRefusal.NO_PERMIT, "no permit was shown"),))
    parts = _parsed(text)
    if isinstance(parts, str):
        return PermitVerdict((PermitProblem(PermitRefusal.MALFORMED, parts),))
    header, claims, signed, signature = parts
    found = _header_problems(header)
    sound = _signature_problems(header, authority.keys, signed, signature) if not found else []
    found += sound
    is_signed = not found
    missing = _claim_problems(claims)
    found += missing
    if not missing:
        found += _time_problems(claims, now)
        found += _bound_problems(claims, subject)
    found += _identity_problems(claims, authority, used)
    permit = _permit(claims) if is_signed and not missing else None
    return PermitVerdict(tuple(found), permit)


def read_unverified(text: str) -> Mapping[str, Any]:
    """The claims of a permit whose signature nobody looked at: to say what was shown, never to decide. Empty: none."""
    parts = _parsed(text)
    return {} if isinstance(parts, str) else parts[1]


def _parsed(text: str) -> tuple[dict[str, Any], dict[str, Any], bytes, bytes] | str:
    """Header, claims, signed bytes and signature; or why the text is no JWT."""
    if len(text) > LONGEST_TEXT:
        return f"the permit has {len(text)} characters; at most {LONGEST_TEXT} are read"
    if not _COMPACT.fullmatch(text):
        return "the permit is no JWT in compact form: expected three parts of base64url"
    head, body, signature = text.split(".")
    try:
        header, claims = parse_json(_decoded(head)), parse_json(_decoded(body))
        signed_by = _decoded(signature)
    except ValueError:
        return "a part of the permit is no base64url: it is cut short or changed"
    except JsonError as error:
        return f"a part of the permit is no JSON: {error.detail}"
    if not isinstance(header, dict) or not isinstance(claims, dict):
        return "header and claims of a permit are objects"
    return header, claims, f"{head}.{body}".encode(), signed_by


def _header_problems(header: Mapping[str, Any]) -> list[PermitProblem]:
    found = []
    if header.get("typ") != TYPE:
        found.append(PermitProblem(PermitRefusal.WRONG_TYPE, f"typ is {_shown(header.get('typ'))}; expected {TYPE!r}"))
    if header.get("alg") != ALGORITHM:
        said = f"alg is {_shown(header.get('alg'))}; expected {ALGORITHM!r}"
        found.append(PermitProblem(PermitRefusal.WRONG_ALGORITHM, said))
    if "crit" in header:
        said = "the header has crit: an extension that is not known here"
        found.append(PermitProblem(PermitRefusal.MALFORMED, said))
    return found


def _signature_problems(
    header: Mapping[str, Any], keys: PermitKeys, signed: bytes, signature: bytes
) -> list[PermitProblem]:
    # A key that the permit brings itself (jwk, jku, x5c, x5u) is never looked at.
    from deploytrail_schemas.record_signatures import is_signed

    kid = header.get("kid")
    if not isinstance(kid, str) or kid not in keys.keys:
        return [PermitProblem(PermitRefusal.UNKNOWN_KEY, f"kid is {_shown(kid)}, a key that is not known here")]
    key = keys.keys[kid]
    if key is None:
        return [PermitProblem(PermitRefusal.UNSUITABLE_KEY, f"the key {_shown(kid)} is no Ed25519 key for signatures")]
    if len(signature) != _SIGNATURE_BYTES or not is_signed(key, signature, signed):
        return [PermitProblem(PermitRefusal.WRONG_SIGNATURE, f"it was not signed with the key {_shown(kid)}")]
    return []


def _claim_problems(claims: Mapping[str, Any]) -> list[PermitProblem]:
    missing = [name for name in (*_TEXTS, "aud", *_TIMES) if claims.get(name) in (None, "", [])]
    wrong = [name for name in _TEXTS if name not in missing and not isinstance(claims[name], str)]
    wrong += [
        name
        for name in _TIMES
        if name not in missing and (isinstance(claims[name], bool) or not isinstance(claims[name], int))
    ]
    if isinstance(digest := claims.get("artifact_digest"), str) and digest and not _DIGEST.fullmatch(digest):
        wrong.append("artifact_digest")
    found = []
    if missing:
        found.append(PermitProblem(PermitRefusal.MISSING_CLAIM, f"lacks {', '.join(missing)}"))
    if wrong:
        found.append(PermitProblem(PermitRefusal.INVALID_CLAIM, f"cannot read {', '.join(wrong)}"))
    return found


def _identity_problems(claims: Mapping[str, Any], authority: Authority, used: Container[str]) -> list[PermitProblem]:
    found = []
    if "iss" in claims and claims["iss"] != authority.issuer:
        said = f"is of {_shown(claims['iss'])}; expected {authority.issuer!r}"
        found.append(PermitProblem(PermitRefusal.WRONG_ISSUER, said))
    if claims.get("aud"):
        meant = claims["aud"] if isinstance(claims["aud"], list) else [claims["aud"]]
        if authority.audience not in meant:
            said = f"is for {_shown(claims['aud'])}; expected {authority.audience!r}"
            found.append(PermitProblem(PermitRefusal.WRONG_AUDIENCE, said))
    if isinstance(claims.get("jti"), str) and claims["jti"] in used:
        found.append(PermitProblem(PermitRefusal.ALREADY_USED, f"the permit {_shown(claims['jti'])} was used before"))
    return found


def _time_problems(claims: Mapping[str, Any], now: float) -> list[PermitProblem]:
    begins, ends = max(claims["iat"], claims["nbf"]), claims["exp"]
    found = []
    if begins > now + LEEWAY_SECONDS:
        said = f"holds in {_seconds(begins - now)} s; is the clock right?"
        found.append(PermitProblem(PermitRefusal.NOT_YET_VALID, said))
    if now >= ends + LEEWAY_SECONDS:
        said = f"expired {_seconds(now - ends)} s ago; ask for another"
        found.append(PermitProblem(PermitRefusal.EXPIRED, said))
    if (lives := ends - min(claims["iat"], claims["nbf"])) > LONGEST_SECONDS:
        said = f"lives {_seconds(lives)} s; a permit may live {LONGEST_SECONDS}"
        found.append(PermitProblem(PermitRefusal.TOO_LONG_LIVED, said))
    return found


def _bound_problems(claims: Mapping[str, Any], subject: Subject) -> list[PermitProblem]:
    found = []
    has_digest = _DIGEST.fullmatch(subject.artifact_digest) is not None
    if not has_digest:
        said = f"what is deployed is {_shown(subject.artifact_digest)}; expected sha256: and 64 hexadecimal digits"
        found.append(PermitProblem(PermitRefusal.NO_DIGEST, said))
    for name, (reason, exact) in _BOUND.items():
        wanted: str | None = getattr(subject, name)
        given = claims["sub"] if name == "deployment_id" else claims[name]
        if wanted is None or (reason is PermitRefusal.OTHER_ARTIFACT and not has_digest):
            continue
        if given != wanted if exact else given.strip().lower() != wanted.strip().lower():
            label = name.replace("_", " ")
            found.append(PermitProblem(reason, f"is for the {label} {_shown(given)}; this is {_shown(wanted)}"))
    return found


def _permit(claims: Mapping[str, Any]) -> Permit:
    return Permit(
        id=claims["jti"],
        deployment_id=claims["sub"],
        service=claims["service"],
        environment=claims["environment"],
        region=claims["region"],
        artifact_digest=claims["artifact_digest"],
        change_ticket=claims["change_ticket"],
        issued_at=claims["iat"],
        not_before=claims["nbf"],
        expires_at=claims["exp"],
    )


def _public_key(key: Mapping[str, Any]) -> bytes | None:
    fits = key.get("kty") == "OKP" and key.get("crv") == "Ed25519"
    fits = fits and key.get("use", "sig") == "sig" and key.get("alg", ALGORITHM) in (ALGORITHM, "Ed25519")
    if not fits or not isinstance(key.get("x"), str):
        return None
    try:
        found = _decoded(key["x"])
    except ValueError:
        return None
    return found if len(found) == _KEY_BYTES else None


def _decoded(text: str) -> bytes:
    """The bytes of base64url without padding; ValueError for any text that these bytes would not be written as."""
    try:
        found = base64.b64decode(text + "=" * (-len(text) % 4), b"-_", validate=True)
    except binascii.Error as error:
        raise ValueError(str(error)) from None
    if base64.urlsafe_b64encode(found).rstrip(b"=") != text.encode():
        raise ValueError("not the one way to write these bytes")
    return found


def _seconds(count: float) -> str:
    return f"{count:,.0f}" if abs(count) < 1e15 else "very many"


def _shown(value: object) -> str:
    return repr(value)[:100]
