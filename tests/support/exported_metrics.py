"""The metrics that the code exports, for tests of what asks for them."""

from __future__ import annotations

import importlib

import prometheus_client
from prometheus_client.metrics import MetricWrapperBase

MODULES = (
    "deploytrail.gateway.metrics",
    "deploytrail.polling.metrics",
    "deploytrail_processors.metrics",
    "deploytrail_sinks.metrics",
)


def exported() -> dict[str, set[str]]:
    """The series that the code exports, each with its labels."""
    found: dict[str, set[str]] = {}
    for module in MODULES:
        for value in vars(importlib.import_module(module)).values():
            if not isinstance(value, MetricWrapperBase):
                continue
            labels, name = set(value._labelnames), value._name
            if isinstance(value, prometheus_client.Counter):
                found[f"{name}_total"] = labels
            elif isinstance(value, prometheus_client.Histogram):
                found |= {
                    f"{name}_{part}": labels | ({"le"} if part == "bucket" else set())
                    for part in ("bucket", "sum", "count")
                }
            else:
                found[name] = labels
    return found
