"""Statements of migrations as a cluster needs them. Pure: text in, text out.

Migrations are written for one node. With a cluster, each table `x` becomes `x_local`, replicated within
its shard, and a Distributed table `x` in front of it, so that every question stays the same. The sink
writes `x_local` on the shard of a row's region; `CRC32(service)` only spreads what others insert through
the Distributed table.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from deploytrail_schemas.errors import ConfigurationError

_TABLE = re.compile(r"CREATE TABLE IF NOT EXISTS (\w+)\.(\w+)")
_ENGINE = re.compile(r"\bENGINE = (\w*MergeTree)(?:\(([^()]*)\))?")
_MATERIALIZED = re.compile(r"CREATE MATERIALIZED VIEW IF NOT EXISTS (\w+)\.(\w+) TO ")
_VIEW = re.compile(r"CREATE (?:OR REPLACE )?VIEW (?:IF NOT EXISTS )?(\w+)\.(\w+)")
_DROP = re.compile(r"DROP (TABLE|VIEW) IF EXISTS (\w+)\.(\w+)$")
_ALTER = re.compile(r"ALTER TABLE (\w+)\.(\w+) ")
_INSERT = re.compile(r"INSERT INTO (\w+)\.(\w+) ")
_COMMENTS = re.compile(r"\A(?:\s*--[^\n]*\n)+")
_COMMENT = re.compile(r"\nCOMMENT '(?:[^'\\]|\\.)*'\Z")
# The uuid is one for all replicas of a table, and another when it is made again.
_PATH = "'/clickhouse/tables/{uuid}/{shard}', '{replica}'"


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement, and whether it moves rows, so that it has to be run on each shard by itself."""

    text: str
    on_each_shard: bool = False


def tables_of(texts: Iterable[str]) -> frozenset[str]:
    """The tables that statements create."""
    return frozenset(found[2] for text in texts for found in _TABLE.finditer(text))


def for_cluster(statement: str, cluster: str, tables: frozenset[str]) -> list[Statement]:
    """What a statement becomes. `tables`: every table that migrations create.

    ConfigurationError for a kind of statement that is not known here.
    """
    text = _COMMENTS.sub("", statement).strip()
    on = f" ON CLUSTER '{cluster}'"
    if found := _TABLE.match(text):
        return _table(text, found, cluster, on, tables)
    if found := _MATERIALIZED.match(text):
        database, name = found.groups()
        return [Statement(text[: found.end() - 4] + f"{on} TO " + _local(text[found.end() :], database, tables))]
    if found := _VIEW.match(text):
        return [Statement(text[: found.end()] + on + text[found.end() :])]
    if found := _DROP.match(text):
        kind, database, name = found.groups()
        dropped = [Statement(f"DROP {kind} IF EXISTS {database}.{name}{on} SYNC")]
        if name in tables:
            dropped.append(Statement(f"DROP {kind} IF EXISTS {database}.{name}_local{on} SYNC"))
        return dropped
    if found := _ALTER.match(text):
        database, name = found.groups()
        rest = text[found.end() :]
        altered = [Statement(f"ALTER TABLE {database}.{name}_local{on} {rest}")]
        if " COLUMN " in f" {rest} ":  # the one in front has the same columns
            altered.append(Statement(f"ALTER TABLE {database}.{name}{on} {rest}"))
        return altered
    if found := _INSERT.match(text):
        return [Statement(_local(text, found[1], tables), on_each_shard=True)]
    raise ConfigurationError(f"this statement has no form for a cluster: {text[:80]!r}")


def _table(text: str, found: re.Match[str], cluster: str, on: str, tables: frozenset[str]) -> list[Statement]:
    database, name = found.groups()
    rest = _local(text[found.end() :], database, tables)
    rest = _ENGINE.sub(_replicated, rest).replace(
        "non_replicated_deduplication_window", "replicated_deduplication_window"
    )
    key = "CRC32(service)" if "`service`" in rest else "rand()"
    said = _COMMENT.search(rest)
    front = (
        f"CREATE TABLE IF NOT EXISTS {database}.{name}{on} AS {database}.{name}_local\n"
        f"ENGINE = Distributed('{cluster}', '{database}', '{name}_local', {key}){said[0] if said else ''}"
    )
    return [Statement(f"CREATE TABLE IF NOT EXISTS {database}.{name}_local{on}{rest}"), Statement(front)]


def _replicated(found: re.Match[str]) -> str:
    arguments = f", {found[2]}" if found[2] else ""
    return f"ENGINE = Replicated{found[1]}({_PATH}{arguments})"


def _local(text: str, database: str, tables: frozenset[str]) -> str:
    """The same text with the shard's own tables instead of those in front of them."""

    def renamed(found: re.Match[str]) -> str:
        return f"{found[0]}_local" if found[1] in tables else found[0]

    return re.sub(rf"\b{database}\.(\w+)", renamed, text)
