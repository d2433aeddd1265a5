"""One table of states, and the diagram in the README that is drawn from it."""

from __future__ import annotations

from pathlib import Path

from deploytrail_processors import state_diagram
from deploytrail_processors.rules import states
from deploytrail_schemas.records import RecordType
from deploytrail_schemas.schema import fields

README = Path(__file__).parents[4] / "stream_processors/README.md"


def test_the_readme_draws_the_table() -> None:
    text = README.read_text("utf-8")

    assert state_diagram.drawn(text) == text, (
        "run: python -m deploytrail_processors.state_diagram stream_processors/README.md"
    )


def test_the_table_has_every_state_of_the_schema_and_no_other() -> None:
    [declared] = [field["type"]["symbols"] for field in fields(RecordType.RECORD) if field["name"] == "state"]

    assert set(declared) == states.STATES


def test_every_transition_leads_somewhere_known() -> None:
    assert {after for events in states.TRANSITIONS.values() for after in events.values()} <= set(states.TRANSITIONS)
    assert {event for events in states.TRANSITIONS.values() for event in events} == set(states.ORDER)


def test_the_diagram_shows_every_transition() -> None:
    drawn = state_diagram.diagram()

    for state, events in states.TRANSITIONS.items():
        for event, after in events.items():
            [line] = [line for line in drawn.splitlines() if line.startswith(f"    {state} --> {after}: {event}")
                      or (line.startswith(f"    {state} --> {after}: ") and f", {event}" in line)]  # fmt: skip

            assert event in line
