"""Secrets to plant, made by chance from a seed: none of them was ever anybody's."""

from __future__ import annotations

import base64
import random
import string
from collections.abc import Callable
from dataclasses import dataclass

ALNUM = string.ascii_letters + string.digits
URL_SAFE = ALNUM + "-_"
HEX = "0123456789abcdef"


@dataclass(frozen=True, slots=True)
class Planted:
    """A secret, the name that would announce it in a map, and words in which it stands."""

    kind: str
    secret: str
    name: str
    text: str


def planted(count: int, seed: int) -> list[Planted]:
    """So many secrets of all kinds in all contexts."""
    rng = random.Random(seed)
    makers = [*(_marked(kind, make) for kind, make in MARKED.items()), *(_told(kind, text) for kind, text in TOLD)]
    return [makers[index % len(makers)](rng, index) for index in range(count)]


def text_of(rng: random.Random, alphabet: str, length: int) -> str:
    """Text by chance, with every class of the alphabet in it as real tokens have."""
    while True:
        made = "".join(rng.choices(alphabet, k=length))
        if not set(alphabet) >= set(ALNUM) or (
            any(map(str.isdigit, made)) and any(map(str.islower, made)) and any(map(str.isupper, made))
        ):
            return made


def _password(rng: random.Random) -> str:
    return rng.choice(["tulip", "Winter", "correct", "hunter"]) + text_of(rng, ALNUM + "!#%^*+.", rng.randint(4, 14))


def _base64(rng: random.Random, size: int) -> str:
    return base64.b64encode(rng.randbytes(size)).decode()


def _jwt(rng: random.Random) -> str:
    head = base64.urlsafe_b64encode(b'{"alg":"HS256","typ":"JWT"}').decode().rstrip("=")
    body = base64.urlsafe_b64encode(f'{{"sub":"{rng.randint(1, 10**9)}"}}'.encode()).decode().rstrip("=")
    return f"{head}.{body}.{text_of(rng, URL_SAFE, 43)}"


def _pem(rng: random.Random) -> str:
    kind = rng.choice(["RSA ", "EC ", "OPENSSH ", ""])
    lines = "\n".join(_base64(rng, 48) for _ in range(4))
    return f"-----BEGIN {kind}PRIVATE KEY-----\n{lines}\n-----END {kind}PRIVATE KEY-----"


# Known by themselves, wherever they stand.
MARKED: dict[str, Callable[[random.Random], str]] = {
    "github": lambda rng: rng.choice(["ghp_", "gho_", "ghs_", "ghu_", "ghr_"]) + text_of(rng, ALNUM, 36),
    "github_pat": lambda rng: f"github_pat_{text_of(rng, ALNUM, 22)}_{text_of(rng, ALNUM, 59)}",
    "gitlab": lambda rng: rng.choice(["glpat-", "glrt-", "gldt-"]) + text_of(rng, URL_SAFE, 20),
    "aws_id": lambda rng: rng.choice(["AKIA", "ASIA"]) + text_of(rng, string.ascii_uppercase + "234567", 16),
    "aws_secret": lambda rng: text_of(rng, ALNUM + "/+", 40),
    "google": lambda rng: "AIza" + text_of(rng, URL_SAFE, 35),
    "slack": lambda rng: f"xox{rng.choice('abp')}-{rng.randint(10**11, 10**12)}-{text_of(rng, ALNUM, 24)}",
    "stripe": lambda rng: rng.choice(["sk_live_", "rk_live_"]) + text_of(rng, ALNUM, 24),
    "npm": lambda rng: "npm_" + text_of(rng, ALNUM, 36),
    "pypi": lambda rng: "pypi-AgEIcHlwaS5vcmc" + text_of(rng, URL_SAFE, 120),
    "deploytrail": lambda rng: (
        f"dtk_{text_of(rng, string.ascii_lowercase + string.digits, 12)}_{text_of(rng, ALNUM, 49)}"
    ),
    "jwt": _jwt,
    "pem": _pem,
    "random_32": lambda rng: text_of(rng, ALNUM, 32),
    "random_base64": lambda rng: _base64(rng, 32),
    "random_lower": lambda rng: text_of(rng, string.ascii_lowercase + string.digits, 40),
}

# Known by what stands before them: {} is a password that looks like nothing.
TOLD = (
    ("assigned", "login failed with password={} for user shop"),
    ("environment", "PGPASSWORD={} psql -h db -c 'select 1'"),
    ("flag", "helm upgrade shop ./chart --set replicas=3 --db-password {} --wait"),
    ("flag_equals", "deploy.sh --api-token={} --verbose"),
    ("argv", "Command '['mysqldump', '--password', '{}', 'shop']' returned non-zero exit status 2."),
    ("mysql", "mysql -h db.internal -u root -p{} shop"),
    ("curl", "curl -sf -u robot:{} https://nexus.internal/x"),
    ("url", "fatal: unable to access https://robot:{}@git.internal/shop.git"),
    ("dsn", "could not connect to postgresql://shop:{}@db.internal:5432/shop?sslmode=require"),
    ("connection_string", "Server=db.internal;User Id=sa;Password={};Encrypt=True"),
    ("json", '{{"user": "shop", "client_secret": "{}", "region": "eu-west-1"}}'),
    ("json_in_json", '{{"body": "{{\\"api_key\\": \\"{}\\"}}"}}'),
    ("yaml", "database:\n  host: db\n  password: {}\n  port: 5432"),
    ("header", "> GET / HTTP/1.1\n> Authorization: Bearer {}\n> Accept: */*"),
    ("header_dict", "{{'X-Api-Key': '{}', 'Accept': '*/*'}}"),
    ("xml", "<server><id>central</id><password>{}</password></server>"),
    ("signature", "PUT https://bucket.s3.internal/x?X-Amz-Date=20261102&X-Amz-Signature={}&x=1 failed"),
    ("quoted", "the password '{}' was refused"),
)


def _marked(kind: str, make: Callable[[random.Random], str]) -> Callable[[random.Random, int], Planted]:
    contexts = (
        "{}",
        "see {} in the log",
        "https://ci.internal/x?ref={}",
        "rejected: {}.",
        '["--with", "{}"]',
        "a={};b=2",
    )

    def made(rng: random.Random, index: int) -> Planted:
        secret = make(rng)
        return Planted(kind, secret, f"note_{index}", rng.choice(contexts).format(secret))

    return made


def _told(kind: str, text: str) -> Callable[[random.Random, int], Planted]:
    names = ("DB_PASSWORD", "api-token", "clientSecret", "spring.datasource.password", "STRIPE_API_KEY", "smtp_pass")

    def made(rng: random.Random, index: int) -> Planted:
        secret = text_of(rng, HEX, 64) if kind == "signature" else _password(rng)
        return Planted(kind, secret, f"{names[index % len(names)]}", text.format(secret))

    return made
