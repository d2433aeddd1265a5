"""What ClickHouse knows as of an instant: the newest revisions, the standing verdicts, the approvals that had come.

As of an instant means: of what lay on the topics by then, by Kafka's own time. What comes later changes what a later
instant shows, never what an earlier one did, so that a report can be made again.

Where regions lie on shards without a cluster, each is asked, and the answers become what one engine with all the rows
would say. Rows of one deployment, ticket or verdict may lie on several: its service or the map of the shards may have
changed, and a system of tickets names no region.
"""

from __future__ import annotations

import heapq
import pickle
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, groupby
from operator import itemgetter
from typing import Any

from clickhouse_connect.driver.client import Client
from deploytrail_schemas.instants import LATEST, from_micros

from deploytrail_sinks.reports.document import no_room
from deploytrail_sinks.reports.engines import told_by
from deploytrail_sinks.reports.period import Period
from deploytrail_sinks.reports.population import Key, Population

Value = dict[str, Any]
Newest = tuple[int, ...]  # as in _NEWEST
_BLOCK = 500  # deployments whose approvals and verdicts are asked for together
# The time by which a deployment belongs to a month: when it began, else the first that is known of it.
BEGAN = "coalesce(started_at, finished_at, queued_at, registered_at, last_event_at)"
_MICROS = f"ifNull(toUnixTimestamp64Micro({BEGAN}), -1)"
CLICKHOUSE = "ClickHouse"
_REVISION = (
    *("deployment_id", "state", "region", "environment", "service", "tier", "team", "kind", "parent_deployment_id"),
    *("rollback_of", "rolled_back_by", "version", "artifact_digest", "commit_sha", "repository", "build_url"),
    *("deployer", "change_ticket", "emergency", "registered_at", "started_at", "started_at_uncertainty_ms"),
    *("finished_at", "finished_at_uncertainty_ms", "outcome_reason", "sources", "provenance", "confidence"),
    *("conflicts", "revision", "kafka_partition", "kafka_offset"),
)
_APPROVAL = (
    *("approval_id", "approval_type", "corrected_at", "region", "environment", "service", "deployment_id"),
    *("artifact_digest", "change_ticket", "ticket_state", "approver", "approver_role", "justification"),
    *("valid_until", "emergency", "source", "reporter", "tags"),
)
_EVENT = ("deployment_id", "region", "event_type", "permit_id", "justification", "deployer", "reporter", "tags")
_FINDING = (
    *("finding_id", "rule", "verdict", "reason", "severity", "occurred_at", "region", "deployment_id", "signal_id"),
    *("rank", "probability", "explanation", "evidence", "policy_version"),
)
_ORDER = ("region", "environment", "service", "began", "deployment_id")
# What orders the revisions of a deployment: a record that was sent again has the number of the first.
_NEWEST = ("revision", "kafka_offset", "kafka_partition")
_NONE: Newest = (-1, -1, -1)
_NEWEST_FIRST = ", ".join(f"{name} DESC" for name in _NEWEST)


class Trail:
    """Reads a database, which may lie on several engines, as of an instant; None: as it is now."""

    def __init__(self, engines: Sequence[Client], database: str, as_of: int | None = None) -> None:
        self._engines, self._database = engines, database
        self.as_of = from_micros(LATEST if as_of is None else as_of)

    def deployments(self, period: Period, environments: Sequence[str]) -> Iterator[list[Value]]:
        """The deployments that began in a period, in blocks, by place, time and id."""
        columns = (*_REVISION, "began")
        streams = self._streams(
            f"SELECT {', '.join(_REVISION)}, {BEGAN} AS began "
            # The newest revision of whatever was ever said to be in them decides whether it is: it may have left.
            "FROM (SELECT * FROM {db:Identifier}.deployment_revisions "
            "WHERE kafka_timestamp <= {as_of:DateTime64(3, 'UTC')} AND (region, deployment_id) IN "
            "(SELECT region, deployment_id FROM {db:Identifier}.deployment_revisions "
            "WHERE environment IN {environments:Array(String)}) "
            f"ORDER BY {_NEWEST_FIRST} LIMIT 1 BY region, deployment_id) "
            "WHERE merged_into = '' AND environment IN {environments:Array(String)} "
            "AND began >= fromUnixTimestamp64Micro({start:Int64}) AND began < fromUnixTimestamp64Micro({end:Int64}) "
            f"ORDER BY {', '.join(_ORDER)}",
            start=period.start,
            end=period.end,
            environments=list(environments),
        )
        order = itemgetter(*map(columns.index, (*_ORDER, *_NEWEST)))
        block: list[Value] = []
        for _, (row, *_) in groupby(heapq.merge(*streams, key=order), order):  # the same row may be on two engines
            block.append(dict(zip(columns, row, strict=True)))
            if len(block) == _BLOCK:
                yield self._standing(block)
                block = []
        yield self._standing(block)

    def population(self, period: Period, environments: Sequence[str]) -> Population:
        """The same deployments, counted by ClickHouse another way than they are listed: of each that any revision puts
        into the period the newest one, by aggregation, and only then what that says."""
        held: dict[Key, Newest] = {}
        ranges: dict[int, tuple[int, int]] = {}
        for region, name, *newest in chain.from_iterable(
            self._streams(
                "SELECT region, deployment_id, newest.1, newest.2, newest.3 FROM (SELECT region, deployment_id, "
                f"max(({', '.join(_NEWEST)}, toString(environment), merged_into, {_MICROS})) AS newest "
                "FROM {db:Identifier}.deployment_revisions WHERE kafka_timestamp <= {as_of:DateTime64(3, 'UTC')} "
                "AND (region, deployment_id) IN (SELECT region, deployment_id "
                "FROM {db:Identifier}.deployment_revisions "
                f"WHERE {_MICROS} >= {{start:Int64}} AND {_MICROS} < {{end:Int64}}) GROUP BY region, deployment_id) "
                "WHERE newest.5 = '' AND newest.4 IN {environments:Array(String)} "
                "AND newest.6 >= {start:Int64} AND newest.6 < {end:Int64}",
                start=period.start,
                end=period.end,
                environments=list(environments),
            )
        ):
            held[region, name] = max((*newest,), held.get((region, name), _NONE))
        if len(self._engines) > 1:
            names = sorted({name for _, name in held})
            newest_of = {
                key: newest
                for first in range(0, len(names), _BLOCK)
                for key, newest in self._newest(names[first : first + _BLOCK]).items()
            }
            held = {key: newest for key, newest in held.items() if newest == newest_of[key]}
        for _, offset, partition in held.values():
            first, last = ranges.get(partition, (offset, offset))
            ranges[partition] = (min(first, offset), max(last, offset))
        return Population(CLICKHOUSE, {key: revision for key, (revision, _, _) in held.items()}, ranges)

    def names(self, deployments: Iterable[Value]) -> dict[Key, str]:
        """Region and every id that the deployments have been reported under → the id of their record."""
        columns = ("region", "deployment_id", "merged_into", *_NEWEST)
        found = self._values(
            columns,
            f"SELECT {', '.join(columns)} FROM (SELECT * FROM {{db:Identifier}}.deployment_revisions "
            "WHERE kafka_timestamp <= {as_of:DateTime64(3, 'UTC')} AND (region, deployment_id) IN (SELECT region, "
            "deployment_id FROM {db:Identifier}.deployment_revisions WHERE merged_into IN {ids:Array(String)}) "
            f"ORDER BY {_NEWEST_FIRST} LIMIT 1 BY region, deployment_id) WHERE merged_into != '' "
            "ORDER BY region, deployment_id",
            ids=sorted({d["deployment_id"] for d in deployments}),
        )
        return {(one["region"], one["deployment_id"]): one["merged_into"] for one in self._standing(found)}

    def approvals(self, deployments: Iterable[Value], names: Iterable[str] = ()) -> list[Value]:
        """Every step that names one of the deployments, the change ticket of one, or a ticket that one was registered
        with, in order of time."""
        ids = sorted({d["deployment_id"] for d in deployments} | set(names))
        registered = self._rows(
            "SELECT DISTINCT change_ticket FROM {db:Identifier}.approvals WHERE "
            "kafka_timestamp <= {as_of:DateTime64(3, 'UTC')} AND deployment_id IN {ids:Array(String)}",
            ids=ids,
        )
        tickets = {d["change_ticket"] for d in deployments} | {ticket for (ticket,) in registered}
        return self._values(
            (*_APPROVAL, "kafka_offset"),
            f"SELECT {', '.join(_APPROVAL)}, kafka_offset FROM {{db:Identifier}}.approvals "
            "WHERE kafka_timestamp <= {as_of:DateTime64(3, 'UTC')} AND "
            "(deployment_id IN {ids:Array(String)} OR change_ticket IN {tickets:Array(String)}) "
            "ORDER BY corrected_at, approval_id, kafka_offset LIMIT 1 BY approval_id",
            ("corrected_at", "approval_id", "kafka_offset"),
            ("approval_id",),
            ids=ids,
            tickets=sorted(tickets - {""}),
        )

    def events(self, deployments: Iterable[Value], names: Iterable[str] = ()) -> list[Value]:
        """What the deployments' own events say of permits, justifications and authors, in order of time."""
        columns = (*_EVENT, "corrected_at", "event_id", "kafka_offset")
        return self._values(
            columns,
            f"SELECT {', '.join(columns)} FROM {{db:Identifier}}.deployment_events "
            "WHERE kafka_timestamp <= {as_of:DateTime64(3, 'UTC')} AND deployment_id IN {ids:Array(String)} "
            "ORDER BY corrected_at, event_id, kafka_offset LIMIT 1 BY event_id",
            ("corrected_at", "event_id", "kafka_offset"),
            ("event_id",),
            ids=sorted({d["deployment_id"] for d in deployments} | set(names)),
        )

    def findings(self, deployments: Iterable[Value], names: Iterable[str] = ()) -> list[Value]:
        """The verdicts on the deployments that nothing has superseded, by rule, time and id."""
        found = self._values(
            (*_FINDING, "kafka_offset"),
            f"SELECT {', '.join(_FINDING)}, kafka_offset FROM {{db:Identifier}}.findings "
            "WHERE kafka_timestamp <= {as_of:DateTime64(3, 'UTC')} AND deployment_id IN {ids:Array(String)} "
            "AND (region, finding_id) NOT IN (SELECT region, supersedes FROM {db:Identifier}.findings "
            "WHERE kafka_timestamp <= {as_of:DateTime64(3, 'UTC')} AND supersedes != '') "
            "ORDER BY rule, occurred_at, finding_id, region, kafka_offset LIMIT 1 BY region, finding_id",
            ("rule", "occurred_at", "finding_id", "region", "kafka_offset"),
            ("region", "finding_id"),
            ids=sorted({d["deployment_id"] for d in deployments} | set(names)),
        )
        if len(self._engines) == 1:
            return found
        replaced: set[Key] = set()  # by what another engine holds
        for first in range(0, len(found), _BLOCK):
            replaced |= {
                (region, finding)
                for region, finding in self._rows(
                    "SELECT region, supersedes FROM {db:Identifier}.findings "
                    "WHERE kafka_timestamp <= {as_of:DateTime64(3, 'UTC')} AND supersedes IN {ids:Array(String)}",
                    ids=[one["finding_id"] for one in found[first : first + _BLOCK]],
                )
            }
        return [one for one in found if (one["region"], one["finding_id"]) not in replaced]

    def environment_policies(self) -> list[Value]:
        """Every version of the policies of environments that had been applied."""
        columns = ("name", "version", "effective_from", "spec")
        return self._values(
            columns,
            f"SELECT {', '.join(columns)} FROM {{db:Identifier}}.policies FINAL "
            "WHERE kind = 'environment' AND kafka_timestamp <= {as_of:DateTime64(3, 'UTC')} ORDER BY name, version",
            ("name", "version"),
            ("name", "version"),
        )

    def ranges(self, tables: Sequence[str]) -> dict[str, dict[int, tuple[int, int]]]:
        """Table → partition → first and last offset that it holds as of the instant."""
        found: dict[str, dict[int, tuple[int, int]]] = {}
        for table in tables:
            held: dict[int, tuple[int, int]] = {}
            for partition, first, last in self._rows(
                "SELECT kafka_partition, min(kafka_offset), max(kafka_offset) "
                "FROM {db:Identifier}.{table:Identifier} WHERE kafka_timestamp <= {as_of:DateTime64(3, 'UTC')} "
                "GROUP BY kafka_partition",
                table=table,
            ):
                known = held.get(partition, (first, last))
                held[partition] = (min(first, known[0]), max(last, known[1]))
            found[table] = dict(sorted(held.items()))
        return found

    def _newest(self, ids: Sequence[str]) -> dict[Key, Newest]:
        """Of each deployment the newest revision that any engine holds, and where it stands."""
        found: dict[Key, Newest] = {}
        for region, name, *newest in self._rows(
            "SELECT region, deployment_id, newest.1, newest.2, newest.3 FROM (SELECT region, deployment_id, "
            f"max(({', '.join(_NEWEST)})) AS newest FROM {{db:Identifier}}.deployment_revisions "
            "WHERE kafka_timestamp <= {as_of:DateTime64(3, 'UTC')} AND deployment_id IN {ids:Array(String)} "
            "GROUP BY region, deployment_id)",
            ids=ids,
        ):
            found[region, name] = max((*newest,), found.get((region, name), _NONE))
        return found

    def _standing(self, values: list[Value]) -> list[Value]:
        """Without those of which another engine holds a newer revision."""
        if len(self._engines) == 1:
            return values
        newest, place = self._newest(sorted({v["deployment_id"] for v in values})), itemgetter(*_NEWEST)
        return [v for v in values if place(v) == newest[v["region"], v["deployment_id"]]]

    def _values(
        self, columns: Sequence[str], question: str, order: Sequence[str] = (), once: Sequence[str] = (), **named: Any
    ) -> list[Value]:
        """Answers; of several engines in `order`, as each gives its own, and the first of what agrees in `once`."""
        found = [dict(zip(columns, row, strict=True)) for row in self._rows(question, **named)]
        if len(self._engines) == 1 or not order:
            return found
        kept: dict[Any, Value] = {}
        for value in sorted(found, key=itemgetter(*order)):
            kept.setdefault(tuple(value[name] for name in once), value)
        return list(kept.values())

    def _rows(self, question: str, **named: Any) -> Iterator[Sequence[Any]]:
        for engine in self._engines:
            with told_by(engine):
                found = engine.query(question, parameters=self._named(named)).result_rows
            yield from found

    def _streams(self, question: str, **named: Any) -> list[Iterator[Sequence[Any]]]:
        """The answer of each engine. Of several each waits in a file: ClickHouse closes what nobody reads for a while,
        and of one region's shard nothing is read before another one's has ended."""
        streams = (self._stream(engine, question, self._named(named)) for engine in self._engines)
        return list(streams if len(self._engines) == 1 else map(_kept, streams))

    def _stream(self, engine: Client, question: str, named: dict[str, Any]) -> Iterator[Sequence[Any]]:
        with told_by(engine), engine.query_rows_stream(question, parameters=named) as stream:
            yield from stream

    def _named(self, named: dict[str, Any]) -> dict[str, Any]:
        return {"db": self._database, "as_of": self.as_of, **named}


def _kept(rows: Iterable[Sequence[Any]]) -> Iterator[Sequence[Any]]:
    """The same rows, all read before the first is given. OSError where the folder of temporary files has no room."""
    with tempfile.TemporaryFile() as file:
        try:
            count = 0
            for row in rows:
                pickle.dump(row, file)
                count += 1
            file.seek(0)
        except OSError as error:
            raise no_room(error) from error
        for _ in range(count):
            yield pickle.load(file)


def by_deployment(values: Iterable[Value], names: Mapping[tuple[str, str], str]) -> dict[tuple[str, str], list[Value]]:
    """Values by region and deployment, in their order. `names`: other ids of deployments."""
    found: defaultdict[tuple[str, str], list[Value]] = defaultdict(list)
    for value in values:
        key = (value["region"], value["deployment_id"])
        found[value["region"], names.get(key, key[1])].append(value)
    return found
