"""Whether the pipeline itself is well: Prometheus for now, ClickHouse for what has been."""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard

from boards.parts import SINCE, board, metric, number, rows

SLO = f"tracker_slo({SINCE}, limit_ms = 5000, objective = 0.999)"
LOSS = f"SELECT * FROM loss({SINCE}) WHERE missing > 0 OR told_lost > 0 LIMIT 500"
LAG = f"""
SELECT region, records, occurred_to_received_ms[1] AS to_us_p50_ms, occurred_to_received_ms[2] AS to_us_p99_ms,
    in_spool_ms[2] AS in_spool_p99_ms, received_to_trail_ms[1] AS to_trail_p50_ms,
    received_to_trail_ms[2] AS to_trail_p99_ms
FROM ingest_lag({SINCE})
"""
LETTERS = """
SELECT kafka_timestamp AS at, reason, origin_topic, origin_partition, origin_offset, detail
FROM dead_letters
WHERE $__timeFilter(kafka_timestamp)
ORDER BY kafka_timestamp DESC
LIMIT 200
"""


def _rate(name: str, by: str) -> str:
    return f"sum by ({by}) (rate({name}[$__rate_interval]))"


def _p99(name: str, by: str = "le") -> str:
    return f"histogram_quantile(0.99, sum by ({by}) (rate({name}_bucket[$__rate_interval])))"


def dashboard() -> Dashboard:
    return (
        board("deploytrail-health", "Deployments: pipeline health", "Whether the tracker is well.", since="now-6h")
        .with_panel(
            number(
                "Availability",
                "Events on the trail within 5 s.",
                f"SELECT availability AS value FROM {SLO}",
                unit="percentunit",
            )
        )
        .with_panel(
            number(
                "Budget spent",
                "Of an objective of 99.9 %.",
                f"SELECT budget_spent AS value FROM {SLO}",
                unit="percentunit",
            )
        )
        .with_panel(number("Lost", "Gaps of the producers' counts.", f"SELECT lost AS value FROM {SLO}"))
        .with_panel(number("Dead letters", "Set aside, refusals apart.", f"SELECT dead_letters AS value FROM {SLO}"))
        .with_panel(
            metric(
                "Gateway: requests",
                "By status.",
                _rate("deploytrail_gateway_requests_total", "status"),
                "{{status}}",
                unit="reqps",
            )
        )
        .with_panel(
            metric(
                "Gateway: time to answer",
                "p99 by route.",
                _p99("deploytrail_gateway_request_seconds", "le, route"),
                "{{route}}",
                unit="s",
            )
        )
        .with_panel(
            metric(
                "Gateway: records waiting for Kafka",
                "In its spool.",
                "sum(deploytrail_gateway_spool_waiting_records)",
                "waiting",
            )
        )
        .with_panel(
            metric(
                "Intake",
                "Records by what became of them.",
                _rate("deploytrail_intake_records_total", "outcome"),
                "{{outcome}}",
                unit="cps",
            )
        )
        .with_panel(
            metric(
                "Refused",
                "Records whose writer may not write them.",
                _rate("deploytrail_intake_refused_total", "reason"),
                "{{reason}}",
            )
        )
        .with_panel(
            metric(
                "Age of partition time",
                "Since the newest tick: the processors' own lag.",
                "time() - max by (app) (deploytrail_partition_time_seconds)",
                "{{app}}",
                unit="s",
            )
        )
        .with_panel(
            metric(
                "Processors",
                "Records judged.",
                _rate("deploytrail_processed_records_total", "app"),
                "{{app}}",
                unit="cps",
            )
        )
        .with_panel(metric("State", "Rows of the apps' tables.", "sum by (app) (deploytrail_state_rows)", "{{app}}"))
        .with_panel(
            metric(
                "Dead letters",
                "By app and reason.",
                _rate("deploytrail_dead_letters_total", "app, reason"),
                "{{app}} {{reason}}",
            )
        )
        .with_panel(
            metric(
                "ClickHouse: rows",
                "Messages stored.",
                _rate("deploytrail_clickhouse_rows_total", "topic"),
                "{{topic}}",
                unit="cps",
            )
        )
        .with_panel(
            metric(
                "ClickHouse: batches",
                "p99 from sending a batch to its commit.",
                _p99("deploytrail_clickhouse_batch_seconds"),
                "p99",
                unit="s",
            )
        )
        .with_panel(
            metric(
                "ClickHouse: retries",
                "Inserts tried again.",
                "sum(rate(deploytrail_clickhouse_retries_total[$__rate_interval]))",
                "retries",
            )
        )
        .with_panel(
            metric(
                "Archive",
                "Segments stored.",
                "sum(rate(deploytrail_archive_segments_total[$__rate_interval]))",
                "segments",
            )
        )
        .with_panel(
            metric(
                "Archive: lost offsets",
                "Dropped by Kafka before they were archived.",
                "sum(deploytrail_archive_lost_offsets_total)",
                "lost",
            )
        )
        .with_panel(
            metric(
                "Archive: age of the newest checkpoint",
                "What is newer than it, nobody outside can check yet.",
                "time() - max by (log) (deploytrail_archive_log_checkpoint_timestamp_seconds)",
                "{{log}}",
                unit="s",
            )
        )
        .with_panel(
            metric(
                "Archive: entries without a checkpoint",
                "In the tree, and signed or cosigned by too few.",
                "max by (log) (deploytrail_archive_log_unpublished_entries)",
                "{{log}}",
            )
        )
        .with_panel(
            metric(
                "Archive: refusals of its log",
                "By the process that refuses; somebody must look.",
                _rate("deploytrail_archive_log_refusals_total", "process"),
                "{{process}}",
            )
        )
        .with_panel(
            metric(
                "Pages",
                "By action and result.",
                _rate("deploytrail_oncall_pages_total", "action, result"),
                "{{action}} {{result}}",
            )
        )
        .with_panel(rows("Ingest lag", "Where the time goes, per region.", LAG, width=12))
        .with_panel(rows("Loss", "Producers with gaps in their counts.", LOSS, width=12))
        .with_panel(rows("Dead letters", "Newest first.", LETTERS))
    )
