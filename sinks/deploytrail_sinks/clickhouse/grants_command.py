"""`deploytrail sink grants`: who may do what, from the file of credentials into ClickHouse, for reviews of access.

Each run adds a reading; none is changed or removed, so that a review of last quarter still has
what held then. Run it daily, and before a review.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

from deploytrail_schemas.counted import counted
from deploytrail_schemas.credential_file import CredentialFile
from deploytrail_schemas.credentials import Credential
from deploytrail_schemas.errors import ConfigurationError, DeploytrailError
from deploytrail_schemas.exit_codes import exit_code_of
from deploytrail_schemas.instants import from_micros
from deploytrail_schemas.settings import Settings

from deploytrail_sinks.clickhouse.serve import prepare, quieten_drivers
from deploytrail_sinks.clickhouse.writer import Writer

COLUMNS = (
    *("taken_at", "credential", "team", "services", "environments", "regions", "verbs"),
    *("created_at", "expires_at", "revoked_at"),
)


def main(argv: list[str]) -> int:
    """Exit code 0; 78 where the file cannot be read; 69 where ClickHouse does not answer."""
    parser = argparse.ArgumentParser(prog="deploytrail sink grants", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("file", nargs="?", type=Path, help="the file of credentials (default: DEPLOYTRAIL_CREDENTIALS)")
    options = parser.parse_args(argv)
    quieten_drivers()
    settings = Settings.load()
    try:
        path = options.file or _configured(settings)
        rows = grant_rows(CredentialFile(path).credentials.values(), from_micros(time.time_ns() // 1000))
        prepare(settings, patience=5)
        if rows:
            Writer(settings).client().insert(f"{settings.clickhouse_database}.grants", rows, COLUMNS)
    except (DeploytrailError, OSError) as error:
        print(f"deploytrail sink grants: {error}", file=sys.stderr)
        return exit_code_of(error)
    print(f"{counted(len(rows), 'credential')} of {path}")
    return 0


def grant_rows(credentials: Iterable[Credential], taken_at: datetime) -> list[list[Any]]:
    """The rows of a reading, columns as in COLUMNS. No secret is among them, nor a digest of one."""
    return [
        [
            taken_at,
            credential.name,
            credential.scope.team,
            list(credential.scope.services),
            list(credential.scope.environments),
            list(credential.scope.regions),
            sorted(verb.value for verb in credential.scope.verbs),
            from_micros(credential.created),
            None if credential.expires is None else from_micros(credential.expires),
            None if credential.revoked is None else from_micros(credential.revoked),
        ]
        for credential in credentials
    ]


def _configured(settings: Settings) -> Path:
    if not settings.credentials:
        raise ConfigurationError("there is no file of credentials; name one, or set DEPLOYTRAIL_CREDENTIALS")
    return Path(settings.credentials)
