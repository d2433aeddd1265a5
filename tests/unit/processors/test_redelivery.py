"""A crash may lose an output whose state was kept: the record comes again, and the output with it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from deploytrail_processors.replay_command import makers
from deploytrail_schemas.records import RecordType
from deploytrail_schemas.settings import Settings
from support.apps import Handled
from support.story import APPS, POLICIES, tell
from yaml import safe_load_all

# Apps that write at ticks alone. A tick that came does not come again: the next one says once more what it said.
AT_TICKS = ("overdue", "reconciliation", "success_criteria")


@pytest.mark.requirement("M8.4")
@pytest.mark.parametrize("name", [name for name in APPS if name not in AT_TICKS])
def test_what_a_record_made_an_app_write_is_written_again_with_it(name: str) -> None:
    policies = list(safe_load_all(POLICIES.replace("effective_from: 2020-01-01T00:00:00Z\n", "")))
    [make] = makers([name], Settings()).values()
    handled = Handled(make, policies)
    written = 0
    for _, kind, value in tell(25, 1):
        begin = len(handled.written)
        handled.handle(kind, value)
        first = _ids(handled.written[begin:])
        if kind is RecordType.TICK:
            continue
        begin = len(handled.written)
        handled.handle(kind, value)
        written += len(first)

        assert first <= _ids(handled.written[begin:]), value

    assert written > 10


def _ids(outputs: list[dict[str, Any]]) -> set[str]:
    return {_id(output) for output in outputs}


def _id(output: Mapping[str, Any]) -> str:
    return str(output.get("finding_id") or f"{output['deployment_id']} {output['revision']}")
