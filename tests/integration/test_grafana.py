"""The dashboards: made by code as committed, every query asked of the real engine, every metric a real one."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.exported_metrics import exported
from support.monday import play
from support.questions import Trail

GRAFANA = Path(__file__).parents[2] / "deploy" / "grafana"
FILES = sorted((GRAFANA / "dashboards").glob("*.json"))
SINCE, UNTIL = (int(datetime(2026, 11, day, tzinfo=UTC).timestamp()) for day in (1, 4))
VARIABLES = {"environment": "production", "region": "eu-west-1", "service": "shop"}
# Of Monday nothing is to be seen there.
EMPTY = {"Verdicts against them", "Dead letters", "What changed in the 15 minutes before the end of the time shown"}


def panels(file: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(file.read_text("utf-8"))["panels"]
    return found


def targets(kind: str) -> list[tuple[str, dict[str, Any]]]:
    return [
        (f"{file.stem}: {panel['title']}", target)
        for file in FILES
        for panel in panels(file)
        for target in panel["targets"]
        if target.get("datasource", panel["datasource"])["type"] == kind
    ]


def expanded(sql: str) -> str:
    """A query with macros and variables as the plugin replaces them.

    https://github.com/grafana/clickhouse-datasource/blob/main/pkg/macros/macros.go
    """
    sql = re.sub(r"\$__timeFilter\((\w+)\)", rf"\1 >= toDateTime({SINCE}) AND \1 <= toDateTime({UNTIL})", sql)
    sql = re.sub(r"\$__timeInterval\((\w+)\)", r"toStartOfInterval(toDateTime(\1), INTERVAL 3600 second)", sql)
    sql = sql.replace("$__fromTime", f"toDateTime({SINCE})").replace("$__toTime", f"toDateTime({UNTIL})")
    for name, value in VARIABLES.items():
        sql = sql.replace(f"${{{name}}}", value)
    assert "$" not in sql, sql
    return sql


@pytest.fixture(scope="module")
def trail(clickhouse: str) -> Iterator[Trail]:
    trail = Trail(clickhouse)
    play(trail)
    yield trail
    trail.close()


def test_dashboards_are_what_the_code_makes(tmp_path: Path) -> None:
    subprocess.run([sys.executable, str(GRAFANA / "generate.py"), str(tmp_path)], check=True, timeout=60)
    made = {file.name: file.read_text("utf-8") for file in tmp_path.glob("*.json")}

    assert made == {file.name: file.read_text("utf-8") for file in FILES}, "run `python deploy/grafana/generate.py`"
    assert len(made) == 5


@pytest.mark.requirement("M4.1")
@pytest.mark.parametrize(
    ("name", "target"), targets("grafana-clickhouse-datasource"), ids=lambda v: v if isinstance(v, str) else ""
)
def test_every_panels_query_answers_on_the_engine(trail: Trail, name: str, target: dict[str, Any]) -> None:
    rows = trail.inside(expanded(target["rawSql"]))

    assert rows or name.partition(": ")[2] in EMPTY
    if target["queryType"] == "timeseries":
        assert all(isinstance(row["time"], datetime) for row in rows)


def test_times_mean_the_same_in_every_zone_of_the_server(trail: Trail) -> None:
    times = "since = toTimeZone($__fromTime, 'UTC'), until = toTimeZone($__toTime, 'UTC')"
    question = f"SELECT sum(total) AS n FROM dora({times}, "
    question = expanded(question + "as_of = now64(6, 'UTC'), environment = 'production', excluded_kinds = [])")

    here = trail.inside(f"{question} SETTINGS session_timezone = 'UTC'")
    there = trail.inside(f"{question} SETTINGS session_timezone = 'Asia/Tokyo'")

    assert here == there == [{"n": 14}]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_variable_has_values(trail: Trail, file: Path) -> None:
    used = set(re.findall(r"\$\{(\w+)\}", file.read_text("utf-8")))
    variables = {v["name"]: v for v in json.loads(file.read_text("utf-8")).get("templating", {}).get("list", [])}

    assert used == set(variables)
    for variable in variables.values():
        assert trail.inside(variable["query"])


@pytest.mark.parametrize(("name", "target"), targets("prometheus"), ids=lambda v: v if isinstance(v, str) else "")
def test_every_promql_names_a_metric_and_labels_that_the_code_exports(name: str, target: dict[str, Any]) -> None:
    known = exported()
    named = set(re.findall(r"\bdeploytrail_\w+", target["expr"]))
    labels = {label for group in re.findall(r"by \(([^)]*)\)", target["expr"]) for label in group.split(", ")}

    assert named
    assert named <= known.keys()
    for metric in named:
        assert labels <= known[metric]
    assert set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) <= labels


def test_provisioned_data_sources_are_those_that_panels_name() -> None:
    sources = yaml.safe_load((GRAFANA / "provisioning/datasources/deploytrail.yaml").read_text("utf-8"))["datasources"]
    named = {(panel["datasource"]["uid"], panel["datasource"]["type"]) for file in FILES for panel in panels(file)}

    assert named == {(source["uid"], source["type"]) for source in sources}
    [provider] = yaml.safe_load((GRAFANA / "provisioning/dashboards/deploytrail.yaml").read_text("utf-8"))["providers"]
    assert provider["options"]["path"] == "/etc/grafana/dashboards/deploytrail"
