"""Tables of reports that are answers of ClickHouse's views."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any

from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.query import QueryResult
from deploytrail_schemas.errors import ConfigurationError
from deploytrail_schemas.instants import LATEST, format_instant

from deploytrail_sinks.reports.audit_rows import instant
from deploytrail_sinks.reports.document import Report, Table, rows
from deploytrail_sinks.reports.engines import told_by
from deploytrail_sinks.reports.period import Period

Value = dict[str, Any]


class Views:
    """Asks the views of a database."""

    def __init__(self, client: Client, database: str) -> None:
        self._client, self._database = client, database

    def ask(self, question: str, **named: Any) -> list[Value]:
        """The rows of an answer. `{db}` in the question is the database; instants are µs, given as `DateTime64(6)`."""
        found = self._answer(question, named)
        return [dict(zip(found.column_names, row, strict=True)) for row in found.result_rows]

    def table(self, name: str, title: str, question: str, note: str = "", **named: Any) -> Table:
        """An answer as a table of text; its columns are the view's."""
        found = self._answer(question, named)
        columns = tuple(column.replace("_", " ") for column in found.column_names)
        return Table(name, title, columns, rows([text(cell) for cell in row] for row in found.result_rows), note)

    def by_environment(
        self, environments: Sequence[str], name: str, title: str, question: str, note: str = "", **named: Any
    ) -> Table:
        """The answers of several environments as one table; the question names `{environment:String}`."""
        every = [self.table(name, title, question, note, environment=place, **named) for place in environments]
        found = [(place, *row) for place, table in zip(environments, every, strict=True) for row in table.rows]
        return Table(name, title, ("environment", *every[0].columns), found, note)

    def _answer(self, question: str, named: dict[str, Any]) -> QueryResult:
        # A parameterised view is named like a function, and ClickHouse takes no parameter for that.
        database = "`" + self._database.replace("\\", "\\\\").replace("`", "\\`") + "`"
        asked = question.replace("{db}", database)
        with told_by(self._client):
            found = self._client.query(asked, parameters=named)
            # An answer without rows names no columns; asked for none, the client asks for their names.
            return found if found.column_names else self._client.query(f"SELECT * FROM ({asked}) LIMIT 0", named)


def text(value: Any) -> str:
    """A value of ClickHouse as a cell: instants in UTC, shares to four digits, lists by commas, null as nothing."""
    if value is None:
        return ""
    if isinstance(value, datetime):
        return instant(value if value.tzinfo else value.replace(tzinfo=UTC))
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key}={text(cell)}" for key, cell in sorted(value.items()))
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(map(text, value))
    return value.isoformat() if isinstance(value, date) else str(value)


def _within(period: Period, as_of: int) -> dict[str, Any]:
    return {"since": period.start, "until": period.end, "as_of": as_of}


_TEAMS_TOLD = 20
_SPAN = "since = fromUnixTimestamp64Micro({since:Int64}), until = fromUnixTimestamp64Micro({until:Int64})"
_SPAN_AS_OF = f"{_SPAN}, as_of = fromUnixTimestamp64Micro({{as_of:Int64}})"
_COUNTED = (
    f"{_SPAN_AS_OF}, environment = {{environment:String}}, excluded_kinds = ['configuration_change', 'feature_flag']"
)


KNOWN = "kafka_timestamp <= fromUnixTimestamp64Micro({as_of:Int64})"
_INFERRED = (
    "provenance = 'inferred' AND started_at >= fromUnixTimestamp64Micro({since:Int64}) "
    "AND started_at < fromUnixTimestamp64Micro({until:Int64})"
)


def as_of_fact(as_of: int | None) -> tuple[tuple[str, str], ...]:
    """The fact that says as of when a report was made, where that was asked for."""
    return () if as_of is None else (("As of", format_instant(as_of)),)


def access(views: Views, period: Period, as_of: int | None = None) -> Report:
    """Who could deploy, register and approve, against who did; unused grants first."""
    table = views.table(
        "access",
        "Who could and who did",
        f"SELECT * FROM {{db}}.access_review_as_of({_SPAN_AS_OF})",
        "Credentials that held in the period and people who could approve by a role, unused ones first; then who "
        "reported without a grant that is known.",
        **_within(period, LATEST if as_of is None else as_of),
    )
    verdicts = [row[table.columns.index("verdict")] for row in table.rows]
    counts = ", ".join(f"{name.replace('_', ' ')} {verdicts.count(name)}" for name in dict.fromkeys(verdicts))
    facts = (("Period", str(period)), *as_of_fact(as_of), ("Credentials and holders of roles", counts or "none"))
    return Report(f"Review of access, {period.label}", facts, (table,), main="access")


def coverage(views: Views, period: Period, environments: Sequence[str], as_of: int | None = None) -> Report:
    """What runs of which a deployment was reported, what has no end, what has no name, which tickets lead nowhere.

    `environments`: of which deployments the tickets are looked at, one at least.
    """
    named = _within(period, LATEST if as_of is None else as_of)
    tables = (
        views.table(
            "coverage",
            "Coverage by team and tool",
            f"SELECT * FROM {{db}}.coverage_as_of({_SPAN_AS_OF})",
            "Of all that was seen to run, how much somebody reported to have deployed.",
            **named,
        ),
        views.table(
            "unreported",
            "Runs without a deployment",
            "SELECT region, environment, service, deployment_id, version, artifact_digest, confidence, started_at "
            f"FROM (SELECT * FROM {{db}}.deployment_revisions WHERE {KNOWN} AND (region, deployment_id) IN "
            f"(SELECT region, deployment_id FROM {{db}}.deployment_revisions WHERE {_INFERRED}) "
            "ORDER BY revision DESC, kafka_offset DESC LIMIT 1 BY region, deployment_id) "
            f"WHERE merged_into = '' AND {_INFERRED} "
            "ORDER BY region, environment, service, started_at, deployment_id",
            "Inferred from what runs; nobody reported it since.",
            **named,
        ),
        views.by_environment(
            environments,
            "tickets",
            "Links to tickets that do not hold",
            f"SELECT * FROM {{db}}.broken_ticket_links_as_of({_SPAN_AS_OF}, environment = {{environment:String}}) "
            "ORDER BY at, region, service, deployment_id, ticket, reason",
            **named,
        ),
        views.table(
            "loss",
            "Events that never arrived",
            f"SELECT * FROM {{db}}.loss_as_of({_SPAN_AS_OF}) WHERE missing > 0 OR told_lost > 0 "
            "ORDER BY missing DESC, producer_id",
            "Gaps in what each producer counts.",
            **named,
        ),
    )
    seen, known = (sum(int(row[tables[0].columns.index(c)]) for row in tables[0].rows)
                   for c in ("running", "running registered"))  # fmt: skip
    share = f"{known} of {seen} ({known / seen:.1%})" if seen else "nothing was seen to run"
    facts = (
        ("Period", str(period)),
        *as_of_fact(as_of),
        ("Tickets", f"of {', '.join(environments)}"),
        ("Running and reported", share),
    )
    return Report(f"Coverage, {period.label}", facts, tables, main="coverage")


def team(views: Views, name: str, period: Period, environments: Sequence[str], as_of: int | None) -> Report:
    """A team's scorecard: the four keys, how often, what went wrong, in each environment by itself.

    `environments`: one at least. Rates and medians of several cannot be added up, so they are not.
    ConfigurationError where neither a policy nor a deployment ever named the team: its page would look calm.
    """
    found = views.ask(
        "SELECT DISTINCT team FROM {db}.service_owners(as_of = now64(6)) UNION DISTINCT "
        "SELECT DISTINCT team FROM {db}.deployments"
    )
    known = sorted({row["team"] for row in found} - {""})
    if name not in known:
        named = f"there are {', '.join(known[:_TEAMS_TOLD])}" if known else "no policy of the kind service names one"
        raise ConfigurationError(f"nothing is known of the team {name!r}; {named}")
    asked = _within(period, period.end if as_of is None else as_of) | {"team": name, "zone": period.zone}
    tables = (
        views.by_environment(
            environments,
            "dora",
            "The four keys",
            f"SELECT * FROM {{db}}.dora({_COUNTED}) WHERE team = {{team:String}}",
            "Rates with their 95 % interval (Wilson), medians with the interval of order statistics; parts of a "
            "deployment, configuration changes and flags are left out, rollbacks counted by themselves.",
            **asked,
        ),
        views.by_environment(
            environments,
            "frequency",
            "Deployments by day and service",
            f"SELECT * FROM {{db}}.deployment_frequency({_COUNTED}, zone = {{zone:String}}) "
            "WHERE team = {team:String} ORDER BY day, service",
            **asked,
        ),
        views.by_environment(
            environments,
            "findings",
            "Verdicts against it",
            "SELECT rule, reason, service, uniqExact(kafka_partition, finding_id) AS findings, "
            "min(occurred_at) AS first, max(occurred_at) AS last "
            "FROM {db}.findings WHERE verdict = 'violation' AND environment = {environment:String} "
            "AND kafka_timestamp <= fromUnixTimestamp64Micro({as_of:Int64}) "
            "AND occurred_at >= fromUnixTimestamp64Micro({since:Int64}) "
            "AND occurred_at < fromUnixTimestamp64Micro({until:Int64}) "
            "AND (kafka_partition, finding_id) NOT IN (SELECT kafka_partition, supersedes FROM {db}.findings "
            "WHERE supersedes != '' AND kafka_timestamp <= fromUnixTimestamp64Micro({as_of:Int64})) "
            "AND (region, deployment_id) IN (SELECT region, deployment_id FROM "
            f"{{db}}.counted_deployments({_COUNTED}) WHERE team = {{team:String}}) "
            "GROUP BY rule, reason, service ORDER BY findings DESC, rule, reason, service",
            **asked,
        ),
    )
    facts = (("Team", name), ("Period", str(period)), *as_of_fact(as_of), ("Environments", ", ".join(environments)))
    return Report(f"Scorecard of {name}, {period.label}", facts, tables, main="dora")
