"""The audit report has no size limit: its memory does not grow with the month's rows."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.many_deployments import fill, report
from support.questions import Trail


@pytest.mark.requirement("M5.2")
def test_ten_times_as_many_deployments_need_little_more_memory(clickhouse: str, tmp_path: Path) -> None:
    peaks = {}
    for count in (600, 6000):
        trail = Trail(clickhouse)
        env = {"DEPLOYTRAIL_CLICKHOUSE_URL": clickhouse, "DEPLOYTRAIL_CLICKHOUSE_DATABASE": trail.database}
        try:
            fill(trail.client, trail.database, count)
            made = report(env, tmp_path / f"{count}.csv", "csv")
        finally:
            trail.close()
        assert made.code == 0, made.stderr
        assert len(made.path.read_bytes().split(b"\r\n")) == 1 + count + 1
        peaks[count] = made.peak_mb

    assert peaks[6000] < peaks[600] + 40, peaks
