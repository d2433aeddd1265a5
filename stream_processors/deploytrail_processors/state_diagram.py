"""The table of states as a diagram: `python -m deploytrail_processors.state_diagram stream_processors/README.md`
draws it anew into that file. A test holds the two together."""

from __future__ import annotations

import sys
from pathlib import Path

from deploytrail_processors.rules import states

BEGIN = "<!-- begin: states -->"
END = "<!-- end: states -->"


def diagram() -> str:
    """The table as a Mermaid state diagram, https://mermaid.js.org/syntax/stateDiagram.html."""
    lines = ["stateDiagram-v2", "    [*] --> unknown"]
    for state, events in states.TRANSITIONS.items():
        for after in dict.fromkeys(events.values()):
            words = ", ".join(event for event, to in events.items() if to == after)
            lines.append(f"    {state} --> {after}: {words}")
    for before, why, after in states.DERIVED:
        lines += [f"    {state} --> {after}: ({why})" for state in before]
    for state, why in states.FROM_ANY:
        lines.append(f"    note right of {state} : from any state, {why}")
    return "\n".join(["```mermaid", *lines, "```"])


def drawn(text: str) -> str:
    """A text with the diagram between its marks. ValueError where it has no such marks."""
    before, found, rest = text.partition(BEGIN)
    _, ends, after = rest.partition(END)
    if not found or not ends:
        raise ValueError(f"expected the marks {BEGIN} and {END}")
    return f"{before}{BEGIN}\n{diagram()}\n{END}{after}"


if __name__ == "__main__":
    for path in map(Path, sys.argv[1:]):
        path.write_text(drawn(path.read_text("utf-8")), "utf-8")
