"""`deploytrail policy names`: what reported names would mean under policies, before anything is applied.

In: names, one a line, or records as `deploytrail log` prints them (JSON lines; of a record that an
alias has changed already, the names as reported). Out: each name once, what it means and by what.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping

from deploytrail_schemas.errors import DeploytrailError

from deploytrail_processors.rules import aliases
from deploytrail_processors.rules.aliases import Mapped
from deploytrail_processors.rules.policies import Policies

KINDS: Mapping[str, Callable[[str, Policies], Mapped]] = {
    "environment": aliases.environment,
    "region": aliases.region,
    "service": aliases.service,
}
UNMAPPED = "UNMAPPED: no policy has it"
Reported = Counter[tuple[str, str]]  # kind and name → how often


class NotNames(DeploytrailError):
    """A file that holds neither names nor records: give another."""


def read_names(lines: Iterable[str], kind: str) -> Reported:
    """The names of lines: records name their kind, other lines are names of `kind`. NotNames for broken JSON."""
    found: Reported = Counter()
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text.startswith("{"):
            found.update([(kind, text)] if text else [])
            continue
        try:
            record = json.loads(text)
        except ValueError as error:
            raise NotNames(
                f"line {number} is no JSON: {error}; expected names, or lines of `deploytrail log`"
            ) from None
        names = {name: record.get(f"reported_{name}") or record.get(name) for name in KINDS}
        found.update((name, value) for name, value in names.items() if isinstance(value, str) and value.strip())
    return found


def table(reported: Reported, policies: Policies, known_regions: frozenset[str]) -> tuple[list[str], int]:
    """The lines to print, those without a meaning last, and how many environments and regions have none."""
    rows: list[tuple[str, ...]] = []
    for (kind, name), times in sorted(reported.items()):
        found = KINDS[kind](name, policies)
        by = found.by or ("region of the settings" if kind == "region" and found.name in known_regions else "")
        rows.append((kind, name, found.name, by or UNMAPPED, str(times)))
    rows.sort(key=lambda row: row[3] == UNMAPPED)
    head = ("kind", "reported", "recorded as", "by", "records")
    widths = [max(len(cell) for cell in column) for column in zip(head, *rows, strict=True)]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in (head, *rows)]
    return lines, sum(1 for row in rows if row[3] == UNMAPPED and row[0] != "service")
