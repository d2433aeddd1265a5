"""The README's guide to one more adapter: its example is a source like any other."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.guide import ROOT, example, write

ALL = "tests/unit/producers/adapters/test_every_source.py"


def run(folder: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(folder), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, *argv],
        capture_output=True,
        text=True,
        timeout=100,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": path},
    )


@pytest.mark.requirement("M7.5")
def test_the_example_is_one_file_of_at_most_thirty_lines() -> None:
    lines = example("python").splitlines()

    assert len(lines) <= 30
    assert max(map(len, lines)) <= 120


@pytest.mark.requirement("M7.5")
def test_the_example_and_its_case_pass_what_every_source_must(tmp_path: Path) -> None:
    write(tmp_path)
    done = run(tmp_path, "-m", "pytest", "-q", "-p", "guide_plugin", "-p", "no:cacheprovider", ALL, "-k", "shipit")

    assert done.returncode == 0, done.stdout + done.stderr
    assert "7 passed" in done.stdout


def test_a_case_that_the_example_does_not_meet_fails(tmp_path: Path) -> None:
    write(tmp_path)
    path = tmp_path / "golden/shipit/ended.json"
    case = json.loads(path.read_text("utf-8"))
    case["records"][0]["value"]["event_type"] = "failed"
    path.write_text(json.dumps(case), "utf-8")
    done = run(
        tmp_path, "-m", "pytest", "-q", "-p", "guide_plugin", "-p", "no:cacheprovider", ALL, "-k", "shipit/ended"
    )

    assert done.returncode == 1
    assert "1 failed" in done.stdout


@pytest.mark.requirement("M3.2")
def test_the_command_tells_the_loss_of_the_example(tmp_path: Path) -> None:
    write(tmp_path)
    script = "import guide_plugin; from deploytrail.command import main; main(['adapters', 'shipit', '--json'])"
    done = run(tmp_path, "-c", script)
    [told] = json.loads(done.stdout)["sources"]

    assert told["statuses"] == {"running": "started", "ok": "succeeded", "broken": "failed"}
    assert {"region", "commit_sha", "deployer"} <= set(told["records"]["DeploymentEvent"]["never"])
