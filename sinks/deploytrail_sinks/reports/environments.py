"""Which environments are production: the one of that name, and those that a policy declared to be, in a period."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import UTC
from typing import Any

from deploytrail_schemas.instants import to_micros

from deploytrail_sinks.reports.period import Period

PRODUCTION = "production"


def production(policies: Iterable[Mapping[str, Any]], period: Period) -> list[str]:
    """The environments that were production at any time of a period, sorted.

    `policies`: every version of the kind `environment`, each with `name`, `version`, `effective_from` and `spec`
    (JSON); times in UTC. Of the versions of one name, the newest that was effective holds, as processors take them.
    """
    versions: dict[str, list[tuple[int, int, bool]]] = {}
    for policy in policies:
        since = to_micros(policy["effective_from"].replace(tzinfo=UTC))
        spec = json.loads(policy["spec"])
        declared = isinstance(spec, dict) and spec.get("production") is True
        versions.setdefault(policy["name"], []).append((since, policy["version"], declared))
    found = {PRODUCTION}
    for name, every in versions.items():
        every.sort()
        for number, (since, _, declared) in enumerate(every):
            until = every[number + 1][0] if number + 1 < len(every) else period.end
            if declared and since < period.end and until > max(since, period.start):
                found.add(name)
    return sorted(found)
