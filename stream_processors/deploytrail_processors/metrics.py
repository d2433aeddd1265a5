"""The metrics of the processors, in one list."""

from __future__ import annotations

from prometheus_client import Counter, Gauge

INTAKE_RECORDS = Counter(
    "deploytrail_intake_records_total",
    "Records read from the intake topic, by what became of them: forwarded, repeated, dead_letter, redelivered.",
    ["outcome"],
)
REFUSED = Counter(
    "deploytrail_intake_refused_total", "Records whose writer may not write them, by why they were refused.", ["reason"]
)
POLLED = Counter(
    "deploytrail_intake_polled_total",
    "Records that pollers found, by source and outcome: missed (no webhook came first) or known. "
    "missed / (missed + known) is the gap rate of the source's webhooks.",
    ["source", "outcome"],
)
UNKNOWN_REGIONS = Counter(
    "deploytrail_unknown_region_records_total", "Records of regions that have no partition of their own."
)
PROCESSED = Counter("deploytrail_processed_records_total", "Records of the trail that an app has judged.", ["app"])
DEAD_LETTERS = Counter("deploytrail_dead_letters_total", "Messages set aside, by app and reason.", ["app", "reason"])
PARTITION_TIME = Gauge(
    "deploytrail_partition_time_seconds", "Newest tick of a partition, seconds since the epoch.", ["app", "partition"]
)
STATE_ROWS = Gauge("deploytrail_state_rows", "Rows of an app's tables.", ["app"])
