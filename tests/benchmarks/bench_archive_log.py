"""The archive's log: how fast it takes entries, is verified, and proves; how long an event waits for a checkpoint."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import threading
import time
from base64 import b64encode
from pathlib import Path

from deploytrail_schemas.settings import Settings
from deploytrail_sinks.archive.log.checkpoint import Checkpoint
from deploytrail_sinks.archive.log.merkle import inclusion_proof, leaf_hash
from deploytrail_sinks.archive.log.notes import KeyKind, Note, new_signer
from deploytrail_sinks.archive.log.sequencer import plan_at
from deploytrail_sinks.archive.log.tiles import RightEdge, Tree
from deploytrail_sinks.archive.partition import PartitionArchive
from deploytrail_sinks.archive.segment import Record, is_segment
from deploytrail_sinks.archive.store import LocalFolder
from support.archive_log import LOG_KEY, NOON, ORIGIN, Published, published, value

ENTRIES, A_SEGMENT = 200_000, 20_000
LEAVES = 1_000_000
_SETTINGS = Settings()
USUAL = ("usual settings", _SETTINGS.archive_segment_seconds, _SETTINGS.archive_log_seconds, 45.0)
_VERIFY = """
import resource, sys, time
from pathlib import Path
from deploytrail_sinks.archive.log.archive_check import Asked, verify_archive
from deploytrail_sinks.archive.log.trust import read_trust
from deploytrail_sinks.archive.store import LocalFolder
trust = read_trust(Path(sys.argv[2]).read_text())
began = time.perf_counter()
report, of_log = verify_archive(LocalFolder(Path(sys.argv[1])), Asked(trust, trust.sequencers))
assert not report.flaws and report.records == int(sys.argv[3]), report
print(time.perf_counter() - began, time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def run() -> list[tuple[str, str]]:
    """Rows of (what was measured, the figure)."""
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        return [*_sequenced_and_verified(Path(folder)), *_proven(), *_waited(Path(folder))]


def _sequenced_and_verified(folder: Path) -> list[tuple[str, str]]:
    store = LocalFolder(folder / "archive")
    archive = PartitionArchive(store, "deploytrail.events", 1, frozenset())
    archive.resume(0)
    for offset in range(ENTRIES):
        body = value(offset % 1000)
        archive.add(Record(offset, NOON // 1000 + offset, 1, b"checkout", body, (("producer", b"runner-7"),)))
        if offset % A_SEGMENT == A_SEGMENT - 1:
            archive.close_segments()
    began, busy = time.perf_counter(), time.process_time()
    log = published(folder / "signer", store)
    took, worked = time.perf_counter() - began, time.process_time() - busy
    (folder / "trust").write_text(log.trust_text)
    checked = subprocess.run(
        [sys.executable, "-c", _VERIFY, store.folder, folder / "trust", str(ENTRIES)],
        capture_output=True,
        text=True,
        check=True,
    )
    seconds, cpu, megabytes = map(float, checked.stdout.split())
    return [
        (
            "sequenced, signed and published, fsynced",
            f"{log.sequencer.size / took:,.0f} leaves/s (target 20,000), "
            f"{log.sequencer.size / worked:,.0f} in a second of CPU",
        ),
        (
            f"full verification of {ENTRIES:,} records with the log",
            f"{seconds:.1f} s (target 10), {cpu:.1f} s of CPU, {megabytes:.0f} MB at most (target 200)",
        ),
    ]


def _proven() -> list[tuple[str, str]]:
    objects: dict[str, bytes] = {}
    edge = RightEdge()
    for number in range(LEAVES):
        entry = b"%d" % number
        objects.update(edge.append(entry, leaf_hash(entry)))
    objects.update(edge.partial())
    keys = [new_signer(name, KeyKind.COSIGNER_ED25519) for name in ("w1.example.com", "w2.example.com")]
    text = Checkpoint(ORIGIN, LEAVES, edge.root()).text()
    note = Note(text, tuple(key.sign(text, NOON // 1_000_000) for key in (LOG_KEY, *keys)))
    index = LEAVES // 3
    proof = inclusion_proof(index, LEAVES, Tree(objects.__getitem__, LEAVES).node)
    steps = "".join(f"{b64encode(step).decode()}\n" for step in proof)
    tlog_proof = f"c2sp.org/tlog-proof@v1\nindex {index}\n{steps}\n{note}"
    lines = [f"log {LOG_KEY.verifier}", *(f"witness w{i} {key.verifier}" for i, key in enumerate(keys))]
    trust = "\n".join([*lines, "group both all w0 w1", "quorum both", ""])
    times = [_checked(tlog_proof, trust, index) for _ in range(20)]
    size = len(tlog_proof.encode())
    return [
        (f"proof at {LEAVES:,} leaves, two witnesses", f"{size:,} bytes (target 1,536)"),
        ("its check", f"{statistics.median(times) * 1e3:.2f} ms (target 50)"),
    ]


def _checked(tlog_proof: str, trust: str, index: int) -> float:
    from deploytrail_sinks.archive.log.verify_proof import Trust, check_checkpoint, from_base64, root_from

    began = time.perf_counter()
    head, _, note = tlog_proof.partition("\n\n")
    _, size, root, _ = check_checkpoint(note, Trust(trust))
    steps = [from_base64(step) for step in head.split("\n")[2:]]
    assert root_from(leaf_hash(b"%d" % index), index, size, steps) == root
    return time.perf_counter() - began


def _waited(folder: Path) -> list[tuple[str, str]]:
    """From a record's arrival at the archive to a published checkpoint; segments, sequencer and signer on timers."""
    rows = []
    for mode, segment_seconds, log_seconds, total, target in ((*USUAL, 60), ("fast mode", 1.0, 0.5, 20.0, 5)):
        waits = _timed(folder / mode.replace(" ", "-"), segment_seconds, log_seconds, total)
        p99 = statistics.quantiles(waits, n=100)[98]
        rows.append(
            (f"event → published checkpoint, {mode}, p99", f"{p99:.1f} s (target {target}); {len(waits):,} events")
        )
    return rows


def _timed(folder: Path, segment_seconds: float, log_seconds: float, total: float) -> list[float]:
    store = LocalFolder(folder / "archive")
    arrived: list[float] = []
    waits: list[float] = []
    over = threading.Event()

    def archive() -> None:
        of = PartitionArchive(store, "deploytrail.events", 1, frozenset())
        of.resume(0)
        begun = closed = time.monotonic()
        while (now := time.monotonic()) - begun < total:
            arrived.append(now)
            offset = len(arrived) - 1
            of.add(Record(offset, NOON // 1000, 1, b"k", value(offset % 1000), ()))
            if now - closed >= segment_seconds:
                of.close_segments()
                closed = now
            time.sleep(0.01)
        of.close_segments()
        over.set()

    thread = threading.Thread(target=archive)
    thread.start()
    log: Published | None = None
    size = covered = 0
    while len(waits) < len(arrived) or not over.is_set():
        time.sleep(2 * log_seconds)  # the sequencer's and the signer's timers, one behind the other
        if log is None and next(iter(store.list("deploytrail.events")), None) is None:
            continue
        log = log or published(folder / "signer", store)
        log.publish()
        while plan := plan_at(store, size):
            covered = max(covered, 0, *(planned.next_offset for planned in plan.segments if is_segment(planned.name)))
            size = plan.end
        now = time.monotonic()
        waits.extend(now - at for at in arrived[len(waits) : covered])
    thread.join()
    return waits
