"""The metrics of the gateway, in one list."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

REQUESTS = Counter("deploytrail_gateway_requests_total", "Requests by route and status.", ["route", "status"])
RECORDS = Counter("deploytrail_gateway_records_total", "Records accepted, by kind.", ["kind"])
REFUSALS = Counter("deploytrail_gateway_refusals_total", "Requests refused for who sent them, by reason.", ["reason"])
SECONDS = Histogram("deploytrail_gateway_request_seconds", "Time to answer, by route.", ["route"])
DELIVERIES = Gauge("deploytrail_gateway_deliveries_remembered", "Keys of webhook deliveries that would be known again.")
REPEATED = Counter(
    "deploytrail_gateway_deliveries_repeated_total", "Deliveries accepted before, by source.", ["source"]
)
SYSLOG = Counter(
    "deploytrail_gateway_syslog_total", "Syslog messages, by transport and outcome.", ["transport", "outcome"]
)
