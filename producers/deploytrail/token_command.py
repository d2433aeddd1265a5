"""`deploytrail token create|list|revoke`: the file of tokens that gateway and intake accept.

A token is shown once, when it is made; the file keeps its digest and the key that checks its
signatures.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from deploytrail_schemas.arguments import Parser
from deploytrail_schemas.credential_file import CredentialFile, change
from deploytrail_schemas.credentials import Credential, revoke
from deploytrail_schemas.errors import ConfigurationError, DeploytrailError
from deploytrail_schemas.exit_codes import CONFIG
from deploytrail_schemas.instants import format_instant
from deploytrail_schemas.record_signatures import public_key_of
from deploytrail_schemas.scopes import Scope, Verb
from deploytrail_schemas.settings import Settings
from deploytrail_schemas.tokens import PREFIX, make_token

NEVER = "never"
_UNITS = {"m": 60, "h": 3600, "d": 86_400}
_DURATION = re.compile(r"([1-9][0-9]{0,4})([mhd])", re.ASCII)


def main(argv: list[str]) -> int:
    """Exit code 0; 2 where the words make no sense; 78 where the file is wrong or has no such id."""
    options = _parser().parse_args(argv)
    now = time.time_ns() // 1000
    try:
        path = _path(options.file)
        if options.word == "create":
            return _create(path, options, now)
        return _list(path, now) if options.word == "list" else _revoke(path, options.id, now)
    except DeploytrailError as error:
        print(f"deploytrail token: {error}", file=sys.stderr)
        return CONFIG


def _parser() -> argparse.ArgumentParser:
    made = Parser(prog="deploytrail token", description="Make, list and revoke tokens.")
    made.add_argument("--file", type=Path, help="default: DEPLOYTRAIL_CREDENTIALS")
    words = made.add_subparsers(dest="word", required=True)
    create = words.add_parser("create", help="make a token and print it, once")
    create.add_argument("--team", default="", help="whose it is; events that it reports bear this team")
    for name, text in (("service", "'pay-*'"), ("environment", "production"), ("region", "eu-west-1")):
        create.add_argument(
            f"--{name}",
            action="append",
            required=name != "region",
            metavar="NAME",
            help=f"a name such as {text}; '*' stands for any text; may be repeated",
        )
    create.add_argument(
        "--verb", action="append", choices=[verb.value for verb in Verb], help="may be repeated; default: report"
    )
    create.add_argument("--expires", type=expiry, default="90d", metavar="90d", help="in so many m, h or d; or never")
    words.add_parser("list", help="say what each token may do, and whether it holds")
    words.add_parser("revoke", help="end a token, now").add_argument("id", metavar="ID")
    return made


@dataclass(frozen=True, slots=True)
class Expiry:
    """Microseconds until a token expires; None: never."""

    after: int | None


def expiry(text: str) -> Expiry:
    """The expiry of a word: 90d, 12h, 30m or never."""
    if text == NEVER:
        return Expiry(None)
    found = _DURATION.fullmatch(text)
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r} is none of 90d, 12h, 30m, {NEVER}")
    return Expiry(int(found[1]) * _UNITS[found[2]] * 1_000_000)


def _path(given: Path | None) -> Path:
    path = given or Path(Settings.load().credentials)
    if not path.name:
        raise ConfigurationError("no file is named: set DEPLOYTRAIL_CREDENTIALS or give --file")
    return path


def _create(path: Path, options: argparse.Namespace, now: int) -> int:
    token = make_token()
    scope = Scope(
        options.team,
        tuple(options.service),
        tuple(options.environment),
        tuple(options.region or ["*"]),
        frozenset(Verb(verb) for verb in options.verb or [Verb.REPORT]),
    )
    after = options.expires.after
    made = Credential(
        id=token.id,
        digest=token.digest,
        public_key=public_key_of(token),
        scope=scope,
        created=now,
        expires=None if after is None else now + after,
    )
    change(path, lambda found: found.update({token.id: made}))
    print(token.text)
    print(f"deploytrail token: {token.id} is in {path}; the token itself is shown only now", file=sys.stderr)
    return 0


def _list(path: Path, now: int) -> int:
    for credential in CredentialFile(path).credentials.values():
        scope = credential.scope
        refusal = credential.refusal_at(now)
        until = format_instant(credential.expires)[:19] + "Z" if credential.expires is not None else NEVER
        print(
            f"{credential.id}  {refusal.value if refusal else 'valid':<7}  expires {until}  team {scope.team or '-'}  "
            f"may {','.join(sorted(scope.verbs))}  services {','.join(scope.services)}  "
            f"environments {','.join(scope.environments)}  regions {','.join(scope.regions)}"
        )
    return 0


def _revoke(path: Path, given: str, now: int) -> int:
    # A whole token is taken too: whoever found a leaked one has nothing else.
    identity = given.removeprefix(PREFIX).partition("_")[0]

    def mark(found: dict[str, Credential]) -> None:
        if identity not in found:
            raise ConfigurationError(
                f"{path} has no token {identity!r}; `deploytrail token list` shows which there are"
            )
        found[identity] = revoke(found[identity], now)

    change(path, mark)
    print(f"deploytrail token: {identity} is revoked", file=sys.stderr)
    return 0
