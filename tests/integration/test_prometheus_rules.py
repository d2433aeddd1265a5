"""The alert rules: read and played by Prometheus' own tool, about metrics that the code exports."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.exported_metrics import exported

FOLDER = Path(__file__).parents[2] / "deploy" / "prometheus"
FILES = sorted(file for file in FOLDER.glob("*.yaml") if not file.stem.endswith("_test"))


def rules(file: Path) -> list[dict[str, Any]]:
    groups = yaml.safe_load(file.read_text("utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def promtool(*argv: str, cwd: Path = FOLDER) -> subprocess.CompletedProcess[str]:
    program = shutil.which("promtool")
    if program is None:
        pytest.skip("promtool is not installed (Debian: apt-get install prometheus)")
    return subprocess.run([program, *argv], cwd=cwd, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_prometheus_takes_the_rules_and_alerts_as_its_test_says(file: Path) -> None:
    checked = promtool("check", "rules", file.name)
    played = promtool("test", "rules", f"{file.stem}_test.yaml")

    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert f"{len(rules(file))} rules found" in checked.stdout
    assert played.returncode == 0, played.stdout + played.stderr


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_each_rule_is_tested_to_alert_and_not_to(file: Path) -> None:
    tests = yaml.safe_load((FOLDER / f"{file.stem}_test.yaml").read_text("utf-8"))["tests"]
    played = [(case["alertname"], bool(case["exp_alerts"])) for test in tests for case in test["alert_rule_test"]]

    assert {*played} == {(rule["alert"], alerts) for rule in rules(file) for alerts in (True, False)}


def test_a_rule_that_is_changed_fails_its_test(tmp_path: Path) -> None:
    shutil.copytree(FOLDER, tmp_path / "rules")
    file = tmp_path / "rules/archive.yaml"
    file.write_text(file.read_text("utf-8").replace("> 300", "> 900"), "utf-8")

    assert promtool("test", "rules", "archive_test.yaml", cwd=tmp_path / "rules").returncode == 1


@pytest.mark.parametrize("rule", [rule for file in FILES for rule in rules(file)], ids=lambda rule: str(rule["alert"]))
def test_each_rule_asks_for_metrics_and_labels_that_the_code_exports(rule: dict[str, Any]) -> None:
    known = exported()
    named = set(re.findall(r"\bdeploytrail_\w+", rule["expr"]))

    assert named
    assert named <= known.keys()
    for labels, metric in re.findall(r"by \(([^)]*)\) \((?:increase\()?(deploytrail_\w+)", rule["expr"]):
        assert set(labels.split(", ")) <= known[metric]
    assert set(re.findall(r"\$labels\.(\w+)", str(rule["annotations"]))) <= set.union(*(known[m] for m in named))
