"""The metrics of the processors, in one list."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

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
GAPS = Counter(
    "deploytrail_requirement_findings_total",
    "Verdicts on required fields and regimes, by rule and reason: quarantined with what is missing, or healed.",
    ["rule", "reason"],
)
UNMAPPED_NAMES = Counter(
    "deploytrail_unmapped_name_records_total", "Records whose environment or region nobody declared.", ["reason"]
)
PARTITION_TIME = Gauge(
    "deploytrail_partition_time_seconds", "Newest tick of a partition, seconds since the epoch.", ["app", "partition"]
)
STATE_ROWS = Gauge("deploytrail_state_rows", "Rows of an app's tables in this worker.", ["app", "table"])
STATE_BYTES = Gauge(
    "deploytrail_state_bytes",
    "Size of an app's tables in this worker as JSON, from 200 of their rows.",
    ["app", "table"],
)
LAG = Gauge(
    "deploytrail_processor_lag_records",
    "Records of a partition that an app has not answered and committed.",
    ["app", "partition"],
)
GATE_ANSWERS = Counter(
    "deploytrail_gate_answers_total",
    "Answers to requests for permits: allowed, refused, uncertain, away (503), forwarded, invalid.",
    ["answer"],
)
GATE_REFUSALS = Counter(
    "deploytrail_gate_refusals_total",
    "Refused and uncertain answers of the gate, by whether the trail was told: told, repeated (said within the hour "
    "already), too_many (of one caller in a minute).",
    ["trail"],
)
GATE_SECONDS = Histogram(
    "deploytrail_gate_seconds",
    "Seconds until a request for a permit was answered, as the worker that was asked sees it.",
    buckets=(0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5),
)
