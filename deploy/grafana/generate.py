"""Dashboards as code, by Grafana's own foundation SDK: `python deploy/grafana/generate.py` writes dashboards/*.json.

The files are committed, so that Grafana needs nothing but a folder; a test makes them anew and compares.
What they ask of ClickHouse are the views of sinks/README.md.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from boards import correlation, coverage, deployments, health, performance
from grafana_foundation_sdk.cog.encoder import JSONEncoder

DASHBOARDS = (deployments, performance, correlation, coverage, health)


def files() -> Iterator[tuple[str, str]]:
    """Name and text of each dashboard."""
    for module in DASHBOARDS:
        made = module.dashboard().build()
        for number, panel in enumerate(made.panels or [], 1):
            panel.id_val = number  # without one Grafana gives it one of its own, and links to a panel break
            panel.options = panel.options or {}  # a null would stand where a panel looks for its defaults
        yield f"{made.uid}.json", JSONEncoder(sort_keys=True, indent=2).encode(made) + "\n"


if __name__ == "__main__":
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "dashboards"
    for name, text in files():
        (folder / name).write_text(text, "utf-8")
