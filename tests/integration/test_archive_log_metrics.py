"""Sequencer and signer tell how they are: /readyz, figures, and what somebody must look at."""

from __future__ import annotations

import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from deploytrail_local import ports
from deploytrail_sinks.archive.log.checkpoint import open_checkpoint
from deploytrail_sinks.archive.log.names import CHECKPOINT, numbered
from deploytrail_sinks.archive.partition import PartitionArchive
from support.archive_log import TOPIC, fill, record
from support.commands import Command
from support.kafka import wait_for
from support.log_processes import ORIGIN, LogProcesses

LOG = "deploytrail_archive_log_"


class Told:
    """What a process tells on its port."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}"

    def status(self, path: str) -> int:
        """Of an answer; 0 where there is none."""
        try:
            with urllib.request.urlopen(f"{self._url}{path}", timeout=30) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return 0

    def figure(self, name: str, *labels: str) -> float | None:
        """Of the series of our log with this label, too; None where there is none."""
        with urllib.request.urlopen(f"{self._url}/metrics", timeout=60) as answer:
            text = answer.read().decode()
        for line in text.splitlines():
            if line.startswith(f"{LOG}{name}{{") and all(label in line for label in (f'log="{ORIGIN}"', *labels)):
                return float(line.rpartition(" ")[2])
        return None

    def is_ready(self) -> bool:
        return self.status("/readyz") == 200


@pytest.fixture
def log(tmp_path: Path) -> LogProcesses:
    log = LogProcesses(tmp_path)
    log.trust({})
    return log


@pytest.fixture
def started(log: LogProcesses) -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def start(stack: ExitStack, log: LogProcesses, word: str) -> tuple[Command, Told]:
    port = ports.free_port()
    log.env["DEPLOYTRAIL_METRICS_PORT"] = str(port)
    command = log.command(word)
    stack.callback(command.kill)
    return command, Told(port)


def test_what_was_done_and_what_waits_are_figures(log: LogProcesses, started: ExitStack) -> None:
    fill(log.store, range(100), every=25)
    archive = PartitionArchive(log.store, TOPIC, 1, frozenset())
    archive.resume(committed=100)
    for offset in range(110, 130):  # ten were gone from Kafka
        archive.add(record(offset))
    archive.close_segments()
    begun = time.time()
    (_, sequencer), (_, signer) = start(started, log, "sequence"), start(started, log, "sign")
    for process in (sequencer, signer):
        wait_for(process.is_ready, what="a process that is ready")
    log.wait_covered(120)

    assert [process.status("/healthz") for process in (sequencer, signer)] == [200, 200]
    wait_for(lambda: sequencer.figure("waiting_entries") == 0, what="a log with everything in it")
    assert sequencer.figure("gaps_total") == 3  # one in each class
    assert sequencer.figure("stopped_sequences") == 0
    wait_for(lambda: signer.figure("unpublished_entries") == 0, what="a checkpoint of everything")
    assert sequencer.figure("entries") == log.covered()
    at = signer.figure("checkpoint_timestamp_seconds")
    assert at is not None
    assert begun <= at <= time.time()
    assert sequencer.figure("refusals_total", 'process="sequence"') == 0
    assert signer.figure("refusals_total", 'process="sign"') == 0
    # Of the other process's figures there is nothing to tell, and no zero that looks like one.
    assert signer.figure("entries") is sequencer.figure("checkpoint_timestamp_seconds") is None


def test_the_age_of_a_checkpoint_outlives_its_signer_and_its_witness(log: LogProcesses, started: ExitStack) -> None:
    arguments = ("--key", "w1.key", "--trust", "trust", "--memory", "w1", "--port", "0")
    witness = log.command("witness", *arguments)
    started.callback(witness.kill)
    wait_for(lambda: any("ready on" in line for line in witness.lines), what="a witness")
    log.trust({"w1": next(line for line in witness.lines if "ready on" in line).split()[-1]})
    fill(log.store, range(10))
    _, sequencer = start(started, log, "sequence")
    first, signer = start(started, log, "sign")
    log.wait_covered(10)
    wait_for(lambda: sequencer.figure("waiting_entries") == 0, what="a log with everything in it")
    wait_for(lambda: sequencer.figure("entries") == log.covered(), what="a checkpoint of everything")
    wait_for(lambda: signer.figure("unpublished_entries") == 0, what="a signer that knows of it")
    at = signer.figure("checkpoint_timestamp_seconds")
    first.kill()
    second_command, second = start(started, log, "sign")
    wait_for(second.is_ready, what="a signer that is ready")
    again = second.figure("checkpoint_timestamp_seconds")
    second_command.kill()
    witness.kill()
    assert at is not None
    wait_for(lambda: time.time() > at + 3, what="a time that is another one")
    fill(log.store, range(10, 20))
    _, third = start(started, log, "sign")
    wait_for(third.is_ready, what="a signer that is ready")
    wait_for(lambda: (third.figure("witness_failures_total") or 0) > 1, what="a newer one that was signed")

    # Signed first, cosigned by the second, and published a moment later, which may be long on a busy machine.
    assert again is not None
    assert at - 60 < again < at + 1.5
    assert third.figure("checkpoint_timestamp_seconds") == pytest.approx(again, abs=0.01)
    assert 0 < (third.figure("unpublished_entries") or 0) < 30  # not all of the log's 23 or so


@pytest.mark.requirement("M5.1")
def test_a_signer_that_refuses_signs_nothing_says_so_and_stays(log: LogProcesses, started: ExitStack) -> None:
    fill(log.store, range(40), every=20)
    sequencer, _ = start(started, log, "sequence")
    command, signer = start(started, log, "sign")
    log.wait_covered(40)
    before = open_checkpoint(log.store.newest(CHECKPOINT))[0]
    memory = log.folder / "signer/checkpoint"
    command.kill()
    memory.unlink()  # without it, it might sign another history
    fill(log.store, range(40, 60), every=20)
    command, signer = start(started, log, "sign")

    def refusals() -> float:
        return signer.figure("refusals_total", 'process="sign"') or 0.0 if signer.status("/healthz") else 0.0

    wait_for(lambda: refusals() > 2, what="a signer that refuses again and again")
    assert signer.status("/readyz") == 503
    assert command.process.poll() is None
    assert len([line for line in command.lines if "the signer remembers nothing" in line]) == 1
    assert open_checkpoint(log.store.newest(CHECKPOINT))[0] == before
    assert sequencer.process.poll() is None


def test_a_damaged_object_of_the_log_stops_the_sequencer_and_is_counted(log: LogProcesses, started: ExitStack) -> None:
    fill(log.store, range(40), every=20)
    command, told = start(started, log, "sequence")
    wait_for(told.is_ready, what="a sequencer that is ready")
    command.kill()
    damaged = log.folder / "archive" / numbered("batches", 0)
    damaged.chmod(0o600)
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"?")
    fill(log.store, range(40, 60), every=20)
    command, told = start(started, log, "sequence")

    def refused() -> bool:
        return bool(told.status("/healthz") and told.figure("refusals_total", 'process="sequence"'))

    wait_for(refused, what="a sequencer that refuses")
    assert told.status("/readyz") == 503
    assert command.process.poll() is None


def test_a_witness_that_is_away_is_counted_and_entries_wait(log: LogProcesses, started: ExitStack) -> None:
    log.trust({"w1": f"http://127.0.0.1:{ports.free_port()}"})
    fill(log.store, range(40), every=20)
    start(started, log, "sequence")
    _, signer = start(started, log, "sign")
    wait_for(signer.is_ready, what="a signer that is ready")
    wait_for(lambda: (signer.figure("unpublished_entries") or 0) > 40, what="entries that wait for a witness")

    wait_for(lambda: (signer.figure("witness_failures_total", 'witness="w1"') or 0) > 1, what="failures of the witness")
    assert signer.figure("checkpoint_timestamp_seconds") is None
    assert log.covered() == 0
