"""The settings that producers use, read so that a wrong one is said and never raised."""

from __future__ import annotations

import os

from deploytrail._report import say_once

TYPE_CHECKING = False  # what typing says, without the import
if TYPE_CHECKING:
    from collections.abc import Mapping

    from deploytrail_schemas.settings import Settings

_USED = (
    "url",
    "token",
    "service",
    "region",
    "environment",
    "spool",
    "spool_max_bytes",
    "spool_max_events",
    "heartbeat_seconds",
    "kafka_client",
    "partitions",
    "regions",
    "backfill_partition",
    "exit_wait_seconds",
    "log",
    "schema_registry",
    "schema_registry_auth",
)


def load(environ: Mapping[str, str] | None = None) -> Settings:
    """Settings from the environment; a variable that cannot be read keeps its default, and is named once."""
    from deploytrail_schemas.errors import ConfigurationError
    from deploytrail_schemas.settings import Settings, variable

    environ = os.environ if environ is None else environ
    mine = {name: environ[name] for name in map(variable, _USED) if name in environ}
    try:
        return Settings.load(mine)
    except ConfigurationError:
        sound = dict(mine)
        for name, text in mine.items():
            try:
                Settings.load({name: text})
            except ConfigurationError as error:
                say_once(f"setting {name}", f"{error}; its default is used")
                del sound[name]
        return Settings.load(sound)
