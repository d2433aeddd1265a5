"""Reports over what nobody would want to be told, and over parts that fail in the middle."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from deploytrail_schemas.records import RecordType
from support.breaking_proxy import BreakingProxy
from support.commands import run
from support.questions import Trail, at, record
from support.values import approval

HOSTILE = (
    "a\n| b | \"c\"\r\n`d` 'e' <script>alert(1)</script> \u202egpj.exe \u2028 \u0645\u0631\u062d\u0628\u0627 \x00 \\"
)
LONG = "because " * 1300
COUNT = 700  # more than one block of what is asked for together


@dataclass(frozen=True)
class Reports:
    trail: Trail
    env: dict[str, str]
    folder: Path

    def run(self, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
        return run("report", *words, env=self.env | env, cwd=self.folder, seconds=240)

    def audit(self, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
        return self.run("audit", "--month", "2026-11", "--without", "kafka", "--without", "archive", *words, **env)


@pytest.fixture(scope="module")
def reports(clickhouse: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reports]:
    trail = Trail(clickhouse)
    names = [f"{HOSTILE}{number}" for number in range(COUNT)]
    fields: dict[str, Any] = {"service": HOSTILE, "change_ticket": HOSTILE, "deployer": HOSTILE, "version": HOSTILE}
    trail.store(RecordType.RECORD, [record(name, "succeeded", at("10:00"), at("10:05"), **fields) for name in names])
    told = {"justification": LONG, "approver": HOSTILE, "service": HOSTILE, "change_ticket": HOSTILE}
    steps = [approval("approved", at("09:00"), deployment_id=name, **told) for name in names]
    trail.store(RecordType.APPROVAL, steps)
    verdict = {
        "rule": "missing_approval", "verdict": "violation", "reason": "self_approval", "occurred_at": at("10:00"),
        "region": "eu-west-1", "environment": "production", "service": HOSTILE, "severity": "error",
        "explanation": LONG + HOSTILE,
    }  # fmt: skip
    trail.store(
        RecordType.FINDING, [verdict | {"finding_id": f"f-{n}", "deployment_id": n} for n in (names[0], names[-1])]
    )
    env = {"DEPLOYTRAIL_CLICKHOUSE_URL": clickhouse, "DEPLOYTRAIL_CLICKHOUSE_DATABASE": trail.database}
    yield Reports(trail, env, tmp_path_factory.mktemp("hostile"))
    trail.close()


@pytest.mark.requirement("M5.2")
@pytest.mark.parametrize("form", ["markdown", "html", "csv", "json"])
def test_hostile_names_and_long_texts_stay_cells(form: str, reports: Reports) -> None:
    done = reports.audit("--format", form, "--output", f"hostile.{form}")
    assert done.returncode == 0, done.stderr
    text = (reports.folder / f"hostile.{form}").read_bytes().decode()

    assert "\u202e" not in text or form in ("csv", "json")
    if form == "markdown":
        table = text[text.index("## Every deployment") : text.index("## What this was made of")]
        rows = [line for line in table.split("\n") if line.startswith("| ")]
        assert len(rows) == 2 + COUNT  # its head and the line below it, too
        assert len({line.count("|") - line.count("\\|") for line in rows}) == 1
    elif form == "html":
        assert "<script" not in text
        assert text.count("<tr>") == text.count("</tr>") > 2 * COUNT
    elif form == "csv":
        assert len(list(csv.reader(io.StringIO(text, newline="")))) == 1 + COUNT
    else:
        found = json.loads(text)["tables"]
        assert {row["service"] for row in found["deployments"]} == {HOSTILE}
        assert max(len(row["what"]) for row in found["exceptions"]) >= len(LONG)


def test_an_incident_with_quotes_is_unknown_and_no_more(reports: Reports) -> None:
    for incident in ("x' OR 1=1 --", "`;DROP TABLE findings;--", 'a"b\\', HOSTILE.replace("\x00", "")):
        done = reports.run("timeline", incident)

        assert done.returncode == 78, done.stderr
        assert "nothing is known of the incident" in done.stderr


@pytest.mark.parametrize("name", ["no_such_database", "quote`d", "sp ace", "x'y"])
def test_a_wrong_database_is_said_in_one_line(name: str, reports: Reports) -> None:
    for words in (("audit", "--month", "2026-11"), ("timeline", "INC1"), ("coverage", "--month", "2026-11")):
        done = reports.run(*words, DEPLOYTRAIL_CLICKHOUSE_DATABASE=name)

        assert done.returncode in (69, 78), done.stderr
        assert len(done.stderr.strip().splitlines()) == 1, done.stderr


def test_a_full_disk_leaves_no_half_report_under_its_name(reports: Reports) -> None:
    full = reports.audit("--output", "/dev/full")
    (reports.folder / "kept.md").write_text("of last month")
    # The file may grow to some 500 kB, and the report is larger; its rows beside it are smaller.
    limited = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (500_000,) * 2); {_MAIN}"
    words = ("audit", "--month", "2026-11", "--without", "kafka", "--without", "archive", "--output", "kept.md")
    argv = [sys.executable, "-c", limited, *words]
    half = subprocess.run(argv, env=_env(reports), cwd=reports.folder, capture_output=True, text=True, timeout=60,
                          check=False)  # fmt: skip

    assert (full.returncode, half.returncode) == (69, 69), half.stderr
    assert "cannot write the report: No space left on device: '/dev/full'" in full.stderr
    assert "cannot " in half.stderr
    assert "Traceback" not in half.stderr
    assert (reports.folder / "kept.md").read_text() == "of last month"
    assert [file.name for file in reports.folder.iterdir() if file.name.startswith(".kept")] == []


def test_a_clickhouse_that_goes_away_midway_leaves_nothing_and_is_said(reports: Reports) -> None:
    with BreakingProxy(reports.env["DEPLOYTRAIL_CLICKHOUSE_URL"], answers=60_000) as away:
        done = reports.audit("--output", "away.md", DEPLOYTRAIL_CLICKHOUSE_URL=away.url)

    assert done.returncode == 69, done.stderr
    assert "Traceback" not in done.stderr
    assert not (reports.folder / "away.md").exists()


_MAIN = "from deploytrail_sinks.reports.report_command import main; import sys; sys.exit(main(sys.argv[1:]))"


def _env(reports: Reports) -> dict[str, str]:
    return os.environ | reports.env
