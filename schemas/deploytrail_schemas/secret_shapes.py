"""What a secret looks like: the tokens that vendors mark by a prefix, and text that only chance makes.

Pure. A pattern is compiled when its marker stands in a text, not before: deploy scripts import this.
"""

from __future__ import annotations

import math
import re
from functools import cache

TYPE_CHECKING = False  # what typing says, without the import
if TYPE_CHECKING:
    from collections.abc import Iterator

Span = tuple[int, int, str]  # start, end and kind

# (marker, kind, pattern): the marker stands in every match, so that a text without it costs next to nothing.
# None may take longer than in proportion to the text: what strangers send is searched too.
# Sources: the vendors' own words on their formats, e.g.
# https://github.blog/engineering/behind-githubs-new-authentication-token-formats/,
# https://docs.gitlab.com/security/tokens/#token-prefixes,
# https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_identifiers.html,
# https://docs.slack.dev/authentication/tokens/, https://docs.stripe.com/keys, https://www.rfc-editor.org/rfc/rfc7468.
TOKENS = (
    ("ghp_", "github_token", r"ghp_[A-Za-z0-9]{16,}"),
    ("gho_", "github_token", r"gho_[A-Za-z0-9]{16,}"),
    ("ghu_", "github_token", r"ghu_[A-Za-z0-9]{16,}"),
    ("ghs_", "github_token", r"ghs_[A-Za-z0-9_.-]{16,}"),
    ("ghr_", "github_token", r"ghr_[A-Za-z0-9]{16,}"),
    ("github_pat_", "github_token", r"github_pat_[A-Za-z0-9_]{16,}"),
    ("gl", "gitlab_token", r"gl(?:pat|ptt|dt|rt|cbt|ft|soat|imt|agent|oas|ffct)-[A-Za-z0-9_=.-]{16,}"),
    ("AKIA", "aws_access_key", r"AKIA[A-Z0-9]{12,}"),
    ("ASIA", "aws_access_key", r"ASIA[A-Z0-9]{12,}"),
    ("AIza", "google_api_key", r"AIza[A-Za-z0-9_-]{30,}"),
    ("ya29.", "google_token", r"ya29\.[A-Za-z0-9_-]{16,}"),
    ("GOCSPX-", "google_secret", r"GOCSPX-[A-Za-z0-9_-]{16,}"),
    ("xox", "slack_token", r"xox[a-z](?:\.xox[a-z])?-[A-Za-z0-9-]{8,}"),
    ("xapp-", "slack_token", r"xapp-[0-9]-[A-Za-z0-9-]{8,}"),
    ("hooks.slack.com", "slack_webhook", r"(?<=hooks\.slack\.com)/(?:services|workflows|triggers)/[A-Za-z0-9/+_-]+"),
    ("_live_", "stripe_key", r"(?:sk|rk)_live_[A-Za-z0-9]{8,}"),
    ("_test_", "stripe_key", r"(?:sk|rk)_test_[A-Za-z0-9]{8,}"),
    ("whsec_", "webhook_secret", r"whsec_[A-Za-z0-9+/=_-]{16,}"),
    ("npm_", "npm_token", r"npm_[A-Za-z0-9]{30,}"),
    ("pypi-", "pypi_token", r"pypi-[A-Za-z0-9_-]{48,}"),
    ("dtk_", "deploytrail_token", r"dtk_[A-Za-z0-9]{4,}_[A-Za-z0-9_.~+/=-]{8,}"),
    ("dckr_", "docker_token", r"dckr_(?:pat|oat)_[A-Za-z0-9_-]{16,}"),
    ("_v1_", "digitalocean_token", r"do[opr]_v1_[a-f0-9]{32,}"),
    ("dapi", "databricks_token", r"\bdapi[a-f0-9]{32}(?:-\d)?\b"),
    ("hv", "vault_token", r"\bhv[sbr]\.[A-Za-z0-9_-]{16,}"),
    (".atlasv1.", "terraform_token", r"(?<![A-Za-z0-9])[A-Za-z0-9]{10,}+\.atlasv1\.[A-Za-z0-9_=-]{16,}"),
    ("SG.", "sendgrid_key", r"SG\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}"),
    ("shp", "shopify_token", r"shp(?:at|ca|pa|ss)_[A-Fa-f0-9]{32}"),
    ("ATATT3x", "atlassian_token", r"ATATT3x[A-Za-z0-9_=-]{16,}"),
    ("NRAK-", "new_relic_key", r"NRAK-[A-Z0-9]{20,}"),
    ("gls", "grafana_token", r"glsa_[A-Za-z0-9_]{20,}"),
    ("lin_api_", "linear_key", r"lin_api_[A-Za-z0-9]{20,}"),
    ("hf_", "hugging_face_token", r"\bhf_[A-Za-z0-9]{24,}"),
    ("sk-", "api_key", r"\bsk-[A-Za-z0-9_-]{0,64}[A-Z0-9][A-Za-z0-9_-]{20,}"),
    ("sntry", "sentry_token", r"sntry[su]_[A-Za-z0-9+/=_-]{20,}"),
    ("AGE-SECRET-KEY-", "age_key", r"AGE-SECRET-KEY-1[A-Z0-9]{20,}"),
    ("eyJ", "jwt", r"eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{4,}(?:\.[A-Za-z0-9_-]*){0,3}"),
    (
        "PRIVATE KEY",
        "private_key",
        r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----[\s\S]*?"
        r"(?:-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----|\Z)",
    ),
)
# The user and password of a URL. After user and colon a slash may belong to the password, unless a port stands there.
_USERINFO = (
    r"(?<=://)(?:[^/?#\s@:\"']{0,256}:(?!\d{1,5}(?:[/?#\s]|$))[^\s@\"'<>]{0,512}@(?=[\w\[.-])(?:[^/?#\s]{0,512}@)?"
    r"|[^/?#\s]{0,512}@)"
)
LONG = r"(?<![A-Za-z0-9+/_-])[A-Za-z0-9+/_-]{24,}+={0,2}"
_DIGEST = r"(?:sha\d{1,3}[-:]|h1:)\Z"
HEX = r"[0-9a-fA-F-]+"
_WORD = r"[A-Z]?[a-z]{4,}"
MIN_RANDOM = 24


@cache
def pattern(text: str, flags: int = 0) -> re.Pattern[str]:
    """A pattern, compiled once."""
    return re.compile(text, flags)


def tokens(text: str, mark: tuple[str, str, str]) -> Iterator[Span]:
    """Tokens of one kind (see TOKENS)."""
    _, kind, shape = mark
    for found in pattern(shape).finditer(text):
        yield found.start(), found.end(), kind


def userinfo(text: str) -> Iterator[Span]:
    """What stands between :// and @ of a URL's host."""
    for found in pattern(_USERINFO).finditer(text):
        yield found.start(), found.end(), "userinfo"


def random_text(text: str) -> Iterator[Span]:
    """Long stretches of letters and digits that no person and no hash function wrote."""
    for found in pattern(LONG).finditer(text):
        start, end = found.span()
        if pattern(_DIGEST).search(text, max(0, start - 8), start) or text[start:].startswith(("sha256-", "sha512-")):
            continue
        whole = found.group()
        if "/" not in whole or _is_base64(whole):
            if is_random(whole):
                yield start, end, "random"
            continue
        at = start  # a path: each of its parts by itself
        for part in whole.split("/"):
            if len(part) >= MIN_RANDOM and is_random(part):
                yield at, at + len(part), "random"
            at += len(part) + 1


def is_random(token: str) -> bool:
    """Whether a token mixes its characters as chance does: hex digests, UUIDs, names and words do not.

    Three classes of characters (lower, upper, digit) from 24 characters on, two from 32 on; class
    follows class more often than in words, few characters come back (Shannon entropy), and little
    of it is words.
    """
    body = token.rstrip("=")
    lower = body.lower()
    mixed = body not in (lower, body.upper())
    if pattern(HEX).fullmatch(body) or not any(map(str.isdigit, body)):
        return False
    if not mixed and (len(body) < 32 or not body.isalnum()):
        return False  # kebab-case and snake_case names
    classes = body.translate(_CLASSES)
    changes = sum(map(str.__ne__, classes, classes[1:])) / (len(body) - 1)
    if changes < (0.25 if mixed else 0.15):
        return False
    worded = sum(map(len, pattern(_WORD).findall(body))) / len(body)
    return (worded < 0.45 or not mixed) and _entropy(body) >= min(0.75 * math.log2(len(body)), 3.8)


def _is_base64(token: str) -> bool:
    """Whether slashes belong to the token: an AWS secret key has 40 characters, padded base64 says so."""
    return len(token) == 40 or token.endswith("=") or "+" in token


_CLASSES = {
    **dict.fromkeys(map(ord, "abcdefghijklmnopqrstuvwxyz"), "a"),
    **dict.fromkeys(map(ord, "ABCDEFGHIJKLMNOPQRSTUVWXYZ"), "A"),
    **dict.fromkeys(map(ord, "0123456789"), "0"),
    **dict.fromkeys(map(ord, "+/_-"), "-"),
}


def _entropy(text: str) -> float:
    """Shannon entropy in bits a character."""
    shares = [text.count(char) / len(text) for char in set(text)]
    return -sum(share * math.log2(share) for share in shares)
