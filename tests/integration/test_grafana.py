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
    subprocess.run([sys.executable, str(GRAFANA / "generate.py"), str(tmp_path)], check=True, timeout=200)
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


# Of Grafana's value formats, those that dashboards of ours may name; another word is shown behind the number.
# https://github.com/grafana/grafana/blob/main/packages/grafana-data/src/valueFormats/categories.ts
UNITS = {"none", "short", "percent", "percentunit", "s", "ms", "bytes", "decbytes", "cps", "reqps", "dateTimeAsIso"}
_COLUMNS = 24


def within(value: Any, name: str) -> Iterator[Any]:
    """Every value of that name anywhere below."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key == name:
                yield inner
            yield from within(inner, name)
    elif isinstance(value, list):
        for inner in value:
            yield from within(inner, name)


def test_each_dashboard_has_a_uid_and_a_title_of_its_own_and_lies_in_a_file_of_that_name() -> None:
    boards = [json.loads(file.read_text("utf-8")) for file in FILES]

    assert [board["uid"] for board in boards] == [file.stem for file in FILES]
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{1,40}", board["uid"]) for board in boards)  # Grafana refuses others
    assert len({board["title"] for board in boards}) == len(boards)
    assert not any("id" in board for board in boards)  # a number of somebody's database would overwrite another


@pytest.mark.requirement("M4.1")
@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_panels_have_ids_of_their_own_and_lie_on_the_grid_without_covering_each_other(file: Path) -> None:
    every = panels(file)
    taken: dict[tuple[int, int], str] = {}
    for panel in every:
        place = panel["gridPos"]

        assert place["x"] >= 0 and place["y"] >= 0 and place["w"] > 0 and place["h"] > 0, panel["title"]
        assert place["x"] + place["w"] <= _COLUMNS, panel["title"]
        for column in range(place["x"], place["x"] + place["w"]):
            for line in range(place["y"], place["y"] + place["h"]):
                assert (column, line) not in taken, f"{panel['title']} lies over {taken[column, line]}"
                taken[column, line] = panel["title"]
    assert [panel["id"] for panel in every] == list(range(1, len(every) + 1))


@pytest.mark.requirement("M4.1")
@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_panels_have_types_units_and_queries_that_grafana_knows(file: Path) -> None:
    for panel in panels(file):
        letters = [target["refId"] for target in panel["targets"]]

        assert panel["type"] in {"stat", "table", "timeseries"}
        assert isinstance(panel["options"], dict)
        assert letters and len(set(letters)) == len(letters)
        assert set(within(panel["fieldConfig"], "unit")) <= UNITS
        for target in panel["targets"]:
            if target.get("datasource", panel["datasource"])["type"] == "grafana-clickhouse-datasource":
                shape = ("timeseries", 0) if panel["type"] == "timeseries" else ("table", 1)
                assert (target["queryType"], target["format"], target["editorType"]) == (*shape, "sql")


def test_every_data_source_that_is_named_anywhere_is_provisioned_once() -> None:
    sources = yaml.safe_load((GRAFANA / "provisioning/datasources/deploytrail.yaml").read_text("utf-8"))["datasources"]
    provisioned = {source["uid"]: source["type"] for source in sources}
    named = [
        source
        for file in FILES
        for source in within(json.loads(file.read_text("utf-8")), "datasource")
        if source != {"type": "grafana", "uid": "-- Grafana --"}  # its own annotations
    ]

    assert len(provisioned) == len(sources) == len({source["name"] for source in sources})
    assert named
    assert all(provisioned.get(source["uid"]) == source["type"] for source in named)
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{1,40}", uid) for uid in provisioned)
    # What stands in the file as text is text: a secret comes from the environment.
    assert all(value.startswith("$") for source in sources for value in source.get("secureJsonData", {}).values())


def test_what_is_provisioned_has_the_words_that_grafana_reads() -> None:
    sources, boards = (
        yaml.safe_load((GRAFANA / f"provisioning/{kind}/deploytrail.yaml").read_text("utf-8"))
        for kind in ("datasources", "dashboards")
    )

    assert sources["apiVersion"] == boards["apiVersion"] == 1
    for source in sources["datasources"]:
        assert source.keys() >= {"name", "type", "uid", "access"}
        assert source["access"] == "proxy"
    for provider in boards["providers"]:
        assert provider.keys() >= {"name", "type", "options"}
        assert provider["type"] == "file"
