"""The metrics of the gateway, in one list."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

REQUESTS = Counter("deploytrail_gateway_requests_total", "Requests by route and status.", ["route", "status"])
RECORDS = Counter("deploytrail_gateway_records_total", "Records accepted, by kind.", ["kind"])
REFUSALS = Counter("deploytrail_gateway_refusals_total", "Requests refused for who sent them, by reason.", ["reason"])
SECONDS = Histogram("deploytrail_gateway_request_seconds", "Time to answer, by route.", ["route"])
DELIVERIES = Gauge(
    "deploytrail_gateway_deliveries_remembered",
    "Keys of webhook deliveries that would be known again.",
    multiprocess_mode="livemax",  # every worker knows all
)
REPEATED = Counter(
    "deploytrail_gateway_deliveries_repeated_total", "Deliveries accepted before, by source.", ["source"]
)
SYSLOG = Counter(
    "deploytrail_gateway_syslog_total", "Syslog messages, by transport and outcome.", ["transport", "outcome"]
)

# Summed over the workers of one gateway.
KAFKA_AWAY = Gauge(
    "deploytrail_gateway_kafka_away", "Workers that Kafka does not take records from.", multiprocess_mode="livesum"
)
SPOOL_BYTES = Gauge(
    "deploytrail_gateway_spool_bytes", "Bytes of the gateway's own spool on disk.", multiprocess_mode="livesum"
)
SPOOL_WAITING = Gauge(
    "deploytrail_gateway_spool_waiting_records", "Records that wait for Kafka in it.", multiprocess_mode="livesum"
)
SPOOLED = Counter("deploytrail_gateway_spooled_records_total", "Records made durable in it.")
DRAINED = Counter("deploytrail_gateway_drained_records_total", "Records published out of it.")
SPOOL_REFUSED = Counter(
    "deploytrail_gateway_spool_refused_records_total", "Records that it had no room for, by reason.", ["reason"]
)
SPOOL_DAMAGED = Counter(
    "deploytrail_gateway_spool_damaged_total", "Stretches of it that are no record, set aside with their bytes."
)
