"""Which names hold a secret, and which of their values are none: `DB_PASSWORD`, but not `password_policy`.

Pure: text in, the kind of secret out.
"""

from __future__ import annotations

import re
from functools import lru_cache


def words(text: str) -> frozenset[str]:
    """The words of a text."""
    return frozenset(text.split())


_PARTS = r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+"
# A part of a name that is, or ends with, one of these.
_WORDS = (
    ("password", "password"),
    ("passwords", "password"),
    ("passwd", "password"),
    ("passphrase", "password"),
    ("passcode", "password"),
    ("passwort", "password"),
    ("pwd", "password"),
    ("secret", "secret"),
    ("secrets", "secret"),
    ("token", "token"),
    ("tokens", "token"),
    ("jwt", "token"),
    ("apikey", "key"),
    ("accesskey", "key"),
    ("secretkey", "key"),
    ("privatekey", "key"),
    ("accountkey", "key"),
    ("authkey", "key"),
    ("signingkey", "key"),
    ("encryptionkey", "key"),
    ("credential", "credential"),
    ("credentials", "credential"),
    ("authorization", "authorization"),
    ("cookie", "cookie"),
    ("cookies", "cookie"),
    ("signature", "signature"),
    ("dockerconfigjson", "credential"),
    ("connectionstring", "credential"),
)
_WHOLE = {"auth": "authorization", "bearer": "token", "sig": "signature", "dbpass": "password", "userpass": "password"}
# `key` alone names anything; after one of these it opens something.
_KEYS = words(
    "api access secret private account shared signing encryption master auth storage ssh service license "
    "subscription app application admin client session hmac aes rsa webhook integration ingest deploy"
)
# A name that ends so speaks about a secret and does not hold it.
_ABOUT = words(
    "name names id ids policy path file filename dir ref refs arn version versions count total ttl expiry expires "
    "expiration expired rotation rotated length type kind url uri endpoint enabled disabled bucket host hostname port "
    "replicas image tag manager operator server service services store provider issuer audience method mode timeout "
    "limit limits rate max min size status state algorithm region domain age days hours minutes seconds required "
    "valid present changed created updated at by scope scopes used usage budget"
)
_STOP_WORDS = words(
    "true false yes no on off none null nil undefined enabled disabled basic oauth oauth2 oidc expired invalid missing "
    "not the is was are has have required denied unauthorized wrong cannot could must failed failure for from in of to "
    "and or incorrect mismatch verified valid changed rotated unchanged set unset empty unknown optional"
)
_HARMLESS = (
    r"\[redacted:[a-z_]*.*|\*+|\$\{[^}]*\}|\{\{.*\}\}|v?\d+(?:\.\d+)+(?:[-+][\w.+-]*)?"
    r"|sha\d{1,3}:[0-9a-f]{40,128}|arn:aws[\w-]*:(?:secretsmanager|ssm|kms):\S+|op://\S+|vault:\S+"
)


@lru_cache(4096)
def kind_of_name(name: str) -> str:
    """The kind of secret that a name announces; empty where it announces none."""
    parts = [part.lower() for part in re.findall(_PARTS, name[:256])]
    if not parts or parts[-1] in _ABOUT:
        return ""
    for index, part in enumerate(parts):
        before = parts[index - 1] if index else ""
        if kind := _WHOLE.get(part):
            if index == len(parts) - 1:
                return kind
        elif (part == "key" and before in _KEYS) or (part == "string" and before == "connection"):
            return "key" if part == "key" else "credential"
        elif part == "pass" and before and index == len(parts) - 1:
            return "password"
        else:
            for word, kind in _WORDS:
                if part.endswith(word):
                    return kind
    return ""


def is_harmless(value: str, name: str = "") -> bool:
    """Whether a value under a secret's name is none: a word about it, a version, a reference, a digest."""
    plain = value.strip().strip(".,:;!?)")
    if len(plain) < 2 or plain.lower() in _STOP_WORDS:
        return True
    if plain.isdecimal() and name.lower().endswith(("tokens", "pass", "auth")):
        return True
    return re.fullmatch(_HARMLESS, value.strip()) is not None
