"""What decodes and still cannot be a record is told by name."""

from __future__ import annotations

from math import inf, nan
from typing import Any

import pytest
from deploytrail_processors.rules.plausible import problem
from deploytrail_schemas.codec import decode, encode
from deploytrail_schemas.records import RecordType
from support.values import MINUTE, NOON, approval, event, signal

EVENT, SIGNAL, APPROVAL = RecordType.DEPLOYMENT_EVENT, RecordType.SIGNAL, RecordType.APPROVAL


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
        (SIGNAL, signal(ended_at=-62_135_596_800_000_000), "ended_at: "),  # 0001-01-01, as Go says never
        (APPROVAL, approval(valid_from=NOON, valid_until=NOON + MINUTE), ""),
        (APPROVAL, approval("registered", valid_until=-(1 << 63)), "valid_until: "),
        (APPROVAL, approval(valid_from=(1 << 63) - 1), "valid_from: "),
        (EVENT, event("started", sent_at=5), ""),  # says the intake app itself
    ],
)
def test_a_record_that_nothing_can_rest_on_is_told_by_name(kind: RecordType, value: dict[str, Any], words: str) -> None:
    said = problem(kind, decode(encode(kind, value))[1])  # as it comes from the wire

    assert said.startswith(words) and bool(said) == bool(words)
