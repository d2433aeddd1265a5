"""The metrics of the sinks, in one list, and the small server that shows them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from prometheus_client import CONTENT_TYPE_LATEST, Counter, Gauge, Histogram, generate_latest

CLICKHOUSE_ROWS = Counter("deploytrail_clickhouse_rows_total", "Messages whose rows are in ClickHouse.", ["topic"])
CLICKHOUSE_RETRIES = Counter("deploytrail_clickhouse_retries_total", "Inserts that were tried again.")
CLICKHOUSE_BATCH = Histogram("deploytrail_clickhouse_batch_seconds", "A batch, from sending its ranges to its commit.")
CLICKHOUSE_WAITING = Gauge("deploytrail_clickhouse_waiting_bytes", "Messages that wait to be in a batch, in bytes.")
CLICKHOUSE_PAUSES = Counter(
    "deploytrail_clickhouse_pauses_total", "Times that partitions were paused: there was long no room."
)
ARCHIVE_SEGMENTS = Counter("deploytrail_archive_segments_total", "Segments that were stored.")
ARCHIVE_GAPS = Counter(
    "deploytrail_archive_lost_offsets_total", "Offsets that Kafka dropped before they were archived."
)
ARCHIVE_STOPPED = Gauge(
    "deploytrail_archive_partition_stopped",
    "1: archived no further, since the store holds something else than Kafka does; somebody must look.",
    ["topic", "partition"],
)
# Of one log each: a gauge without a label would say 0 in every sink, and a checkpoint of 1970 is an alarm.
LOG_ENTRIES = Gauge("deploytrail_archive_log_entries", "Entries of the tree that the sequencer has made.", ["log"])
LOG_WAITING = Gauge(
    "deploytrail_archive_log_waiting_entries", "Entries of archived segments that are not in the tree yet.", ["log"]
)
LOG_STOPPED = Gauge(
    "deploytrail_archive_log_stopped_sequences",
    "Sequences of segments with one that cannot be read: nothing behind it is entered; somebody must look.",
    ["log"],
)
LOG_GAPS = Counter(
    "deploytrail_archive_log_gaps_total",
    "Gaps entered into the log, once for each class: offsets that Kafka dropped before they were archived.",
    ["log"],
)
LOG_UNPUBLISHED = Gauge(
    "deploytrail_archive_log_unpublished_entries", "Entries of the tree that no published checkpoint covers.", ["log"]
)
LOG_CHECKPOINT = Gauge(
    "deploytrail_archive_log_checkpoint_timestamp_seconds",
    "When the newest checkpoint was published, seconds since the epoch.",
    ["log"],
)
LOG_REFUSALS = Counter(
    "deploytrail_archive_log_refusals_total",
    "Looks at which sequencer or signer refused to go on: what is there contradicts what was. Somebody must look.",
    ["log", "process"],
)
LOG_WITNESS_FAILURES = Counter(
    "deploytrail_archive_log_witness_failures_total", "Checkpoints that a witness did not cosign.", ["log", "witness"]
)
ONCALL_PAGES = Counter("deploytrail_oncall_pages_total", "Pages by what became of them.", ["action", "result"])
ONCALL_ESCALATIONS = Counter(
    "deploytrail_oncall_escalations_total",
    "Open pages whose time to acknowledge was over: acknowledged, told to the next, or unanswered behind the last.",
    ["result"],
)
SILENCES = Counter("deploytrail_silences_total", "Silences in Alertmanager by what became of them.", ["result"])
DEAD_LETTERS = Counter("deploytrail_sink_dead_letters_total", "Messages that a sink set aside.", ["reason"])


def serve(port: int, ready: Callable[[], bool]) -> None:
    """Serve /healthz, /readyz and /metrics on a port of loopback, in a thread; 0: do not."""
    if not port:
        return

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            return None

        def do_GET(self) -> None:
            status, kind, body = 404, "text/plain; charset=utf-8", b"not found\n"
            if self.path == "/healthz":
                status, body = 200, b"ok\n"
            elif self.path == "/readyz":
                status, body = (200, b"ready\n") if ready() else (503, b"not ready\n")
            elif self.path == "/metrics":
                status, kind, body = 200, CONTENT_TYPE_LATEST, generate_latest()
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()
