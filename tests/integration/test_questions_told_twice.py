"""What was sent again after the intake app had forgotten it lies on the trail twice, and is answered once."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.monday import EVENTS, SIGNALS, play
from support.questions import Trail

README = Path(__file__).parents[2] / "sinks" / "README.md"
ASKED = [
    re.split(r"\sFROM ", question, maxsplit=1)[1].strip()
    for block in re.findall(r"```sql\n(.*?)```", README.read_text("utf-8"), re.S)
    for question in block.split(";\n")
]
ASKED += ["deployments", "standing_findings", "incident_candidates", "distinct_deployment_events", "distinct_signals"]
ASKED += ["deployment_parts", "newest_deployments", "cohorts"]


@pytest.fixture(scope="module")
def trails(clickhouse: str) -> Iterator[tuple[Trail, Trail]]:
    """The Monday once, and twice: each record again at a second offset, under its own id."""
    once, twice = Trail(clickhouse), Trail(clickhouse)
    play(once)
    for _ in range(2):
        play(twice)
    yield once, twice
    once.close()
    twice.close()


@pytest.mark.requirement("M1.4")
@pytest.mark.parametrize("view, values", [("distinct_deployment_events", EVENTS), ("distinct_signals", SIGNALS)])
def test_a_distinct_view_holds_what_was_stored_twice_once_where_it_stood_first(
    trails: tuple[Trail, Trail], view: str, values: list[object]
) -> None:
    table = view.removeprefix("distinct_")
    once, twice = (trail.ask(f"SELECT count() AS n, max(kafka_offset) AS last FROM {{db}}.{view}") for trail in trails)
    [stored] = trails[1].ask(f"SELECT count() AS n FROM {{db}}.{table}")

    assert stored["n"] == 2 * len(values)
    assert once == twice
    assert once[0]["n"] == len(values)


@pytest.mark.requirement("M1.4")
@pytest.mark.parametrize("question", ASKED, ids=lambda question: question.partition("(")[0])
def test_a_question_about_what_was_stored_twice_has_the_same_answer(trails: tuple[Trail, Trail], question: str) -> None:
    columns = [name for name in trails[0].columns(f"SELECT * FROM {question}") if not name.startswith("kafka_")]
    asked = f"SELECT {', '.join(columns)} FROM {question} ORDER BY ALL"
    once, twice = (trail.inside(asked) for trail in trails)

    assert once
    assert twice == once
