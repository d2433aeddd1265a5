"""What the commands that act on the archive have in common: who acts, with which key, and the exit codes."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from deploytrail_schemas.errors import ConfigurationError, DeploytrailError
from deploytrail_schemas.exit_codes import CONFIG, UNAVAILABLE
from deploytrail_schemas.settings import Settings

from deploytrail_sinks.archive.principals import Principals, Signer, read_principals
from deploytrail_sinks.archive.store import ObjectKept, ObjectStore, open_store

EXIT_REFUSED = 1


@dataclass(frozen=True, slots=True)
class Desk:
    """Where somebody acts."""

    store: ObjectStore
    principals: Principals
    now: datetime


def add_actor(parser: argparse.ArgumentParser) -> None:
    """The options that say who acts and why."""
    parser.add_argument(
        "--as",
        dest="actor",
        required=True,
        metavar="NAME",
        help="the principal who acts, as DEPLOYTRAIL_ARCHIVE_PRINCIPALS names him",
    )
    parser.add_argument("--key", required=True, type=Path, metavar="FILE", help="his private key, an Ed25519 PEM")
    parser.add_argument("--reason", required=True, help="why; it is recorded for good")


def signer_of(desk: Desk, options: argparse.Namespace) -> Signer:
    """Who acts; ConfigurationError where the key is not his."""
    return desk.principals.signer(options.actor, options.key)


def at_desk(act: Callable[[Desk], int]) -> int:
    """The exit code of an act: 1 where it is refused, 69 where the store is away, 78 where a setting is wrong."""
    try:
        settings = Settings.load()
        if not settings.archive_principals:
            raise ConfigurationError(
                "DEPLOYTRAIL_ARCHIVE_PRINCIPALS is not set; expected a JSON file of who may act and their Ed25519 "
                'public keys, {"ada": "PEM", …}; `openssl genpkey -algorithm ed25519` makes a key'
            )
        principals = read_principals(Path(settings.archive_principals))
        return act(Desk(open_store(settings.archive), principals, datetime.now(UTC)))
    except ConfigurationError as error:
        code, text = CONFIG, str(error)
    except ObjectKept as error:
        code, text = EXIT_REFUSED, str(error)
    except DeploytrailError as error:
        code, text = UNAVAILABLE, str(error)
    sys.stderr.write(f"deploytrail archive: {text}\n")
    return code
