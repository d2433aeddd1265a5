"""The ClickHouse engines that hold the rows of a report, and what is said where one of them fails."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError
from deploytrail_schemas.errors import DeploytrailError
from deploytrail_schemas.redaction import redact_text
from deploytrail_schemas.settings import Settings
from urllib3.exceptions import HTTPError  # of clickhouse-connect's transport

from deploytrail_sinks.clickhouse.away import in_words
from deploytrail_sinks.clickhouse.failures import reason_of
from deploytrail_sinks.clickhouse.shards import Shards, every_url
from deploytrail_sinks.clickhouse.writer import connect

_MENDABLE = (60, 81, 192, 193, 194, 516)  # no such table, database or user: what to do is known


class EngineFailed(DeploytrailError):
    """An engine is away, or refuses. `mendable`: what an operator has to do is known, and said."""

    def __init__(self, url: str, error: Exception) -> None:
        code = getattr(error, "code", None)
        self.mendable = code in _MENDABLE
        hint = f" ({reason_of(code)})" if self.mendable else ""
        super().__init__(f"{redact_text(in_words(url, error))}{hint}")


def url_of(engine: Client) -> str:
    """Where an engine is."""
    return str(getattr(engine, "url", ""))


@contextmanager
def told_by(engine: Client) -> Iterator[None]:
    """Whatever goes wrong with an engine is said with its URL, as EngineFailed."""
    with _told_of(url_of(engine)):
        yield


@contextmanager
def _told_of(url: str) -> Iterator[None]:
    try:
        yield
    except (ClickHouseError, HTTPError, OSError) as error:  # an answer that breaks off is the transport's error
        raise EngineFailed(url, error) from error


def engines(settings: Settings) -> list[Client]:
    """A client of every engine that holds rows, the default one first: of a cluster, whose tables reach all its shards,
    one; else one of each shard. EngineFailed where one is away."""
    every = list(every_url(Shards.from_settings(settings)))
    found = []
    for url in every[:1] if settings.clickhouse_cluster else every:
        with _told_of(url):
            found.append(connect(settings, url))
    return found
