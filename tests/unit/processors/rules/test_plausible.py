"""What decodes and still cannot be a record is told by name."""

from __future__ import annotations

from math import inf, nan
from typing import Any

import pytest
from deploytrail_processors.rules.plausible import problem
from deploytrail_schemas.codec import decode, encode
from deploytrail_schemas.records import RecordType
from support.values import event, signal

EVENT, SIGNAL = RecordType.DEPLOYMENT_EVENT, RecordType.SIGNAL


@pytest.mark.requirement("M2.1")
@pytest.mark.parametrize(
    ("kind", "value", "words"),
    [
        (EVENT, event("started"), ""),
        (SIGNAL, signal("health_check", value=0.97), ""),
        (SIGNAL, signal("health_check", value=nan), "value is nan; expected a finite number, or none where"),
        (EVENT, event("progressed", cohort="canary", cohort_weight=inf), "cohort_weight is inf; expected"),
        (EVENT, event("started", confidence=-inf), "confidence is -inf; expected"),
        (EVENT, event("started", event_id=""), "event_id is empty"),
        (EVENT, event("started", deployment_id=""), "deployment_id is empty"),
        (SIGNAL, signal(occurred_at=5), "occurred_at: "),
    ],
)
def test_a_record_that_nothing_can_rest_on_is_told_by_name(kind: RecordType, value: dict[str, Any], words: str) -> None:
    said = problem(kind, decode(encode(kind, value))[1])  # as it comes from the wire

    assert said.startswith(words) and bool(said) == bool(words)
