"""Two years of a company in the real tables, made by the engine itself: millions of rows in seconds.

2,000 services, 6 regions, 3 environments, 120 teams, skewed as companies are: the busiest tenth of the services
makes about half of all deployments, days are working days, nights are quiet, 6 % fail, 2 % are undone. A
deployment is 4 events and 3 revisions of its record, and a verdict; every 40th is followed by an alert with its
answers. The same number gives the same rows.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

SERVICES, TEAMS, DAYS = 2000, 120, 730
FIRST_DAY = "2024-11-01"
EVENTS_PER_DEPLOYMENT = 4
CHUNK = 250_000  # deployments an insert


def load(run: Callable[[str], object], database: str, events: int) -> None:
    """Fill the tables of a migrated database with so many events and what belongs to them."""
    deployments = events // EVENTS_PER_DEPLOYMENT
    facts, policies, *of_deployments = (Path(__file__).parent / "history.sql").read_text("utf-8").split(";\n")
    run(policies.format(db=database, services=SERVICES, teams=TEAMS))
    facts = facts.format(services=SERVICES, first_day=FIRST_DAY, days=DAYS, deployments=deployments)
    for first in range(0, deployments, CHUNK):
        count = min(CHUNK, deployments - first)
        for statement in of_deployments:
            run(statement.format(db=database, facts=facts, first=first, count=count))
