"""A worker with many apps: they start beside each other, and a stop that meets their start is a stop."""

from __future__ import annotations

from pathlib import Path

import pytest
from deploytrail_schemas.exit_codes import UNAVAILABLE
from support.commands import Command, running
from support.kafka import make_topics, wait_for

APPS = ("lifecycle", "change_window", "overdue", "approval", "suppression", "impact")
STARTS, HAS_STARTED = "ProcessorApp]: Starting", "CutRecovery]: Worker ready"


@pytest.mark.requirement("M8.4")
def test_no_app_waits_until_another_has_joined_its_group(own_kafka: str, tmp_path: Path) -> None:
    make_topics(own_kafka)
    with running("processor", "--verbose", *APPS, env={"DEPLOYTRAIL_KAFKA": own_kafka}, cwd=tmp_path) as worker:
        wait_for(lambda: "deploytrail processor: ready" in worker.said(), what="all apps to be ready")
        said = worker.said()
        assert worker.stop() == 0

    before, _, _ = said.partition(HAS_STARTED)
    assert before.count(STARTS) == said.count(STARTS) == said.count(HAS_STARTED) == len(APPS)


@pytest.mark.requirement("M8.4")
@pytest.mark.parametrize(
    "step", ["Conductor]: Starting", "Table: ", "CutRecovery]: Starting", "Joined group", HAS_STARTED]
)
def test_a_stop_that_meets_the_start_ends_well(own_kafka: str, tmp_path: Path, step: str) -> None:
    make_topics(own_kafka)
    worker = Command("processor", "--verbose", *APPS, env={"DEPLOYTRAIL_KAFKA": own_kafka}, cwd=tmp_path)
    try:
        wait_for(lambda: step in worker.said(), what=step)
        # A group that waits for its members may hold it up: then it ends by itself, and says so.
        assert worker.stop() in {0, UNAVAILABLE}, worker.said()
    finally:
        worker.kill()
