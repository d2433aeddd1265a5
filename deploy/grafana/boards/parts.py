"""What the dashboards are made of: data sources, panels, variables.

Times reach the views by `SINCE` and `UNTIL`: Grafana's macro gives a DateTime of the server's zone, and a
view's parameter is text in UTC.
"""

from __future__ import annotations

from typing import Any

from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.builders import prometheus, stat, table, timeseries
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.variants import Dataquery
from grafana_foundation_sdk.models import dashboard as models

CLICKHOUSE = models.DataSourceRef(type_val="grafana-clickhouse-datasource", uid="deploytrail-clickhouse")
PROMETHEUS = models.DataSourceRef(type_val="prometheus", uid="deploytrail-prometheus")

SINCE = "since = toTimeZone($__fromTime, 'UTC'), until = toTimeZone($__toTime, 'UTC')"
AS_OF = "as_of = now64(6, 'UTC')"
ENVIRONMENT = "environment = '${environment}'"
COUNTED = f"{SINCE}, {AS_OF}, {ENVIRONMENT}, excluded_kinds = []"
_TABLE, _TIME_SERIES = 1, 0  # `format` of the ClickHouse plugin's queries
_WIDTH = 24


class Sql(Dataquery, Builder[Dataquery]):
    """A query of the ClickHouse plugin, in its own words (https://github.com/grafana/clickhouse-datasource)."""

    def __init__(self, text: str, *, series: bool = False) -> None:
        self.text, self.series = text, series

    def build(self) -> Dataquery:
        return self

    def to_json(self) -> dict[str, Any]:
        return {
            "datasource": CLICKHOUSE,
            "editorType": "sql",
            "format": _TIME_SERIES if self.series else _TABLE,
            "queryType": "timeseries" if self.series else "table",
            "rawSql": self.text,
            "refId": "A",
        }


def board(uid: str, title: str, about: str, *, since: str = "now-30d") -> builders.Dashboard:
    """An empty dashboard of ours."""
    return (
        builders.Dashboard(title)
        .uid(uid)
        .description(about)
        .tags(["deploytrail"])
        .readonly()
        .timezone("utc")
        .time(since, "now")
        .refresh("1m")
        .tooltip(models.DashboardCursorSync.CROSSHAIR)
    )


def variable(name: str, label: str, question: str, current: str) -> builders.QueryVariable:
    """A variable whose values ClickHouse lists."""
    chosen = models.VariableOption(selected=True, text=current, value=current)
    return (
        builders.QueryVariable(name)
        .label(label)
        .datasource(CLICKHOUSE)
        .query(question)
        .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .current(chosen)
    )


def environments() -> builders.QueryVariable:
    """The environment that a dashboard is about."""
    question = "SELECT DISTINCT environment FROM deployment_revisions ORDER BY environment"
    return variable("environment", "Environment", question, "production")


def rows(title: str, about: str, question: str, *, width: int = _WIDTH, height: int = 9) -> table.Panel:
    """A table of a question's rows."""
    return (
        table.Panel()
        .title(title)
        .description(about)
        .datasource(CLICKHOUSE)
        .with_target(Sql(question))
        .span(width)
        .height(height)
    )


def number(title: str, about: str, question: str, *, width: int = 6, unit: str = "short") -> stat.Panel:
    """One number."""
    return (
        stat.Panel()
        .title(title)
        .description(about)
        .datasource(CLICKHOUSE)
        .with_target(Sql(question))
        .unit(unit)
        .span(width)
        .height(4)
    )


def curve(title: str, about: str, question: str, *, width: int = 12, unit: str = "short") -> timeseries.Panel:
    """A curve over time of what ClickHouse says."""
    return (
        timeseries.Panel()
        .title(title)
        .description(about)
        .datasource(CLICKHOUSE)
        .with_target(Sql(question, series=True))
        .unit(unit)
        .span(width)
        .height(8)
    )


def metric(
    title: str, about: str, expression: str, legend: str, *, width: int = 8, unit: str = "short"
) -> timeseries.Panel:
    """A curve over time of what Prometheus says."""
    query = prometheus.Dataquery().expr(expression).legend_format(legend).ref_id("A").range()
    return (
        timeseries.Panel()
        .title(title)
        .description(about)
        .datasource(PROMETHEUS)
        .with_target(query)
        .unit(unit)
        .span(width)
        .height(8)
    )
