"""What ClickHouse knows as of an instant: the newest revisions, the standing verdicts, the approvals that had come.

As of an instant means: of what lay on the topics by then, by Kafka's own time. What comes later changes what a later
instant shows, never what an earlier one did, so that a report can be made again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from clickhouse_connect.driver.client import Client
from deploytrail_schemas.instants import LATEST, from_micros

from deploytrail_sinks.reports.period import Period
from deploytrail_sinks.reports.population import Key, Population

Value = dict[str, Any]
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


class Trail:
    """Reads a database as of an instant; None: as it is now."""

    def __init__(self, client: Client, database: str, as_of: int | None = None) -> None:
        self._client, self._database = client, database
        self.as_of = from_micros(LATEST if as_of is None else as_of)

    def deployments(self, period: Period, environments: Sequence[str]) -> Iterator[list[Value]]:
        """The deployments that began in a period, in blocks, by place, time and id."""
        found = self._stream(
            f"SELECT {', '.join(_REVISION)}, {BEGAN} AS began "
            # The newest revision of whatever was ever said to be in them decides whether it is: it may have left.
            "FROM (SELECT * FROM {db:Identifier}.deployment_revisions "
            "WHERE kafka_timestamp <= {as_of:DateTime64(3, 'UTC')} AND (region, deployment_id) IN "
            "(SELECT region, deployment_id FROM {db:Identifier}.deployment_revisions "
            "WHERE environment IN {environments:Array(String)}) "
            "ORDER BY revision DESC, kafka_offset DESC LIMIT 1 BY region, deployment_id) "
            "WHERE merged_into = '' AND environment IN {environments:Array(String)} "
            "AND began >= fromUnixTimestamp64Micro({start:Int64}) AND began < fromUnixTimestamp64Micro({end:Int64}) "
            "ORDER BY region, environment, service, began, deployment_id",
            start=period.start,
            end=period.end,
            environments=list(environments),
        )
        block: list[Value] = []
        for row in found:
            block.append(dict(zip((*_REVISION, "began"), row, strict=True)))
            if len(block) == _BLOCK:
                yield block
                block = []
        if block:
            yield block

    def population(self, period: Period, environments: Sequence[str]) -> Population:
        """The same deployments, counted by ClickHouse another way than they are listed: of each that any revision puts
        into the period the newest one, by aggregation, and only then what that says."""
        held: dict[Key, int] = {}
        ranges: dict[int, tuple[int, int]] = {}
        for region, name, revision, offset, partition in self._stream(
            "SELECT region, deployment_id, newest.1, newest.2, newest.3 FROM (SELECT region, deployment_id, "
            f"max((revision, kafka_offset, kafka_partition, toString(environment), merged_into, {_MICROS})) AS newest "
            "FROM {db:Identifier}.deployment_revisions WHERE kafka_timestamp <= {as_of:DateTime64(3, 'UTC')} "
            "AND (region, deployment_id) IN (SELECT region, deployment_id FROM {db:Identifier}.deployment_revisions "
            f"WHERE {_MICROS} >= {{start:Int64}} AND {_MICROS} < {{end:Int64}}) GROUP BY region, deployment_id) "
            "WHERE newest.5 = '' AND newest.4 IN {environments:Array(String)} "
            "AND newest.6 >= {start:Int64} AND newest.6 < {end:Int64}",
            start=period.start,
            end=period.end,
            environments=list(environments),
        ):
            held[region, name] = int(revision)
            first, last = ranges.get(partition, (offset, offset))
            ranges[partition] = (min(first, offset), max(last, offset))
        return Population(CLICKHOUSE, held, ranges)

    def names(self, deployments: Iterable[Value]) -> dict[tuple[str, str], str]:
        """Region and every id that the deployments have been reported under → the id of their record."""
        ids = sorted({d["deployment_id"] for d in deployments})
        found = self._rows(
            "SELECT region, deployment_id, merged_into FROM (SELECT * FROM {db:Identifier}.deployment_revisions "
            "WHERE kafka_timestamp <= {as_of:DateTime64(3, 'UTC')} AND (region, deployment_id) IN (SELECT region, "
            "deployment_id FROM {db:Identifier}.deployment_revisions WHERE merged_into IN {ids:Array(String)}) "
            "ORDER BY revision DESC, kafka_offset DESC LIMIT 1 BY region, deployment_id) WHERE merged_into != '' "
            "ORDER BY region, deployment_id",
            ids=ids,
        )
        return {(region, name): into for region, name, into in found}

    def approvals(self, deployments: Iterable[Value], names: Iterable[str] = ()) -> list[Value]:
        """Every step that names one of the deployments, the change ticket of one, or a ticket that one was registered
        with, in order of time."""
        ids = sorted({d["deployment_id"] for d in deployments} | set(names))
        tickets = sorted({d["change_ticket"] for d in deployments} - {""})
        return self._values(
            _APPROVAL,
            f"SELECT {', '.join(_APPROVAL)} FROM {{db:Identifier}}.approvals "
            "WHERE kafka_timestamp <= {as_of:DateTime64(3, 'UTC')} AND (deployment_id IN {ids:Array(String)} OR "
            "change_ticket IN {tickets:Array(String)} OR change_ticket IN (SELECT change_ticket "
            "FROM {db:Identifier}.approvals WHERE deployment_id IN {ids:Array(String)} AND change_ticket != '')) "
            "ORDER BY corrected_at, approval_id, kafka_offset LIMIT 1 BY approval_id",
            ids=ids,
            tickets=tickets,
        )

    def events(self, deployments: Iterable[Value], names: Iterable[str] = ()) -> list[Value]:
        """What the deployments' own events say of permits, justifications and authors, in order of time."""
        return self._values(
            _EVENT,
            f"SELECT {', '.join(_EVENT)} FROM {{db:Identifier}}.deployment_events "
            "WHERE kafka_timestamp <= {as_of:DateTime64(3, 'UTC')} AND deployment_id IN {ids:Array(String)} "
            "ORDER BY corrected_at, event_id, kafka_offset LIMIT 1 BY event_id",
            ids=sorted({d["deployment_id"] for d in deployments} | set(names)),
        )

    def findings(self, deployments: Iterable[Value], names: Iterable[str] = ()) -> list[Value]:
        """The verdicts on the deployments that nothing has superseded, by rule, time and id."""
        return self._values(
            _FINDING,
            f"SELECT {', '.join(_FINDING)} FROM {{db:Identifier}}.findings "
            "WHERE kafka_timestamp <= {as_of:DateTime64(3, 'UTC')} AND deployment_id IN {ids:Array(String)} "
            "AND (region, finding_id) NOT IN (SELECT region, supersedes FROM {db:Identifier}.findings "
            "WHERE kafka_timestamp <= {as_of:DateTime64(3, 'UTC')} AND supersedes != '') "
            "ORDER BY rule, occurred_at, finding_id, region, kafka_offset LIMIT 1 BY region, finding_id",
            ids=sorted({d["deployment_id"] for d in deployments} | set(names)),
        )

    def environment_policies(self) -> list[Value]:
        """Every version of the policies of environments that had been applied."""
        columns = ("name", "version", "effective_from", "spec")
        return self._values(
            columns,
            f"SELECT {', '.join(columns)} FROM {{db:Identifier}}.policies FINAL "
            "WHERE kind = 'environment' AND kafka_timestamp <= {as_of:DateTime64(3, 'UTC')} ORDER BY name, version",
        )

    def ranges(self, tables: Sequence[str]) -> dict[str, dict[int, tuple[int, int]]]:
        """Table → partition → first and last offset that it holds as of the instant."""
        return {
            table: {
                int(partition): (int(first), int(last))
                for partition, first, last in self._rows(
                    "SELECT kafka_partition, min(kafka_offset), max(kafka_offset) "
                    "FROM {db:Identifier}.{table:Identifier} WHERE kafka_timestamp <= {as_of:DateTime64(3, 'UTC')} "
                    "GROUP BY kafka_partition ORDER BY kafka_partition",
                    table=table,
                )
            }
            for table in tables
        }

    def _values(self, columns: Sequence[str], question: str, **named: Any) -> list[Value]:
        return [dict(zip(columns, row, strict=True)) for row in self._rows(question, **named)]

    def _rows(self, question: str, **named: Any) -> Sequence[Sequence[Any]]:
        found: Sequence[Sequence[Any]] = self._client.query(question, parameters=self._named(named)).result_rows
        return found

    def _stream(self, question: str, **named: Any) -> Iterator[Sequence[Any]]:
        with self._client.query_rows_stream(question, parameters=self._named(named)) as stream:
            yield from stream

    def _named(self, named: dict[str, Any]) -> dict[str, Any]:
        return {"db": self._database, "as_of": self.as_of, **named}


def by_deployment(values: Iterable[Value], names: Mapping[tuple[str, str], str]) -> dict[tuple[str, str], list[Value]]:
    """Values by region and deployment, in their order. `names`: other ids of deployments."""
    found: defaultdict[tuple[str, str], list[Value]] = defaultdict(list)
    for value in values:
        key = (value["region"], value["deployment_id"])
        found[value["region"], names.get(key, key[1])].append(value)
    return found
